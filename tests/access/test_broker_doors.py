"""Robot A against robot B at every door of the broker we start: plain, WebSocket, TLS, and with a certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pytest

from tests.access.mqtt import Doors, Session, is_refused, new_identity
from tests.server import Client, RunningServer, until

BY_PASSWORD = ("plain", "ws", "tls", "wss")


@pytest.fixture
def open_door(admin: Client, doors: Doors, tmp_path: Path) -> Callable[..., Session]:
    """A session of a device at one door, with a new credential of the kind it takes."""

    def open_(device_id: str, door: str, **options: object) -> Session:
        if door != "cert":
            issued = admin.made(f"/devices/{device_id}/credentials", {})
            return doors.by_password(issued["username"], issued["token"], door, **options)
        identity = new_identity("another-name")
        identity.certificate = admin.made(f"/devices/{device_id}/certificate", {"csr": identity.csr})["certificate"]
        return doors.by_certificate(identity.write(tmp_path), **options)

    return open_


@pytest.fixture
def as_server(server: RunningServer) -> Callable[[], Session]:
    """The server's own account, which sees everything."""
    parts = urlsplit(server.endpoints.mqtt_url)
    return lambda: Session(
        server.mqtt_port, websocket=False, context=None, username=parts.username, password=parts.password
    )


@contextmanager
def watched(as_server: Callable[[], Session], wanted: str) -> Iterator[Callable[[], list[str]]]:
    """What the broker hands on below `wanted` within the block: call the result to get the topics so far."""
    with as_server() as watcher:
        watcher.subscribe(wanted)
        watcher.subscribe("last/+")

        def so_far() -> list[str]:
            mark = f"last/{id(watcher)}"
            watcher.publish(mark)
            until(lambda: mark in watcher.topics())
            return [topic for topic in watcher.topics() if not topic.startswith("last/")]

        yield so_far


@pytest.mark.parametrize("door", [*BY_PASSWORD, "cert"])
def test_robot_reaches_its_own_topics_and_no_others(
    door: str, new_device: Callable[[], str], open_door: Callable[..., Session], as_server: Callable[[], Session]
) -> None:
    """Publish, retained, subscribe, wildcard and shared subscriptions."""
    a, b = new_device(), new_device()
    filters = (f"rosfit/{a}/#", f"rosfit/{b}/#", "rosfit/#", f"$share/g/rosfit/{b}/#", "$share/h/rosfit/#")
    with watched(as_server, "rosfit/#") as so_far, open_door(a, door) as robot, as_server() as cloud:
        for wanted in filters:
            robot.subscribe(wanted)
        for name in (a, b):
            robot.publish(f"rosfit/{name}/telemetry/odom")
            robot.publish(f"rosfit/{name}/cmd/request")
            robot.publish(f"rosfit/{name}/status", b'{"status":"online"}', retain=True)
        assert [topic for topic in so_far() if topic.split("/")[1] in {a, b}] == [
            f"rosfit/{a}/status",
            f"rosfit/{a}/telemetry/odom",
        ]
        for name in (b, a):
            cloud.publish(f"rosfit/{name}/telemetry/odom")
            cloud.publish(f"rosfit/{name}/cmd/request")
        until(lambda: f"rosfit/{a}/cmd/request" in robot.topics())
        assert set(robot.topics()) == {f"rosfit/{a}/cmd/request"}


@pytest.mark.parametrize("door", ["tls", "cert"])
def test_last_will_on_anothers_topic_stays_untold(
    door: str, new_device: Callable[[], str], open_door: Callable[..., Session], as_server: Callable[[], Session]
) -> None:
    a, b = new_device(), new_device()
    with watched(as_server, "rosfit/+/status") as so_far:
        for name in (b, a):
            session = open_door(a, door, will=(f"rosfit/{name}/status", b'{"status":"offline"}', 1, True))
            session.__enter__()
            session.drop()
        until(lambda: f"rosfit/{a}/status" in so_far())
        assert f"rosfit/{b}/status" not in so_far()


@pytest.mark.parametrize("door", BY_PASSWORD)
def test_client_id_may_not_name_another_device(
    door: str, new_device: Callable[[], str], open_door: Callable[..., Session]
) -> None:
    """Taking it would end that device's session and drop its queue."""
    a, b = new_device(), new_device()
    with open_door(b, "tls", client_id=b) as other:
        assert is_refused(open_door(a, door, client_id=b))
        assert is_refused(open_door(a, door, client_id=b, protocol=paho.MQTTv311))
        assert is_refused(open_door(a, door, client_id="rosfit-ingest-0"))
        for free in (a, f"{a}-tool", "", "anything at all"):
            assert not is_refused(open_door(a, door, client_id=free))
        assert other.connected


@pytest.mark.parametrize("door", ["plain", "cert"])
def test_nobody_joins_the_shared_subscription_of_the_server(
    door: str, new_device: Callable[[], str], open_door: Callable[..., Session]
) -> None:
    """A member is dealt its share of everybody's messages; what it may not read is then lost."""
    a = new_device()
    with open_door(a, door) as robot:
        for wanted in (f"rosfit/{a}/#", "rosfit/+/#"):
            assert not robot.subscribe(f"$share/rosfit-ingest/{wanted}")
        assert robot.subscribe(f"$share/own/rosfit/{a}/#")


def test_client_id_of_a_certificate_is_its_device(
    new_device: Callable[[], str], open_door: Callable[..., Session]
) -> None:
    """There the broker puts the certificate's name in its place."""
    a, b = new_device(), new_device()
    with open_door(b, "tls", client_id=b) as other, open_door(a, "cert", client_id=b) as robot:
        robot.publish(f"rosfit/{a}/telemetry")
        assert other.connected


def test_several_sessions_share_a_credential(admin: Client, doors: Doors, device_id: str) -> None:
    issued = admin.made("/auth/devices/token", {"device_id": device_id})
    with (
        doors.by_password(device_id, issued["token"], client_id="one") as one,
        doors.by_password(device_id, issued["token"], client_id="two") as two,
    ):
        one.publish(f"rosfit/{device_id}/telemetry")
        assert one.connected
        assert two.connected


def test_scopes_bind_the_broker(admin: Client, doors: Doors, as_server: Callable[[], Session], device_id: str) -> None:
    """A credential that may only publish gets nothing, one that may only subscribe says nothing."""
    kinds = {
        scope: admin.made(f"/devices/{device_id}/credentials", {"scopes": [scope]})
        for scope in ("publish", "subscribe")
    }
    with (
        watched(as_server, f"rosfit/{device_id}/telemetry") as so_far,
        doors.by_password(kinds["publish"]["username"], kinds["publish"]["token"]) as writer,
        doors.by_password(kinds["subscribe"]["username"], kinds["subscribe"]["token"]) as reader,
        as_server() as cloud,
    ):
        for session in (writer, reader):
            session.subscribe(f"rosfit/{device_id}/#")
        reader.publish(f"rosfit/{device_id}/telemetry")
        assert so_far() == []
        writer.publish(f"rosfit/{device_id}/telemetry")
        assert so_far() == [f"rosfit/{device_id}/telemetry"]
        cloud.publish(f"rosfit/{device_id}/cmd/request")
        until(reader.topics)
        assert writer.topics() == []
