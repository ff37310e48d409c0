"""Section 7, `/ws`, sentence by sentence, with a client that is not ours."""

import asyncio
import itertools
import json
import math
import socket as sockets
import time
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec
import psycopg
import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from rosfit.kernel.clock import parse_time


class Socket:
    """Says and hears one message at a time."""

    def __init__(self, connection, pack=json.dumps, unpack=json.loads):
        self.connection = connection
        self._pack, self._unpack = pack, unpack

    async def say(self, type_, **fields):
        await self.connection.send(self._pack({"type": type_, **fields}))

    async def hear(self, within_s=5.0):
        async with asyncio.timeout(within_s):
            return self._unpack(await self.connection.recv())

    async def hear_type(self, type_):
        """The next of this type."""
        while (message := await self.hear())["type"] != type_:
            pass
        return message

    async def ask(self, type_, **fields):
        await self.say(type_, **fields)
        return await self.hear()

    async def subscribe(self, channel, **data):
        answer = await self.ask("subscribe", channel=channel, data=data)
        assert answer["type"] == "subscribed", answer
        return answer

    async def closed(self, within_s=5.0):
        """The close code; what is still said before is passed over."""
        async with asyncio.timeout(within_s):
            try:
                while True:
                    await self.connection.recv()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None


@pytest.fixture
def opened(server):
    """`async with opened() as socket`: connected, not signed in."""

    @asynccontextmanager
    async def opened(query="", **options):
        async with connect(server.websocket_url + query, **options) as connection:
            yield Socket(connection)

    return opened


@pytest.fixture
def signed_in(opened, admin):
    @asynccontextmanager
    async def signed_in(token=None):
        async with opened(f"?token={token or admin.token}") as socket:
            assert (await socket.hear())["type"] == "auth_result"
            yield socket

    return signed_in


@pytest.fixture
async def robot(server, new_id):
    robot = await asyncio.to_thread(server.robot, new_id())
    yield robot
    await asyncio.to_thread(robot.close)


def token_for(server, seconds):
    """An access token that runs out soon, signed with the server's own key."""
    with psycopg.connect(server.endpoints.database_url) as database:
        query = "SELECT private_jwk FROM signing_keys WHERE retired_at IS NULL ORDER BY created_at DESC LIMIT 1"
        key = OKPKey.import_key(database.execute(query).fetchone()[0])
    claims = jwt.decode(server.admin.token, key, algorithms=["EdDSA"]).claims
    claims |= {"exp": int(time.time()) + seconds}
    return jwt.encode({"alg": "EdDSA", "kid": key.kid}, claims, key, algorithms=["EdDSA"])


# ── signing in ──


async def test_with_a_good_token_in_the_url_auth_result_is_the_first_message(opened, admin):
    me = admin.got("/auth/me")
    async with opened(f"?token={admin.token}") as socket:
        first = await socket.hear()
    assert first["type"] == "auth_result"
    assert first["data"] == {"status": "authenticated", "user_id": me["id"], "role": "admin"}
    assert first["seq"] == 1
    assert parse_time(first["timestamp"])


async def test_auth_may_be_the_first_message(opened, viewer):
    async with opened() as socket:
        answer = await socket.ask("auth", data={"token": viewer.token}, request_id="r1")
        assert (answer["type"], answer["data"]["role"], answer["request_id"]) == ("auth_result", "viewer", "r1")
        assert (await socket.ask("ping"))["type"] == "pong"


@pytest.mark.parametrize("token", ["x", "", "a.b.c", "%00", "🤖"])
async def test_a_bad_token_in_the_url_is_auth_required_and_4401(opened, token):
    async with opened(f"?token={token}") as socket:
        assert (await socket.hear())["data"]["code"] == "AUTH_REQUIRED"
        assert await socket.closed() == 4401


@pytest.mark.parametrize("data", [{}, {"token": "x"}, {"token": None}, {"token": 5}, {"token": ["a"]}, None])
async def test_a_bad_token_in_a_message_is_auth_required_and_4401(opened, data):
    async with opened() as socket:
        answer = await socket.ask("auth", data=data, request_id="r2")
        assert (answer["type"], answer["data"]["code"]) == ("error", "AUTH_REQUIRED")
        assert answer["request_id"] == answer["data"]["request_id"] == "r2"
        assert answer["data"]["message"]
        assert await socket.closed() == 4401


