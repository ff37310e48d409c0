"""The load publisher and the counter must be right themselves before they judge the server."""

import asyncio
import json
import os
import signal
import sys

import pytest

from rosfit.protocol import envelope
from rosfit.protocol.topics import parse_topic
from rosfit.sim.accounts import RobotAccount
from tests.load import wire
from tests.load.broker import Broker, free_port
from tests.load.counter import Counter, connect_counter
from tests.load.plan import Device, Load, ranges
from tests.load.publisher import Publisher, device_names, publish
from tests.load.writer import Writer


class Collector(Counter):
    """A counter that keeps (topic, payload) of what it counts."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.kept: list[tuple[str, bytes]] = []

    def _counted(self, first, body):
        length = body[0] << 8 | body[1]
        properties_at = 2 + length + (2 if first & 0x06 else 0)
        assert body[properties_at] == 0
        self.kept.append((bytes(body[2 : 2 + length]).decode(), bytes(body[properties_at + 1 :])))
        return super()._counted(first, body)

    def samples(self) -> list[tuple[str, int, str]]:
        """(device id, seq, message id) of everything kept, in order of arrival."""
        parsed = [(parse_topic(topic), envelope.decode(data, None, envelope.Limits())) for topic, data in self.kept]
        return [(route.device_id, message.seq, message.message_id) for route, message in parsed]


async def collector(broker: Broker, **options) -> Collector:
    _, made = await asyncio.get_running_loop().create_connection(lambda: Collector(**options), "127.0.0.1", broker.port)
    await made.subscribed
    return made


def load(broker: Broker, devices: int = 3, **options) -> Load:
    accounts = [RobotAccount(f"d{number}") for number in range(devices)]
    return Load("127.0.0.1", broker.port, accounts, **options)


async def test_every_message_arrives_in_order_and_is_acknowledged(broker):
    consumer = await collector(broker, messages=3000)
    result = await publish(load(broker, messages=3000))
    await asyncio.wait_for(consumer.done, 20)
    assert result.complete
    assert result.acknowledged == result.sent == 3000
    for device_id in ("d0", "d1", "d2"):
        mine = [(seq, message_id) for name, seq, message_id in consumer.samples() if name == device_id]
        assert [seq for seq, _ in mine] == list(range(1000))
        assert {message_id for _, message_id in mine} == result.message_ids(device_id)


async def test_broker_restart_loses_nothing_and_repeats_with_the_same_bytes(broker):
    """Killed in the middle, the broker gets the unacknowledged messages again under the same message ids."""
    publisher = Publisher(load(broker, messages=6000, rate=3000, drain_timeout_s=30))
    running = asyncio.create_task(publisher.run())
    while publisher.result.acknowledged < 1500:
        await asyncio.sleep(0.01)
    broker.freeze()
    while publisher.result.sent < publisher.result.acknowledged + 100:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(broker.stop, signal.SIGKILL)
    await asyncio.to_thread(broker.start)
    consumer = await collector(broker, client_id="after")
    result = await asyncio.wait_for(running, 40)
    assert result.complete
    assert result.acknowledged == 6000
    assert result.reconnects >= 3
    assert result.resent >= 100
    assert {device: list(ranges(sorted(state.acked))) for device, state in result.devices.items()} == {
        f"d{number}": [(0, 1999)] for number in range(3)
    }
    by_id: dict[tuple[str, str], set[bytes]] = {}
    for (topic, data), (_, _, message_id) in zip(consumer.kept, consumer.samples(), strict=True):
        by_id.setdefault((topic, message_id), set()).add(data)
    assert by_id
    assert all(len(forms) == 1 for forms in by_id.values())


async def test_rate_is_kept(broker):
    result = await publish(load(broker, messages=2000, rate=2000))
    assert 0.95 < result.seconds < 2.0


async def test_shared_connections_and_duration(broker):
    publisher = Publisher(load(broker, devices=20, duration_s=0.3, connections=2))
    result = await publisher.run()
    assert result.complete
    assert all(state.acked for state in result.devices.values())


async def test_stop_ends_with_everything_sent_acknowledged(broker):
    publisher = Publisher(load(broker))
    running = asyncio.create_task(publisher.run())
    while publisher.result.acknowledged < 100:
        await asyncio.sleep(0.005)
    publisher.stop()
    result = await asyncio.wait_for(running, 10)
    assert result.complete


async def test_qos_0_and_size(broker):
    consumer = await collector(broker, messages=500, qos=0)
    result = await publish(load(broker, messages=500, qos=0, size=700))
    await asyncio.wait_for(consumer.done, 10)
    assert result.sent == 500
    assert result.acknowledged == 0
    assert all(695 <= len(data) <= 705 for _, data in consumer.kept)


def test_envelopes_are_what_the_protocol_reads():
    device = Device("d1")
    _, data = Writer(Load("h", 1, [RobotAccount("d1")], run="r"), device).next()
    message = envelope.decode(data, None, envelope.Limits())
    assert (message.device_id, message.message_id, message.seq, message.type) == ("d1", "r-00000000", 0, "telemetry")
    assert json.loads(message.payload)["sent_us"] // 1000 == int(message.sampled_at.timestamp() * 1000)
    assert 295 <= len(data) <= 305


async def test_refused_credential_is_an_error_at_once(tmp_path):
    broker = Broker(tmp_path, password="right")
    broker.start()
    try:
        accounts = [RobotAccount("d1", "sim", "wrong")]
        with pytest.raises(wire.WireError, match=r"0x87|0x86"):
            await publish(Load("127.0.0.1", broker.port, accounts, messages=1))
        good = await publish(Load("127.0.0.1", broker.port, [RobotAccount("d1", "sim", "right")], messages=1))
        assert good.complete
    finally:
        broker.stop()


async def test_counter_keeps_its_session(broker):
    """What comes while the counter is away is counted when it is back."""
    first = await connect_counter(broker.url)
    first.close()
    await publish(load(broker, messages=100))
    second = await connect_counter(broker.url, messages=100)
    await asyncio.wait_for(second.done, 10)
    assert second.close().messages == 100


async def test_as_processes(broker):
    """Both run as programs of their own and answer in JSON."""
    environment = os.environ | {"ROSFIT_MQTT_URL": broker.url}

    async def start(*arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", *arguments, "--json", stdout=pipe, stderr=pipe, env=environment
        )

    counter = await start("tests.load.counter", "--messages", "200")
    assert await counter.stderr.readline() == b"subscribed\n"
    publisher = await start("tests.load.publisher", "--devices", "p-%02d:4", "--messages", "200", "--run", "x")
    sent, _ = await publisher.communicate()
    counted, _ = await counter.communicate()
    assert (publisher.returncode, counter.returncode) == (0, 0)
    assert json.loads(sent)["devices"] == {name: [[0, 49]] for name in device_names("p-%02d:4")}
    assert json.loads(counted)["messages"] == 200


async def test_nobody_there(monkeypatch):
    monkeypatch.setattr("tests.load.publisher.CONNECT_TIMEOUT_S", 0.3)
    with pytest.raises(wire.WireError, match="is the broker running"):
        await publish(Load("127.0.0.1", free_port(), [RobotAccount("d1")], messages=1))


@pytest.mark.parametrize("size", [0, 127, 128, 16_383, 16_384, 2_097_152])
def test_packets_come_back_whole_from_any_cut(size):
    whole = wire.publish("rosfit/d1/telemetry", b"x" * size, qos=1, packet_id=7) + b"\x40\x02\x00\x01"
    buffer, seen = bytearray(), []
    for start in range(0, len(whole), max(1, len(whole) // 7)):
        buffer += whole[start : start + max(1, len(whole) // 7)]
        seen += [(first, len(body)) for first, body in wire.packets(buffer)]
    assert [first for first, _ in seen] == [0x32, 0x40]
    assert seen[0][1] == 2 + len("rosfit/d1/telemetry") + 3 + size
