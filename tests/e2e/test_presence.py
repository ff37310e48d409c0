"""What a device's will, goodbye, silence and return do to its status, and what an outage of ours does not."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator

import paho.mqtt.client as paho
import pytest

from tests.e2e.site import Site
from tests.server import Robot, running_server, until

TIMEOUT_S = 3


@pytest.fixture
def site() -> Iterator[Site]:
    with running_server(ROSFIT_HEARTBEAT_TIMEOUT_S=str(TIMEOUT_S)) as server:
        yield Site(server)


@contextlib.contextmanager
def with_will(site: Site, device_id: str) -> Iterator[paho.Client]:
    """A device that leaves a will, as the contract wants it."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.username_pw_set(device_id, site.server.admin.device_token(device_id))
    lost = json.dumps({"status": "offline", "reason": "connection_lost"})
    client.will_set(f"rosfit/{device_id}/status", lost, 1, True)
    client.connect("127.0.0.1", site.server.mqtt_port)
    client.loop_start()
    client.publish(f"rosfit/{device_id}/status", json.dumps({"status": "online"}), 1, True).wait_for_publish(10)
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


@contextlib.contextmanager
def talking(robot: Robot) -> Iterator[None]:
    """The robot says something twice a second, connected or not."""
    stop = threading.Event()

    def talk() -> None:
        while not stop.wait(0.5):
            robot.publish("telemetry/odom", {"x": 1}, qos=0)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def becomes(site: Site, device_id: str, status: str, reason: str | None) -> None:
    until(lambda: site.status(device_id) == (status, reason), 30)


def test_will_and_goodbye(site):
    """A torn connection is `connection_lost`, a goodbye its own reason, and the next message brings it back."""
    site.register("bot-1")
    assert site.status("bot-1")[0] == "provisioning"
    with with_will(site, "bot-1") as client:
        becomes(site, "bot-1", "online", None)
        client.socket().shutdown(socket.SHUT_RDWR)
        client.loop_stop()
        becomes(site, "bot-1", "offline", "connection_lost")
    with site.server.mqtt("bot-1") as robot:
        robot.sample("odom", {"x": 1})
        becomes(site, "bot-1", "online", "heartbeat")
        robot.publish("status", {"status": "offline", "reason": "shutdown"}, retain=True)
        becomes(site, "bot-1", "offline", "shutdown")


def test_silence_and_maintenance(site):
    """A silent device goes offline; one in maintenance stays in it, whatever it says, until an operator ends it."""
    site.register("quiet", "mended")
    with site.server.mqtt("quiet") as quiet, site.server.mqtt("mended") as mended:
        for robot in (quiet, mended):
            robot.sample("odom", {"x": 1})
            until(lambda robot=robot: site.status(robot.device_id)[0] == "online")
        assert site.server.admin.patch("/devices/mended", json={"status": "maintenance"}).status_code == 200
        mended.publish("status", {"status": "online"})
        becomes(site, "quiet", "offline", "heartbeat_timeout")
        assert site.status("mended") == ("maintenance", "operator")
        mended.publish("status", {"status": "offline", "reason": "shutdown"})
        quiet.sample("odom", {"x": 2})
        becomes(site, "quiet", "online", "heartbeat")
        assert site.status("mended") == ("maintenance", "operator")


@pytest.mark.full
@pytest.mark.parametrize("away", ["postgres frozen", "postgres down", "mosquitto down"])
def test_our_outage_is_not_the_devices_silence(site, away):
    """An outage longer than the heartbeat timeout: who talks all the while stays online, who is silent does not."""
    site.register("talker", "quiet")
    with site.server.mqtt("talker") as talker, site.server.mqtt("quiet") as quiet, talking(talker):
        talker._paho.reconnect_delay_set(1, 1)
        quiet.sample("odom", {"x": 1})
        for name in ("talker", "quiet"):
            until(lambda name=name: site.status(name)[0] == "online")
        since = site.one("SELECT status_since FROM devices WHERE device_id = 'talker'")
        name, _, how = away.partition(" ")
        if how == "frozen":
            with site.frozen(name):
                threading.Event().wait(2 * TIMEOUT_S)
        else:
            site.keep_down(name, 2 * TIMEOUT_S)
        until(site.answers, 30)
        # That the silent one goes offline says that judging goes on after the outage.
        becomes(site, "quiet", "offline", "heartbeat_timeout")
        assert site.status("talker")[0] == "online"
        assert site.one("SELECT status_since FROM devices WHERE device_id = 'talker'") == since
