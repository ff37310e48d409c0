"""Rubbish beside good traffic: the good is complete, the bad is counted, and the server stays as it is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from tests.e2e.site import Site
from tests.load import wire
from tests.load.mutate import Mutant, mutants
from tests.load.publisher import Publisher
from tests.server import running_server, until

GOOD = [f"good-{number}" for number in range(3)]
SOURCE = "mutant"
MB = 1024 * 1024
# The rows that the server itself reads into, so that strange values meet more than the table.
VITAL_STREAMS = ["telemetry/battery", "telemetry/odom", "telemetry/status"]


class Sender:
    """Publishes raw packets at QoS 1, each acknowledged before the next; connects again when the broker hangs up."""

    def __init__(self, site: Site) -> None:
        self._url = wire.parse_url(site.mqtt_url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, topic: str, payload: bytes, properties: bytes = b"") -> bool:
        """Whether the broker took it."""
        try:
            reader, writer = await self._connected()
            writer.write(wire.publish(topic, payload, 1, 1, properties))
            kind, body = await _packet(reader)
        except (OSError, asyncio.IncompleteReadError):
            kind, body = wire.DISCONNECT, b""
        if kind != wire.PUBACK:
            self._streams = None
            return False
        return len(body) < 3 or body[2] < 0x80

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            host, port, user, password = self._url
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(wire.connect("mutant-sender", user, password))
            await _packet(reader)
            self._streams = reader, writer
        return self._streams


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, length = await reader.readexactly(2)
    return first & 0xF0, await reader.readexactly(length)


async def send_all(sender: Sender, some: Iterable[Mutant]) -> Counter[str]:
    """`bad`, `open` (may be either) and `good` messages that the broker took."""
    taken: Counter[str] = Counter()
    for mutant in some:
        if await sender.send(mutant.topic(SOURCE), mutant.payload, mutant.wire_properties()):
            taken["open" if not mutant.certain else "bad" if mutant.reasons else "good"] += 1
    return taken


def letters(site: Site) -> int:
    return site.one("SELECT count(*) FROM dead_letters")


@pytest.fixture
def frugal_site() -> Iterator[Site]:
    """Its C allocator gives back at once what is free, so that its memory says what it keeps: 3 MB up and down."""
    with running_server(MALLOC_MMAP_THRESHOLD_="16384", MALLOC_TRIM_THRESHOLD_="65536") as server:
        yield Site(server)


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.full)])
async def test_mutated_messages_beside_good_traffic(frugal_site, count):
    """The good is complete, every bad one counted, and three times as many more take no memory."""
    site = frugal_site
    site.register(SOURCE, *GOOD)
    pid = site.server.process.pid
    publisher = Publisher(site.load(GOOD, rate=200))
    publishing = asyncio.create_task(publisher.run())
    sender = Sender(site)
    taken = await send_all(sender, mutants(seed=1, count=count // 4))
    await asyncio.to_thread(until, lambda: letters(site) >= taken["bad"])
    before = site.server.rss_bytes()
    taken += await send_all(sender, mutants(seed=2, count=count * 3 // 4))
    publisher.stop()
    result = await publishing
    await asyncio.to_thread(site.stored_within, result.acknowledged)

    for device_id in GOOD:
        found = {name for (name,) in site.rows("SELECT message_id FROM telemetry WHERE device_id = %s", device_id)}
        assert found == result.message_ids(device_id)
    await asyncio.to_thread(until, lambda: letters(site) >= taken["bad"])
    # Before the first question over REST, which brings in what answers it.
    assert site.server.rss_bytes() < before + 16 * MB
    await asyncio.to_thread(until, lambda: site.metric("rosfit_ingest_pending") == 0)
    assert taken["bad"] <= letters(site) <= taken["bad"] + taken["open"]
    assert site.metric("rosfit_dead_letters_total") == letters(site)
    assert (site.server.alive, site.server.process.pid) == (True, pid)
    for fault in ("Traceback", "decode_failed", "ingest_write_failed", "periodic_step_failed", "lease_lost"):
        assert fault not in site.server.log_text()


async def test_strange_values_where_the_server_reads_itself(site):
    """Numbers that no float holds and objects where numbers belong, in the streams that make battery and pose."""
    site.register(SOURCE)
    sender = Sender(site)
    # The last ones stay the newest of their stream until all of them are read.
    values = ["1" + "0" * 400, '"NaN"', "null", "true", "[]", '{"x":{}}', '"text"', "9" * 5_000, "1e400", "-1e400"]
    for suffix in VITAL_STREAMS:
        for value in values:
            shapes = [
                f'{{"battery":{value},"percentage":{value},"position":{{"x":{value},"y":1}}}}',
                f'{{"pose":{{"pose":{{"position":{{"x":1,"y":{value}}},"orientation":{value}}}}}}}',
            ]
            for shape in shapes:
                assert await sender.send(f"rosfit/{SOURCE}/{suffix}", shape.encode())
    assert await sender.send(f"rosfit/{SOURCE}/telemetry/battery", b'{"battery":55}')
    battery = "SELECT battery FROM device_vitals WHERE device_id = %s"
    await asyncio.to_thread(until, lambda: site.one(battery, SOURCE) == 55)
    assert site.server.admin.got(f"/robots/{SOURCE}/status")["battery"] == 55
    assert "periodic_step_failed" not in site.server.log_text()


async def test_unknown_devices_and_huge_payloads(site):
    """A thousand devices at once; strangers and giants among them are dead letters, and nobody waits for them."""
    names = [f"bot-{number:04d}" for number in range(1_000)]
    site.register(*names)
    sender = Sender(site)
    for number in range(50):
        assert await sender.send(f"rosfit/stranger-{number}/telemetry", b'{"x":1}')
    for size in (300_000, 9_000_000):
        assert await sender.send("rosfit/bot-0001/telemetry/big", b'{"text":"%b"}' % (b"x" * size))
    assert await sender.send("rosfit/bot-0001/blob/image", b"x" * 9_000_000)
    result = await Publisher(site.load(names, messages=5_000, rate=2_000, connections=20)).run()
    await asyncio.to_thread(site.stored_within, 5_000)
    assert site.stored() == result.acknowledged == 5_000
    await asyncio.to_thread(until, lambda: letters(site) == 53)
    reasons = dict(site.rows("SELECT reason, count(*) FROM dead_letters GROUP BY reason"))
    assert reasons == {"unknown_device": 50, "too_large": 3}
    assert site.one("SELECT count(*) FROM devices WHERE status = 'online'") == 1_000