@pytest.mark.parametrize("raw", ['{"type":"ping"}', '{"type":"subscribe","channel":"status:*"}', "{", "null", b"\xff"])
async def test_anything_but_auth_before_it_is_auth_required_and_4401(opened, raw):
    async with opened() as socket:
        await socket.connection.send(raw)
        assert (await socket.hear())["data"]["code"] == "AUTH_REQUIRED"
        assert await socket.closed() == 4401


async def test_nothing_within_10_s_is_auth_required_and_4401(opened):
    async with opened() as socket:
        started = time.monotonic()
        assert (await socket.hear(within_s=13))["data"]["code"] == "AUTH_REQUIRED"
        assert await socket.closed() == 4401
        assert 9 < time.monotonic() - started < 12


async def test_auth_may_be_sent_again_at_any_time(signed_in, admin, viewer, robot):
    async with signed_in() as socket:
        await socket.subscribe(f"telemetry:{robot.device_id}")
        assert (await socket.ask("auth", data={"token": viewer.token}))["data"]["role"] == "viewer"
        await asyncio.to_thread(robot.sample, "odom", {"x": 1})
        assert (await socket.hear_type("telemetry"))["data"]["payload"] == {"x": 1}
        bad = await socket.ask("auth", data={"token": "x"})
        assert bad["data"]["code"] == "AUTH_REQUIRED"
        assert await socket.closed() == 4401


async def test_when_the_token_runs_out_there_are_10_s_for_a_new_one(server, opened, admin):
    """One socket gets new tokens in time and goes on, even short ones; the other is closed."""
    async with opened(f"?token={token_for(server, 2)}") as kept, opened(f"?token={token_for(server, 2)}") as lost:
        for socket in (kept, lost):
            assert (await socket.hear())["type"] == "auth_result"
            expired = await socket.hear(within_s=6)
            assert expired["data"]["code"] == "AUTH_EXPIRED"
        started = time.monotonic()
        assert (await kept.ask("subscribe", channel="status:*"))["data"]["code"] == "AUTH_EXPIRED"
        for token in (token_for(server, 2), admin.token):
            assert (await kept.ask("auth", data={"token": token}))["type"] == "auth_result"
            if token != admin.token:
                assert (await kept.hear(within_s=4))["data"]["code"] == "AUTH_EXPIRED"
        assert await lost.closed(within_s=13) == 4401
        assert time.monotonic() - started > 8
        assert (await kept.ask("ping"))["type"] == "pong"


# ── messages ──


async def test_seq_counts_per_connection_and_request_id_comes_back(signed_in):
    async with signed_in() as socket:
        for number in range(2, 8):
            answer = await socket.ask("ping", request_id=number)
            assert (answer["seq"], answer["request_id"]) == (number, number)
            assert parse_time(answer["timestamp"])
        assert "request_id" not in await socket.ask("ping")
    async with signed_in() as socket:
        assert (await socket.ask("ping", data=None))["seq"] == 2


CHANNELS = [
    "", "telemetry", "telemetry:", "telemetry::", "telemetry:ghost", "telemetry:*:", "weather:*", "status:ghost",
    "status:*:x", "params:*", "logs:*", "alerts:bot", "telemetry:-x", "telemetry:" + "a" * 65, "*", "status:\n",
    "ü:*", "TELEMETRY:*", "a" * 10_000, "telemetry:*:" + "a" * 513,
    "hooks:*", "access:*", "teleop:*",
]  # fmt: skip


@pytest.mark.parametrize("channel", [*CHANNELS, None])
async def test_a_malformed_or_unknown_channel_is_invalid_channel(signed_in, channel):
    async with signed_in() as socket:
        answer = await socket.ask("subscribe", channel=channel, request_id="r")
        assert (answer["type"], answer["data"]["code"]) == ("error", "INVALID_CHANNEL")
        assert answer["request_id"] == answer["data"]["request_id"] == "r"
        assert (await socket.ask("ping"))["type"] == "pong"


