"""Who gets in on the broker we start, and what each may publish and is delivered, tried on the real one."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from rosfit.infra.embedded import broker_acl
from rosfit.infra.embedded.broker_accounts import BrokerAccounts, hash_password
from rosfit.infra.embedded.broker_acl import acl_text
from rosfit.infra.embedded.data_folder import DataFolder
from rosfit.infra.embedded.unprivileged import server_user
from rosfit.kernel.errors import InvalidError
from rosfit.supervisor import Endpoints
from tests.embedded.waiting import until

A, B = "bot-a", "bot-b"

DEVICE_TO_CLOUD = [
    "status", "telemetry", "telemetry/odom", "telemetry/custom/battery", "ros/camera/image_raw", "blob/image",
    "cmd/response", "command/response", "shadow/reported", "shadow/get", "ota/progress", "ota/result", "log",
    "alert/collision", "shadow/name/arm/reported", "shadow/name/arm/get",
]  # fmt: skip
CLOUD_TO_DEVICE = [
    "cmd/request", "cmd/cmd_vel", "ros/inject/cmd_vel", "ros/inject/arm/joints", "shadow/desired", "shadow/delta",
    "shadow/get/accepted", "shadow/get/rejected", "shadow/reported/accepted", "shadow/reported/rejected",
    "ota/trigger", "ota", "command", "shadow/name/arm/desired", "shadow/name/arm/delta",
]  # fmt: skip


class Connector:
    def __init__(self, settings, accounts: BrokerAccounts) -> None:
        self.port, self.ws_port, self.accounts = settings.mqtt_port, settings.mqtt_ws_port, accounts

    def client(self, username: str | None, password: str | None = "secret", **options) -> aiomqtt.Client:
        options.setdefault("port", self.port)
        return aiomqtt.Client(
            "127.0.0.1", username=username, password=password, protocol=aiomqtt.ProtocolVersion.V5, timeout=5, **options
        )

    def server(self, **options) -> aiomqtt.Client:
        return self.client(broker_acl.SERVER_USER, self.accounts.server_password, **options)


@pytest.fixture
async def connect(endpoints: Endpoints, settings) -> Connector:
    accounts = endpoints.broker_accounts
    await accounts.write_accounts({name: hash_password("secret") for name in (A, B)})
    return Connector(settings, accounts)


async def collect(client: aiomqtt.Client, last: str) -> list[str]:
    """Topics that arrive, up to and without `last`."""
    topics: list[str] = []
    async with asyncio.timeout(10):
        async for message in client.messages:
            if str(message.topic) == last:
                return topics
            topics.append(str(message.topic))
    raise AssertionError("disconnected")


async def refused(client: aiomqtt.Client) -> bool:
    try:
        async with client:
            return False
    except aiomqtt.MqttError:
        return True


async def test_nobody_gets_in_without_an_account(connect):
    assert await refused(connect.client(None, None))
    assert await refused(connect.client(A, "wrong"))
    assert await refused(connect.client("bot-z"))
    assert await refused(
        connect.client(None, None, port=connect.ws_port, transport="websockets", websocket_path="/mqtt")
    )
    assert not await refused(connect.client(A))


async def test_device_writes_its_own_rows_to_the_cloud_and_nothing_else(connect):
    async with connect.server() as server, connect.client(A) as device:
        await server.subscribe("#", qos=1)
        for name in (A, B):
            for row in CLOUD_TO_DEVICE + (DEVICE_TO_CLOUD if name == B else []):
                await device.publish(f"rosfit/{name}/{row}", b"{}", qos=1)
        await device.publish("elsewhere", b"{}", qos=1)
        for row in DEVICE_TO_CLOUD:
            await device.publish(f"rosfit/{A}/{row}", b"{}", qos=1)
        await server.publish("last", b"", qos=1)
        assert sorted(await collect(server, "last")) == sorted(f"rosfit/{A}/{row}" for row in DEVICE_TO_CLOUD)


@pytest.mark.parametrize("filter_", [f"rosfit/{A}/#", "rosfit/#", "#", f"rosfit/+/{'#'}"])
async def test_device_is_delivered_its_own_rows_from_the_cloud_and_nothing_else(connect, filter_):
    async with connect.server() as server, connect.client(A) as device:
        await device.subscribe(filter_, qos=1)
        for row in DEVICE_TO_CLOUD:
            await device.publish(f"rosfit/{A}/{row}", b"{}", qos=1)
        for name in (B, A):
            for row in DEVICE_TO_CLOUD + CLOUD_TO_DEVICE:
                await server.publish(f"rosfit/{name}/{row}", b"{}", qos=1)
        await server.publish(f"rosfit/{A}/cmd/last", b"", qos=1)
        got = await collect(device, f"rosfit/{A}/cmd/last")
        assert sorted(got) == sorted(f"rosfit/{A}/{row}" for row in CLOUD_TO_DEVICE)


async def test_retained_state_of_another_device_is_not_delivered(connect):
    async with connect.client(A) as device:
        await device.publish(f"rosfit/{A}/status", b"on", qos=1, retain=True)
        await device.publish(f"rosfit/{B}/status", b"forged", qos=1, retain=True)
    async with connect.client(B) as other, connect.server() as server:
        await other.subscribe("rosfit/+/status", qos=1)
        await server.publish(f"rosfit/{B}/cmd/last", b"", qos=1)
        await other.subscribe("rosfit/+/cmd/last", qos=1)
        await server.publish(f"rosfit/{B}/cmd/last", b"", qos=1)
        assert await collect(other, f"rosfit/{B}/cmd/last") == []
        await server.subscribe("rosfit/+/status", qos=1)
        await server.subscribe("last", qos=1)
        await server.publish("last", b"", qos=1)
        assert await collect(server, "last") == [f"rosfit/{A}/status"]


async def lose_connection(client: aiomqtt.Client) -> None:
    with contextlib.suppress(aiomqtt.MqttError):
        async with client:
            client._client.socket().shutdown(socket.SHUT_RDWR)
            async for _ in client.messages:
                pass


async def test_last_will_reaches_the_own_status_only(connect):
    async with connect.server() as server:
        await server.subscribe("#", qos=1)
        await lose_connection(connect.client(A, will=aiomqtt.Will(f"rosfit/{B}/status", b"forged", qos=1)))
        await lose_connection(connect.client(A, will=aiomqtt.Will(f"rosfit/{A}/status", b"lost", qos=1)))
        async with asyncio.timeout(5):
            message = await anext(aiter(server.messages))
        assert (str(message.topic), message.payload) == (f"rosfit/{A}/status", b"lost")


async def wait_for_the_end(client: aiomqtt.Client, revoke: Awaitable[None]) -> None:
    async with client:
        await revoke
        async with asyncio.timeout(5):
            await anext(aiter(client.messages))


async def test_removed_and_changed_accounts_are_disconnected_at_once(connect):
    async with connect.client(B) as other:
        await other.subscribe(f"rosfit/{B}/#", qos=1)
        with pytest.raises(aiomqtt.MqttError):
            await wait_for_the_end(connect.client(A), connect.accounts.remove(A))
        assert await refused(connect.client(A))
        await connect.accounts.set_password(A, "another")
        assert await refused(connect.client(A, "secret"))
        assert not await refused(connect.client(A, "another"))
        # The other one has stayed connected all the while.
        async with connect.server() as server:
            await server.publish(f"rosfit/{B}/cmd/last", b"", qos=1)
        assert await collect(other, f"rosfit/{B}/cmd/last") == []


async def test_account_lets_in_as_soon_as_the_call_returns(connect):
    """Many changes at once share a reload, and none returns before the broker knows it."""

    async def add(name: str) -> bool:
        await connect.accounts.set_password(name, "secret")
        return await refused(connect.client(name))

    assert not any(await asyncio.gather(*(add(f"bot-{number}") for number in range(50))))


async def test_ten_thousand_accounts_reload_quickly(connect):
    """10,000 users, as measured: well under a second, so that the broker does not stand still."""
    line = hash_password("secret")
    await connect.accounts.write_accounts({f"bot-{number}": line for number in range(10_000)})
    began = time.monotonic()
    await connect.accounts.set_password("bot-new", "secret")
    assert time.monotonic() - began < 1
    assert not await refused(connect.client("bot-new"))
    async with connect.server() as server, connect.client("bot-new") as device:
        await server.subscribe("#", qos=1)
        for topic in ("rosfit/bot-1/telemetry", "rosfit/bot-new/cmd/request", "rosfit/bot-new/telemetry"):
            await device.publish(topic, b"{}", qos=1)
        await server.publish("last", b"", qos=1)
        assert await collect(server, "last") == ["rosfit/bot-new/telemetry"]


async def test_accounts_survive_a_restart_of_the_broker(connect, supervisor):
    keeper = supervisor.keepers["mosquitto"]
    keeper.send(9)
    await until(lambda: keeper.restarts == 1)
    assert not await refused(connect.client(A))


async def test_other_layouts_bring_their_own_patterns(connect):
    await connect.accounts.set_patterns([("write", "fleet/+/robot/%u/telemetry/#")])
    async with connect.server() as server, connect.client(A) as device:
        await server.subscribe("#", qos=1)
        await device.publish(f"fleet/f1/robot/{B}/telemetry/battery", b"", qos=1)
        await device.publish(f"fleet/f1/robot/{A}/telemetry/battery", b"", qos=1)
        await server.publish("last", b"", qos=1)
        assert await collect(server, "last") == [f"fleet/f1/robot/{A}/telemetry/battery"]


async def test_websocket_listener_speaks_mqtt_on_loopback_only(connect):
    async with connect.client(A, port=connect.ws_port, transport="websockets", websocket_path="/mqtt") as device:
        await device.publish(f"rosfit/{A}/status", b"{}", qos=1)
    assert listening_addresses(connect.ws_port) == {"0100007F"}
    assert listening_addresses(connect.port) == {"0100007F"}


def listening_addresses(port: int) -> set[str]:
    """Local addresses, in the kernel's hexadecimal, on which somebody listens on `port`."""
    rows = [line.split() for kind in ("tcp", "tcp6") for line in Path("/proc/net", kind).read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}


