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

COUNTS = [4_000, pytest.param(20_000, marks=pytest.mark.full)]


async def kill_at_random(site: Site, rng: random.Random, publishing: asyncio.Task[Result]) -> Counter[str]:
    """Kill server, PostgreSQL or Valkey every second or so for as long as there is load; how often each died."""
    killed: Counter[str] = Counter()
    while not publishing.done():
        await asyncio.wait({publishing}, timeout=rng.uniform(0.3, 1.5))
        name = rng.choice(["server", "postgres", "valkey", "server+postgres"])
        killed[name] += 1
        if "postgres" in name or name == "valkey":
            site.kill(name.rpartition("+")[2])
        if "server" in name:
            site.server.kill()
            await asyncio.sleep(rng.uniform(0, 0.2))
            await asyncio.to_thread(site.server.start)
    return killed


async def publish_among_kills(site: Site, publisher: Publisher, seed: int) -> Result:
    publishing = asyncio.create_task(publisher.run())
    killed = await kill_at_random(site, random.Random(seed), publishing)
    result = await publishing
    assert result.complete, result.summary()
    assert sum(killed.values()) > 3, killed
    return result


@pytest.mark.parametrize("messages", COUNTS)
async def test_messages_with_ids(site, messages):
    """Server, PostgreSQL and Valkey die under load: every acknowledged message is stored, each once."""
    site.register(*DEVICES)
    load = site.load(DEVICES, messages=messages, rate=messages / 12)
    result = await publish_among_kills(site, Publisher(load), seed=messages)
    await asyncio.to_thread(site.stored_within, result.acknowledged)
    for device_id in DEVICES:
        found = [name for (name,) in site.rows("SELECT message_id FROM telemetry WHERE device_id = %s", device_id)]
        assert set(found) == result.message_ids(device_id)
        assert len(found) == len(set(found))
    assert site.rows("SELECT reason, detail FROM dead_letters") == []


@pytest.mark.parametrize("messages", COUNTS)
@pytest.mark.parametrize("stream", ["timed", "anonymous"])
async def test_messages_without_ids(site, stream, messages):
    """The same for devices that send a time of their own, or nothing at all to know a message by."""
    site.register(*DEVICES)
    load = site.load(DEVICES, messages=messages, rate=messages / 12, stream=stream)
    result = await publish_among_kills(site, BarePublisher(load), seed=messages + len(stream))
    await asyncio.to_thread(site.stored_within, result.acknowledged, stream=stream)
    for device_id in DEVICES:
        said = [seq - 1 if seq % 10 == 9 and stream != "timed" else seq for seq in result.devices[device_id].acked]
        numbers = site.rows("SELECT (payload->'n')::int FROM telemetry WHERE device_id = %s", device_id)
        assert Counter(number for (number,) in numbers) == Counter(said)