GARBAGE = [
    "", "{", "null", "[]", "1", '"ping"', "{}", '{"type":null}', '{"type":5}', '{"type":"fly"}',
    '{"type":"ping","data":[]}',
    '{"type":"subscribe","channel":5}', '{"type":"subscribe","channel":"status:*","data":{"throttle_ms":"x"}}',
    '{"type":"subscribe","channel":"status:*","data":{"throttle_ms":-1}}', '{"type":"ping"}x', "[" * 100_000,
    json.dumps({"type": "subscribe", "channel": "status:*", "data": {"topics": ["odom"] * 101}}),
    json.dumps({"type": "subscribe", "channel": "status:*", "data": {"topics": ["a" * 1_001]}}),
    json.dumps({"type": "ping", "request_id": "a" * 257}),
    '{"type":"subscribe","channel":"status:*","data":{"topics":[1]}}', b"\xff\xfe", b"\x00", '{"type":"ping\\ud800"}',
]  # fmt: skip


async def test_garbage_is_invalid_message_and_does_not_close(signed_in):
    async with signed_in() as socket:
        for raw in GARBAGE:
            await socket.connection.send(raw)
            answer = await socket.hear()
            assert (answer["type"], answer["data"]["code"]) == ("error", "INVALID_MESSAGE"), raw[:100]
        answer = await socket.ask("ping", data=[], request_id="r")
        assert answer["data"]["request_id"] == answer["request_id"] == "r"
        assert (await socket.ask("ping"))["type"] == "pong"


async def test_a_huge_frame_ends_its_own_socket_only(signed_in):
    async with signed_in() as quiet, signed_in() as loud:
        await loud.connection.send("x" * 1_000_000)
        assert await loud.closed() == 1009
        assert (await quiet.ask("ping"))["type"] == "pong"


async def test_json_may_come_in_binary_frames(signed_in):
    async with signed_in() as socket:
        await socket.connection.send(b'{"type":"ping"}')
        assert (await socket.hear())["type"] == "pong"


async def test_more_than_100_messages_a_second_are_rate_limited_without_closing(signed_in):
    async with signed_in() as socket:
        for number in range(150):
            await socket.say("ping", request_id=number)
        answers = [await socket.hear() for _ in range(150)]
        refused = [answer for answer in answers if answer["type"] == "error"]
        assert 40 <= len(refused) <= 50
        assert {answer["data"]["code"] for answer in refused} == {"RATE_LIMITED"}
        assert all(answer["data"]["request_id"] == answer["request_id"] for answer in refused)
        await asyncio.sleep(1.05)  # the limit is one of time
        assert (await socket.ask("ping"))["type"] == "pong"


# ── telemetry and status ──


async def test_telemetry_has_the_shape_of_the_contract(signed_in, robot):
    device_id = robot.device_id
    async with signed_in() as socket:
        answer = await socket.ask("subscribe", channel=f"telemetry:{device_id}", request_id="s")
        assert (answer["type"], answer["channel"], answer["request_id"]) == (
            "subscribed", f"telemetry:{device_id}", "s",
        )  # fmt: skip
        for stream, qos in (("odom", 0), ("custom/battery", 1)):
            await asyncio.to_thread(robot.sample, stream, {"x": 1.5}, qos=qos)
            message = await socket.hear_type("telemetry")
            assert message["channel"] == f"telemetry:{device_id}:{stream}"
            assert message["data"].keys() == {"device_id", "topic", "payload"}
            assert message["data"]["topic"] == f"telemetry/{stream}"
            assert message["data"]["payload"] == {"x": 1.5}
            assert message["seq"] > answer["seq"]
            assert parse_time(message["timestamp"])


async def test_a_stream_or_topics_narrow_a_subscription(signed_in, robot):
    device_id = robot.device_id
    async with signed_in() as one, signed_in() as two:
        await one.subscribe(f"telemetry:{device_id}:odom")
        await two.subscribe("telemetry:*", topics=["telemetry/odom", "/scan"])
        for stream in ("battery", "odom", "scan", "end"):
            await asyncio.to_thread(robot.sample, stream, {"s": stream})
        await asyncio.to_thread(robot.sample, "odom", {"s": "odom"})
        heard = [(await one.hear_type("telemetry"))["data"]["payload"]["s"] for _ in range(2)]
        assert heard == ["odom", "odom"]
        seen = [await two.hear_type("telemetry") for _ in range(3)]
        mine = [message["data"]["payload"]["s"] for message in seen if message["data"]["device_id"] == device_id]
        assert mine == ["odom", "scan", "odom"]


