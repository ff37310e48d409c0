"""Nothing acknowledged is lost, and nothing is stored twice, whoever is killed and whenever."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from tests.e2e.bare import BarePublisher
from tests.e2e.site import Site
from tests.load.plan import Result
from tests.load.publisher import Publisher

DEVICES = [f"bot-{number}" for number in range(5)]
# Messages a second over all devices: enough that every kill meets some in flight.
RATE = 1_000

VICTIMS = ["server", "postgres", "valkey", "server+postgres"]
COUNTS = [2_000, pytest.param(20_000, marks=pytest.mark.full)]


async def kill_one(site: Site, rng: random.Random, name: str) -> None:
    """Let it run for a moment, then kill -9 `server`, `postgres`, `valkey`, or two at once."""
    await asyncio.sleep(rng.uniform(0.2, 1.2))
    if "postgres" in name or name == "valkey":
        site.kill(name.rpartition("+")[2])
    if "server" in name:
        site.server.kill()
        await asyncio.to_thread(site.server.start)


async def publish_among_kills(site: Site, publisher: Publisher, messages: int, seed: int) -> Result:
    """Publish until at least so many are sent, and each has been killed in an order and at moments of the seed."""
    rng = random.Random(seed)
    publishing = asyncio.create_task(publisher.run())
    while publisher.result.sent < messages:
        for name in rng.sample(VICTIMS, len(VICTIMS)):
            await kill_one(site, rng, name)
    publisher.stop()
    result = await publishing
    assert result.complete, result.summary()
    return result


@pytest.mark.parametrize("messages", COUNTS)
async def test_messages_with_ids(site, messages):
    """Server, PostgreSQL and Valkey die under load: every acknowledged message is stored, each once."""
    site.register(*DEVICES)
    publisher = Publisher(site.load(DEVICES, rate=RATE))
    result = await publish_among_kills(site, publisher, messages, seed=messages)
    await asyncio.to_thread(site.stored_within, result.acknowledged)
    for device_id in DEVICES:
        found = [name for (name,) in site.rows("SELECT message_id FROM telemetry WHERE device_id = %s", device_id)]
        assert set(found) == result.message_ids(device_id)
        assert len(found) == len(set(found))
    assert site.rows("SELECT reason, detail FROM dead_letters") == []


@pytest.mark.parametrize("messages", COUNTS)
@pytest.mark.full
@pytest.mark.parametrize("stream", ["timed", "anonymous"])
async def test_messages_without_ids(site, stream, messages):
    """The same for devices that send a time of their own, or nothing at all to know a message by."""
    site.register(*DEVICES)
    publisher = BarePublisher(site.load(DEVICES, rate=RATE, stream=stream))
    result = await publish_among_kills(site, publisher, messages, seed=messages + len(stream))
    await asyncio.to_thread(site.stored_within, result.acknowledged, stream=stream)
    for device_id in DEVICES:
        said = [seq - 1 if seq % 10 == 9 and stream != "timed" else seq for seq in result.devices[device_id].acked]
        numbers = site.rows("SELECT (payload->'n')::int FROM telemetry WHERE device_id = %s", device_id)
        assert Counter(number for (number,) in numbers) == Counter(said)
