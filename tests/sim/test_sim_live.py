"""Simulated robots at a real broker: presence, the wire, faults, recordings, and the command."""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiomqtt
import msgspec
import pytest

from rosfit.kernel.errors import InvalidError, PermissionDeniedError, UnavailableError
from rosfit.protocol import envelope, topics
from rosfit.sim.accounts import SharedAccounts
from rosfit.sim.events import Link, Publish
from rosfit.sim.fleet import Options, run_fleet
from rosfit.sim.link import parse_broker
from rosfit.sim.recording import Recorder, read_events
from rosfit.sim.rest_accounts import RestAccounts
from rosfit.sim.tally import Summary
from tests.load.broker import free_port

LIMITS = envelope.Limits()


@asynccontextmanager
async def listening(broker):
    """Everything said below `rosfit/`, as it comes."""
    heard: list[aiomqtt.Message] = []

    async def listen(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            heard.append(message)

    async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe("rosfit/#", qos=1)
        task = asyncio.create_task(listen(client))
        yield heard
        task.cancel()


async def accounts_of(options: Options):
    return await SharedAccounts(None, None).accounts(options.device_ids())


async def eventually(condition, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def presences(heard, device_id: str) -> list[tuple[str, str | None]]:
    payloads = [
        json.loads(envelope.decode(message.payload, None, LIMITS).payload)
        for message in heard
        if str(message.topic) == f"rosfit/{device_id}/status" and not message.retain
    ]
    return [(payload["status"], payload.get("reason")) for payload in payloads]


async def test_a_session_from_online_to_shutdown(broker):
    """Everything arrives in envelopes of its robot, everything at QoS 1 is acknowledged, all say goodbye."""
    options = Options(robots=5, rate=20, duration_s=3)
    async with listening(broker) as heard:
        summary = await run_fleet(await accounts_of(options), options, broker.url)
        await eventually(lambda: len(heard) >= summary.total().sent)
    assert (summary.connects, summary.losses, summary.total().failed) == (5, 0, 0)
    for row, count in summary.streams.items():
        qos_0 = row in {"telemetry/scan", "telemetry/joint_states", "blob/camera"}
        assert count.acknowledged == (0 if qos_0 else count.sent), row
    for message in heard:
        route = topics.parse_topic(str(message.topic))
        if route.kind is topics.Kind.BLOB:
            assert message.properties.ContentType == "image/jpeg"
            assert message.payload.startswith(b"\xff\xd8")
        else:
            assert envelope.decode(message.payload, None, LIMITS).device_id == route.device_id
    for device_id in options.device_ids():
        assert presences(heard, device_id) == [("online", None), ("offline", "shutdown")]


async def test_a_command_is_answered_at_once(broker):
    """A ping succeeds; what a script cannot do is refused, not left to time out."""
    options = Options(robots=1, duration_s=3)
    summary = Summary(1)
    async with listening(broker) as heard:
        task = asyncio.create_task(run_fleet(await accounts_of(options), options, broker.url, summary=summary))
        await eventually(lambda: summary.connects == 1)
        async with aiomqtt.Client("127.0.0.1", broker.port) as cloud:
            for command in ("ping", "dock"):
                ids = {"command_id": f"cmd_{command}", "correlation_id": command}
                request = envelope.encode(ids | {"command": command}, type="command", device_id="sim-001")
                await cloud.publish(topics.device_topic("sim-001", "cmd/request"), request, qos=1)
        answers = lambda: [one for one in heard if str(one.topic).endswith("cmd/response")]  # noqa: E731
        await eventually(lambda: len(answers()) == 2)
        task.cancel()
    said = [json.loads(envelope.decode(one.payload, None, LIMITS).payload) for one in answers()]
    assert [(one["command_id"], one["status"]) for one in said] == [("cmd_ping", "succeeded"), ("cmd_dock", "rejected")]


async def test_a_robot_is_driven_and_stopped(broker):
    """What is no velocity is passed over."""
    options = Options(robots=1, rate=20)
    summary = Summary(1)
    speeds = lambda: [  # noqa: E731
        json.loads(envelope.decode(one.payload, None, LIMITS).payload)["twist"]["twist"]["linear"]["x"]
        for one in heard
        if str(one.topic).endswith("telemetry/odom")
    ]
    async with listening(broker) as heard, aiomqtt.Client("127.0.0.1", broker.port) as cloud:
        task = asyncio.create_task(run_fleet(await accounts_of(options), options, broker.url, summary=summary))
        await eventually(speeds)

        async def say(row: str, payload: object) -> None:
            message = envelope.encode(payload, type="command", device_id="sim-001")
            await cloud.publish(topics.device_topic("sim-001", row), message)

        async with asyncio.timeout(15):
            while speeds()[-1] > -0.1:
                await say("cmd/cmd_vel", {"linear": {}})
                await say("cmd/cmd_vel", {"linear": {"x": -0.2}, "angular": {"z": 0.0}})
                await asyncio.sleep(0.05)  # as often as the page says where its stick is
        ids = {"command_id": "cmd_1", "correlation_id": "1"}
        await say("cmd/request", ids | {"command": "emergency_stop"})
        await eventually(lambda: speeds()[-1] == 0)
        task.cancel()


async def test_a_desired_configuration_is_taken_over(broker):
    """What is no such document is passed over."""
    options = Options(robots=1, duration_s=3)
    summary = Summary(1)
    async with listening(broker) as heard:
        task = asyncio.create_task(run_fleet(await accounts_of(options), options, broker.url, summary=summary))
        await eventually(lambda: summary.connects == 1)
        async with aiomqtt.Client("127.0.0.1", broker.port) as cloud:
            for desired in (b"{", b'{"version":1,"state":{}}', b'{"version":2,"state":{"nav":{"speed":0.5}}}'):
                await cloud.publish(topics.device_topic("sim-001", "shadow/desired"), desired, qos=1)
        reports = lambda: [one for one in heard if str(one.topic).endswith("shadow/reported")]  # noqa: E731
        await eventually(reports)
        task.cancel()
    assert [json.loads(one.payload) for one in reports()] == [{"state": {"nav": {"speed": 0.5}}}]


async def test_goodbye_stays_as_retained_status(broker):
    options = Options(robots=1, duration_s=0.3)
    await run_fleet(await accounts_of(options), options, broker.url)
    async with listening(broker) as heard:
        await eventually(lambda: heard)
    assert heard[0].retain
    assert b'"shutdown"' in heard[0].payload


async def test_cancelling_lets_every_robot_say_goodbye(broker):
    options = Options(robots=8)
    summary = Summary(8)
    async with listening(broker) as heard:
        task = asyncio.create_task(run_fleet(await accounts_of(options), options, broker.url, summary=summary))
        await eventually(lambda: summary.connects == 8)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(
            lambda: all(presences(heard, name)[-1:] == [("offline", "shutdown")] for name in options.device_ids())
        )
    assert summary.seconds > 0
    assert summary.of("status").acknowledged == 16


def record(path, events) -> None:
    with Recorder(path, 0.0, ["sim-001"]) as recorder:
        for event in events:
            recorder.record(event)


async def test_a_dropped_link_fires_the_will_and_loses_nothing(broker, tmp_path):
    """What was said at QoS 1 while the link was down arrives after it, in order."""
    samples = [
        Publish(0.1 + number / 20, "sim-001", "telemetry/odom", f"m{number}", number, payload={"n": number})
        for number in range(40)
    ]
    events = [Link(0.0, "sim-001", "up"), *samples, Link(0.7, "sim-001", "drop"), Link(1.4, "sim-001", "up")]
    path = tmp_path / "drop.jsonl"
    record(path, sorted(events, key=lambda event: event.at))
    options = Options(replay=path)
    async with listening(broker) as heard:
        summary = await run_fleet(await accounts_of(options), options, broker.url)
        await eventually(lambda: len(presences(heard, "sim-001")) == 4)
    assert presences(heard, "sim-001") == [
        ("online", None), ("offline", "connection_lost"), ("online", None), ("offline", "shutdown"),
    ]  # fmt: skip
    seqs = [envelope.decode(m.payload, None, LIMITS).seq for m in heard if str(m.topic).endswith("odom")]
    assert list(dict.fromkeys(seqs)) == list(range(40))
    assert (summary.losses, summary.of("telemetry/odom").acknowledged) == (1, 40)


async def test_broker_restart(broker):
    """Robots come back by themselves, and what was not acknowledged is sent again."""
    options = Options(robots=4, rate=10, duration_s=6)
    summary = Summary(4)
    running = asyncio.create_task(run_fleet(await accounts_of(options), options, broker.url, summary=summary))
    await eventually(lambda: summary.of("telemetry/odom").acknowledged > 20)
    odometry = summary.of("telemetry/odom")
    broker.freeze()
    await eventually(lambda: odometry.sent >= odometry.acknowledged + 20)
    await asyncio.to_thread(broker.stop, signal.SIGKILL)
    await eventually(lambda: summary.losses == 4)
    await asyncio.to_thread(broker.start)
    await running
    assert summary.connects >= 8
    assert odometry.sent == odometry.acknowledged


async def test_replay_is_what_was_recorded(broker, tmp_path):
    """A session with faults, recorded and replayed: the same messages in the same order per robot."""
    first = Options(robots=3, rate=10, seed=9, faults=True, duration_s=2, record=tmp_path / "one.jsonl")
    async with listening(broker) as live:
        await run_fleet(await accounts_of(first), first, broker.url)
        await eventually(lambda: presences(live, "sim-003")[-1:] == [("offline", "shutdown")])
    again = Options(replay=tmp_path / "one.jsonl", record=tmp_path / "two.jsonl")
    async with listening(broker) as replayed:
        await run_fleet(await accounts_of(again), again, broker.url)
        await eventually(lambda: presences(replayed, "sim-003")[-1:] == [("offline", "shutdown")])
    assert list(read_events(tmp_path / "one.jsonl")) == list(read_events(tmp_path / "two.jsonl"))
    assert said(live) == said(replayed) != {}


def said(heard) -> dict[str, list[bytes]]:
    """Payloads per mqtt topic, without presence and without times."""
    rows: dict[str, list[bytes]] = {}
    for message in heard:
        if not str(message.topic).endswith("/status") or "telemetry" in str(message.topic):
            body = message.payload
            if body.startswith(b'{"message_id"'):
                body = envelope.decode(body, None, LIMITS).payload
            rows.setdefault(str(message.topic), []).append(body)
    return rows


async def test_nobody_there(monkeypatch):
    monkeypatch.setattr("rosfit.sim.fleet.FIRST_CONNECTION_S", 0.5)
    options = Options(robots=2)
    with pytest.raises(UnavailableError, match="no robot could connect"):
        await run_fleet(await accounts_of(options), options, f"mqtt://127.0.0.1:{free_port()}")


@pytest.mark.parametrize("url", ["http://h", "mqtt://", "mqtt://h:0", "mqtt://h:99999", "h:1883"])
def test_addresses_that_are_none(url):
    with pytest.raises(InvalidError, match="mqtt://user:password@host"):
        parse_broker(url)


def test_address_with_escaped_password():
    broker, user, password = parse_broker("mqtts://u:p%40ss@broker.example")
    assert (broker.host, broker.port, broker.tls, user, password) == ("broker.example", 8883, True, "u", "p@ss")


# Credentials over REST, against a server that answers as the contract says.


@contextmanager
def rest_server(token: str = "good") -> Iterator[tuple[str, list[dict]]]:
    asked: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, **body})
            if self.headers["Authorization"] != f"Bearer {token}":
                self._answer(403, {"detail": "this key may not write devices", "code": "PERMISSION_DENIED"})
            elif len(asked) == 1:
                self._answer(429, {"detail": "too often"}, {"Retry-After": "0"})
            elif self.path == "/api/v1/devices":
                self._answer(409 if body["device_id"] == "sim-002" else 201, {"device_id": body["device_id"]})
            else:
                name = body["device_id"]
                self._answer(200, {"device_id": name, "username": name, "token": f"secret-{name}"})

        def _answer(self, status: int, body: dict, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


async def test_accounts_over_rest():
    """Missing devices are registered, existing ones taken, and the rate limit is waited for."""
    with rest_server() as (url, asked):
        accounts = await RestAccounts(url, "good").accounts(["sim-001", "sim-002"])
    assert [(account.username, account.password) for account in accounts] == [
        ("sim-001", "secret-sim-001"), ("sim-002", "secret-sim-002"),
    ]  # fmt: skip
    assert asked[1]["type"] == "simulator"
    assert asked[2]["scopes"] == ["publish", "subscribe"]
    assert "secret" not in repr(accounts)


async def test_rest_refusals_say_why():
    with rest_server() as (url, _), pytest.raises(PermissionDeniedError, match="may not write devices"):
        await RestAccounts(url, "bad").accounts(["sim-001"])
    with pytest.raises(UnavailableError, match="rosfit serve"):
        await RestAccounts(f"http://127.0.0.1:{free_port()}", "good").accounts(["sim-001"])


# The command.


async def run_sim(*arguments: str, **environment: str) -> tuple[int, str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ROSFIT_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rosfit.cli", "sim", *arguments, env=clean | environment,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    if "--duration" not in arguments and environment:
        assert b"connected" in await process.stderr.readline()
        process.send_signal(signal.SIGINT)
    # Not `communicate`, which would close its input.
    out, err = await process.stdout.read(), await process.stderr.read()
    return await process.wait(), out.decode(), err.decode()


async def test_command_ends_with_a_summary(broker):
    code, out, err = await run_sim("--robots", "2", "--duration", "1", "--json", ROSFIT_MQTT_URL=broker.url)
    assert code == 0, err
    summary = json.loads(out)
    assert summary["robots"] == 2
    assert summary["total"]["acknowledged"] > 0
    assert msgspec.convert({k: v for k, v in summary.items() if k != "total"}, Summary).connects == 2


async def test_interrupt_says_goodbye_and_is_no_failure(broker):
    code, out, _ = await run_sim("--robots", "2", ROSFIT_MQTT_URL=broker.url)
    assert code == 0
    assert "2 robots" in out


async def test_command_without_a_server_or_broker_is_unreachable(tmp_path):
    code, _, err = await run_sim("--data-dir", str(tmp_path))
    assert code == 5
    assert "rosfit serve" in err


async def test_a_robot_that_watches_its_parent_ends_quietly_beside_one_that_lives(broker):
    """The thread that waits for the parent's end is cut off in its read."""
    code, out, err = await run_sim("--robots", "1", "--while-stdin", ROSFIT_MQTT_URL=broker.url)
    assert (code, err) == (0, "")
    assert "1 robot" in out