async def test_unsubscribe_ends_it(signed_in, robot):
    channel = f"telemetry:{robot.device_id}"
    async with signed_in() as socket:
        await socket.subscribe(channel)
        answer = await socket.ask("unsubscribe", channel=channel, request_id=1)
        assert (answer["type"], answer["channel"], answer["request_id"]) == ("unsubscribed", channel, 1)
        assert (await socket.ask("unsubscribe", channel=channel))["type"] == "unsubscribed"
        await socket.subscribe(f"logs:{robot.device_id}")
        await asyncio.to_thread(robot.sample, "odom", {"x": 1})
        await asyncio.to_thread(robot.publish, "log", {"level": "info", "message": "hello"})
        message = await socket.hear()
        assert (message["type"], message["data"]["message"]) == ("logs", "hello")


async def test_a_refused_subscription_leaves_the_one_before(signed_in, robot):
    channel = f"telemetry:{robot.device_id}"
    async with signed_in() as socket:
        await socket.subscribe(channel)
        answer = await socket.ask("subscribe", channel=channel, data={"throttle_ms": -1})
        assert answer["data"]["code"] == "INVALID_MESSAGE"
        await asyncio.to_thread(robot.sample, "odom", {"x": 1})
        assert (await socket.hear_type("telemetry"))["data"]["payload"] == {"x": 1}


async def test_the_latest_wins_within_throttle_ms(signed_in, robot):
    """Of forty samples within a second, at five a second: the first, a few between, and the very last."""
    async with signed_in() as socket:
        await socket.subscribe(f"telemetry:{robot.device_id}", throttle_ms=200)
        for number in range(40):
            await asyncio.to_thread(robot.sample, "odom", {"n": number})
        heard = []
        while 39 not in heard:
            heard.append((await socket.hear_type("telemetry"))["data"]["payload"]["n"])
        assert heard == sorted(set(heard))
        assert heard[0] == 0
        assert len(heard) < 20


async def test_status_is_told_with_what_was_before(signed_in, admin, robot):
    device_id = robot.device_id
    async with signed_in() as socket:
        await socket.subscribe(f"status:{device_id}")
        await asyncio.to_thread(robot.sample, "odom", {"x": 1})
        online = await socket.hear_type("status")
        assert online["channel"] == f"status:{device_id}"
        assert online["data"].keys() == {"device_id", "previous_status", "status", "reason", "last_seen"}
        assert (online["data"]["previous_status"], online["data"]["status"]) == ("provisioning", "online")
        assert parse_time(online["data"]["last_seen"])
        await asyncio.to_thread(robot.publish, "status", {"status": "offline", "reason": "shutdown"})
        offline = await socket.hear_type("status")
        assert (offline["data"]["status"], offline["data"]["reason"]) == ("offline", "shutdown")
        await asyncio.to_thread(admin.patch, f"/devices/{device_id}", json={"status": "maintenance"})
        assert (await socket.hear_type("status"))["data"]["reason"] == "operator"


async def test_a_device_in_maintenance_raises_no_alert(signed_in, admin, robot):
    async with signed_in() as socket:
        await socket.subscribe("alerts:*")
        await socket.subscribe(f"logs:{robot.device_id}")

        async def bump(status):
            answer = await asyncio.to_thread(admin.patch, f"/devices/{robot.device_id}", json={"status": status})
            assert answer.status_code == 200
            await asyncio.to_thread(robot.publish, "alert/bump", {"severity": "critical", "message": status})
            await asyncio.to_thread(robot.publish, "log", {"message": "after it"})

        await asyncio.to_thread(robot.publish, "log", {"message": "hello"})
        assert (await socket.hear())["type"] == "logs"
        await bump("maintenance")
        assert (await socket.hear())["type"] == "logs"
        await bump("online")
        assert {(await socket.hear())["type"] for _ in range(2)} == {"alerts", "logs"}