async def test_queue_outlives_a_stopped_broker(connect, supervisor):
    """What the broker acknowledged for an absent ingest session is still there after its restart."""
    options = {"identifier": "ingest", "clean_start": False, "properties": session_of(3600)}
    async with connect.server(**options) as ingest:
        await ingest.subscribe("rosfit/+/telemetry", qos=1)
    async with connect.client(A) as device:
        for number in range(100):
            await device.publish(f"rosfit/{A}/telemetry", str(number), qos=1)
    keeper = supervisor.keepers["mosquitto"]
    keeper.send(15)
    await until(lambda: keeper.restarts == 1)
    async with connect.server(**options) as ingest, asyncio.timeout(10):
        got = []
        async for message in ingest.messages:
            got.append(int(message.payload))
            if len(got) == 100:
                break
    assert got == list(range(100))


async def test_the_broker_survives_a_new_password_for_a_device_that_is_away(connect, supervisor, settings):
    """Mosquitto 2.0 by itself uses such a session again and again after it has expired and is freed."""
    keeper = supervisor.keepers["mosquitto"]
    await asyncio.gather(*(leave_a_session(connect, A, f"{A}-{number}", expiring_in_s=2) for number in range(30)))
    await connect.accounts.set_password(A, "another")
    await leave_a_session(connect, B, "the-last", expiring_in_s=3)
    log = settings.data_dir / "log/mosquitto.log"
    await until(lambda: "Expiring client the-last" in log.read_text(), within_s=20)
    expired = [line.split("client ")[1] for line in log.read_text().splitlines() if "Expiring client" in line]
    assert len(expired) == len(set(expired))
    assert keeper.restarts == 0


async def leave_a_session(connect: Connector, username: str, client_id: str, *, expiring_in_s: int) -> None:
    options = {"identifier": client_id, "clean_start": False, "properties": session_of(expiring_in_s)}
    async with connect.client(username, **options) as device:
        await device.subscribe(f"rosfit/{username}/#", qos=1)


def session_of(seconds: int) -> Properties:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = seconds
    return properties


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", "+", "#", "a/b", "_rosfit", "$SYS"])
async def test_names_that_would_break_the_files_are_refused(settings, name):
    folder = DataFolder(settings.data_dir, server_user())
    folder.prepare()
    with pytest.raises(InvalidError):
        await BrokerAccounts(folder).set_password(name, "x")


def test_no_device_pattern_is_without_its_user():
    """A pattern that lacks %u would open a topic to every device."""
    patterns = [line for line in acl_text(["bot"]).splitlines() if line.startswith("pattern")]
    assert patterns
    assert all("/%u/" in line for line in patterns)
