"""A store or the broker is away, stands still or comes back with old contents."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
import redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.site import Site
from tests.load.plan import Result
from tests.load.publisher import Publisher
from tests.server import until

DEVICES = [f"bot-{number}" for number in range(4)]
MB = 1024 * 1024


async def publish_during(site: Site, outage: Callable[[], None], **options: Any) -> Result:
    """Publish before, during and after the outage, which begins once load has arrived."""
    publisher = Publisher(site.load(DEVICES, **options))
    publishing = asyncio.create_task(publisher.run())
    await asyncio.to_thread(until, lambda: site.stored() > 100)
    await asyncio.to_thread(outage)
    sent = publisher.result.sent
    await asyncio.to_thread(until, lambda: publisher.result.sent > sent + 500)
    publisher.stop()
    return await publishing


def assert_each_stored_once(site: Site, result: Result) -> None:
    for device_id in DEVICES:
        # More may be there than was acknowledged: what the broker took before it fell silent.
        until(lambda one=device_id: site.answers() and result.message_ids(one) <= set(message_ids(site, one)), 60)
    for device_id in DEVICES:
        found = message_ids(site, device_id)
        assert len(found) == len(set(found))


def message_ids(site: Site, device_id: str) -> list[str]:
    return [name for (name,) in site.rows("SELECT message_id FROM telemetry WHERE device_id = %s", device_id)]


@pytest.mark.parametrize("seconds", [3, pytest.param(20, marks=pytest.mark.full)])
async def test_qos_1_waits_for_postgres(site, seconds):
    """PostgreSQL is down under load: what was acknowledged meanwhile is stored after."""
    site.register(*DEVICES)
    result = await publish_during(site, lambda: site.keep_down("postgres", seconds), rate=1_000)
    assert result.complete
    assert_each_stored_once(site, result)


@pytest.mark.full
async def test_who_is_limited_to_some_devices_sees_no_others_while_postgres_stands_still(site):
    """Which devices those are, nobody can tell just now: neither the URL nor `auth` signs in."""
    limited = await asyncio.to_thread(site.server.user, "viewer", only_tags=["mine"])
    url = site.server.websocket_url
    # Who that is has just been looked up, so that it is known without PostgreSQL.
    assert await asyncio.to_thread(limited.got, "/devices") == {"items": [], "next_cursor": None}
    with site.frozen("postgres"):
        async with connect(url) as first, connect(f"{url}?token={limited.token}") as second:
            await first.send(json.dumps({"type": "auth", "data": {"token": limited.token}}))
            for socket in (first, second):
                await socket.send(json.dumps({"type": "subscribe", "channel": "telemetry:*"}))
            for socket in (first, second):
                assert {message["type"] for message in await told_until_closed(socket)} == {"error"}


async def told_until_closed(socket: ClientConnection) -> list[Any]:
    told = []
    with suppress(ConnectionClosed):
        async with asyncio.timeout(30):
            while True:
                told.append(json.loads(await socket.recv()))
    return told


@pytest.mark.parametrize("how", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.full)])
async def test_broker_comes_back(site, how):
    """The broker is stopped, or killed with -9, under load: nothing that it had acknowledged is lost."""
    site.register(*DEVICES)
    saved = site.server.data_dir / "mosquitto/data/mosquitto.db"
    # A session younger than the broker's autosave would not survive a kill -9.
    await asyncio.to_thread(until, lambda: saved.exists() and b"rosfit-ingest-0" in saved.read_bytes(), 20)
    result = await publish_during(site, lambda: site.kill("mosquitto", how), rate=1_000)
    assert result.reconnects
    assert_each_stored_once(site, result)


async def test_qos_0_flood_while_postgres_stands_still(site):
    """Memory stays bounded, the oldest of each stream go and are counted, and it recovers by itself."""
    site.register(*DEVICES)
    before = site.server.rss_bytes()
    with site.frozen("postgres"):
        # No faster than a busy machine takes it from the broker, which drops by its own rules.
        result = await Publisher(site.load(DEVICES, messages=30_000, rate=6_000, qos=0, size=2_000)).run()
        await asyncio.to_thread(until, site.at_rest)
        # Kept whole it would be 140 MB.
        assert site.server.rss_bytes() < before + 60 * MB

    def dropped() -> float:
        return site.metric("rosfit_samples_dropped_total")

    received = site.metric("rosfit_mqtt_messages_received_total")
    await asyncio.to_thread(until, lambda: site.stored() + dropped() == received)
    assert dropped() > 20_000
    for device_id, device in result.devices.items():
        newest = "SELECT max(seq) FROM telemetry WHERE device_id = %s"
        assert site.one(newest, device_id) == device.next_seq - 1


async def test_redis_is_away(site):
    """Ingest and REST go on without Redis, and the newest values are right, before and after."""
    site.register("bot-1")
    with site.server.mqtt("bot-1") as robot:
        robot.sample("odom", {"x": 1})
        until(lambda: newest(site) == {"x": 1})
        with site.frozen("valkey"):
            robot.sample("odom", {"x": 2})
            until(lambda: newest(site) == {"x": 2}, 30)
        robot.sample("odom", {"x": 3})
        until(lambda: newest(site) == {"x": 3})


async def test_redis_comes_back_with_an_old_snapshot(site):
    """Values that Redis saved long ago are not taken for the newest after a kill -9."""
    site.register("bot-1")
    store = redis.Redis.from_url(site.server.endpoints.redis_url)
    with site.server.mqtt("bot-1") as robot:
        robot.sample("odom", {"x": 1})
        until(lambda: newest(site) == {"x": 1})
        assert newest(site) == {"x": 1}  # now from Redis
        store.save()
        robot.sample("odom", {"x": 2})
        until(lambda: newest(site) == {"x": 2})
    site.kill("valkey")
    until(lambda: answers(store))
    assert newest(site) == {"x": 2}


def newest(site: Site):
    items = site.server.admin.got("/telemetry/bot-1/latest")["items"]
    return next((item["payload"] for item in items if item["stream"] == "odom"), None)


def answers(store: redis.Redis) -> bool:
    try:
        return bool(store.ping())
    except redis.RedisError:
        return False


async def test_lost_lease_stops_the_slot(site):
    """Whoever loses the lock of its slot lets go of the session, and takes both up again."""
    site.register("bot-1")
    with psycopg.connect(site.database_url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rosfit-lock'"
        ).fetchall()
        assert len(ended) >= 2
    until(lambda: "lease_lost" in site.server.log_text())
    until(lambda: site.server.log_text().count("ingest_connected") == 2)
    with site.server.mqtt("bot-1") as robot:
        robot.sample("odom", {"x": 1})
    until(lambda: site.stored("odom") == 1)