async def test_msgpack_subprotocol(server, admin, robot):
    async with connect(server.websocket_url, subprotocols=["rosfit.msgpack"]) as connection:
        assert connection.subprotocol == "rosfit.msgpack"
        socket = Socket(connection, msgspec.msgpack.encode, msgspec.msgpack.decode)
        assert (await socket.ask("auth", data={"token": admin.token}))["type"] == "auth_result"
        await socket.subscribe(f"telemetry:{robot.device_id}")
        await asyncio.to_thread(robot.sample, "odom", {"x": [1, "ü", None]})
        message = await socket.hear_type("telemetry")
        assert message["data"]["payload"] == {"x": [1, "ü", None]}
        big = b'{"x":[18446744073709551615,18446744073709551616,-9223372036854775809,1e400]}'
        await asyncio.to_thread(robot.publish, "telemetry/big", big)
        message = await socket.hear_type("telemetry")
        wanted = [2**64 - 1, "18446744073709551616", "-9223372036854775809", math.inf]
        assert message["data"]["payload"] == {"x": wanted}
        for raw in (b"\xc1", b"\x01", msgspec.msgpack.encode([1]), b"", "text"):
            await connection.send(raw)
            assert (await socket.hear_type("error"))["data"]["code"] == "INVALID_MESSAGE"
        nan = {"channel": "status:*", "data": {"throttle_ms": float("nan")}}
        assert (await socket.ask("subscribe", **nan))["data"]["code"] == "INVALID_MESSAGE"


async def test_an_unknown_subprotocol_is_not_confirmed(server, admin):
    async with connect(server.websocket_url, subprotocols=["other"]) as connection:
        assert connection.subprotocol is None
        assert (await Socket(connection).ask("auth", data={"token": admin.token}))["type"] == "auth_result"


# ── load ──


async def test_a_client_that_does_not_read_costs_no_memory_and_gets_the_newest(server, admin, robot):
    """It sleeps through some 40 MB; the server keeps a few of them, and the last message arrives."""
    # What the ingest itself needs for such a flood is there before the measurement.
    await asyncio.to_thread(_flood, robot, 2000)
    parts = urlsplit(server.websocket_url)
    raw = sockets.socket()
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    raw.connect((parts.hostname, parts.port))
    raw.setblocking(False)
    async with connect(server.websocket_url, sock=raw, max_queue=1, ping_interval=None) as connection:
        slow = Socket(connection)
        await slow.say("auth", data={"token": admin.token})
        await slow.say("subscribe", channel=f"telemetry:{robot.device_id}")
        await slow.hear_type("subscribed")
        connection.transport.pause_reading()
        before = server.rss_bytes()
        await asyncio.to_thread(_flood, robot, 2000)
        await asyncio.to_thread(robot.sample, "scan", {"n": "last"})
        grown = server.rss_bytes() - before
        connection.transport.resume_reading()
        counted = 0
        while (await slow.hear_type("telemetry"))["data"]["payload"]["n"] != "last":
            counted += 1
        assert counted < 1500, "a slow reader does not get everything"
        assert grown < 30_000_000, f"{grown / 1e6:.0f} MB more"


def _flood(robot, count):
    ranges = [0.5] * 4000
    for number in range(count):
        robot.sample("scan", {"n": number, "ranges": ranges}, qos=1 if number % 100 == 0 else 0)


async def test_a_client_that_goes_while_it_is_spoken_to_is_no_fault(signed_in, robot):
    """The log is looked at in the last test."""

    def speak():
        for _ in range(50):
            robot.sample("odom", {"x": 1})

    for _ in range(3):
        async with signed_in() as socket:
            await socket.subscribe(f"telemetry:{robot.device_id}")
            told = asyncio.get_running_loop().run_in_executor(None, speak)
            await socket.hear_type("telemetry")
            socket.connection.transport.abort()
            await told


async def test_200_sockets_hear_the_same(server, signed_in, robot):
    """And when they are gone, nothing of them is left."""
    opened = [signed_in() for _ in range(200)]
    sockets_ = [await one.__aenter__() for one in opened]
    await asyncio.gather(*(socket.subscribe(f"telemetry:{robot.device_id}:odom") for socket in sockets_))
    for number in range(5):
        await asyncio.to_thread(robot.sample, "odom", {"n": number})
    for socket in sockets_:
        heard = [(await socket.hear_type("telemetry"))["data"]["payload"]["n"] for _ in range(5)]
        assert heard == [0, 1, 2, 3, 4]
    await asyncio.gather(*(one.__aexit__(None, None, None) for one in opened))
    for _ in itertools.repeat(None, 100):
        metrics = await asyncio.to_thread(lambda: server.admin.get("//metrics").text)
        if "rosfit_websocket_connections 0.0" in metrics:
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("sockets are left open")


def test_no_socket_ended_in_a_fault(server):
    log = server.log_text()
    assert "Traceback" not in log, log[log.index("Traceback") - 300 :][:3000]
    assert server.admin.token not in log
