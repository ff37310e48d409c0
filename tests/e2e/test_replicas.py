"""Two servers on the same stores: one takes over from the other, and people on either see everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import pytest
import websockets

from rosfit.infra.postgres import PERIODIC_LOCK
from rosfit.settings import Settings
from rosfit.supervisor import Endpoints, Supervisor
from tests.e2e.site import Site
from tests.load.publisher import Publisher
from tests.server import Client, RunningServer, free_ports, server_folder, until

DEVICES = [f"bot-{number}" for number in range(4)]


@asynccontextmanager
async def stores() -> AsyncIterator[Endpoints]:
    """PostgreSQL, Redis and broker without a RosFit, as an operator would run them."""
    with server_folder() as folder:
        mqtt_port, mqtt_ws_port = free_ports(2)
        settings = Settings(data_dir=folder / "data", mqtt_port=mqtt_port, mqtt_ws_port=mqtt_ws_port)
        async with Supervisor(settings, lambda _: None) as endpoints:
            assert endpoints.broker_accounts is not None
            endpoints.broker_accounts.write_files()
            yield endpoints


@pytest.fixture
def folders() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def start(folders: ExitStack, endpoints: Endpoints, slots: int, **env: str) -> RunningServer:
    server = RunningServer(
        folders.enter_context(server_folder()),
        ROSFIT_DATABASE_URL=endpoints.database_url,
        ROSFIT_REDIS_URL=endpoints.redis_url,
        ROSFIT_MQTT_URL=endpoints.mqtt_url,
        ROSFIT_INGEST_SLOTS=str(slots),
        **env,
    )
    await asyncio.to_thread(server.start)
    folders.callback(server.clean_up)
    return server


def holds(server: RunningServer, slots: int) -> bool:
    return server.log_text().count('"event": "ingest_connected"') >= slots


@pytest.mark.parametrize("slots", [pytest.param(1, marks=pytest.mark.full), 2])
async def test_the_other_takes_over(folders, slots):
    """The server that leases the slots is killed under load: the other takes over its queues, nothing is lost."""
    async with stores() as endpoints:
        first = await start(folders, endpoints, slots)
        await asyncio.to_thread(until, lambda: holds(first, slots))
        second = await start(folders, endpoints, slots)
        site = Site(first, endpoints)
        site.register(*DEVICES)
        publisher = Publisher(site.load(DEVICES, rate=1_000))
        publishing = asyncio.create_task(publisher.run())
        await asyncio.to_thread(until, lambda: site.stored() > 500)
        assert not holds(second, 1)
        first.process.kill()
        await asyncio.to_thread(until, lambda: holds(second, slots), 20)
        taken = publisher.result.sent
        await asyncio.to_thread(until, lambda: publisher.result.sent > taken + 500)
        publisher.stop()
        result = await publishing
        await asyncio.to_thread(site.stored_within, result.acknowledged)
        found = [name for (name,) in site.rows("SELECT device_id || message_id FROM telemetry")]
        assert set(found) == {f"{name}{one}" for name in DEVICES for one in result.message_ids(name)}
        assert len(found) == len(set(found))
        await asyncio.to_thread(folders.close)


@pytest.mark.full
async def test_replicas_share_live_events_and_split_periodic_work(folders):
    """Whoever watches on one server sees what the other takes in; one of them does the periodic work."""
    async with stores() as endpoints:
        servers = [await start(folders, endpoints, 1) for _ in range(2)]
        site = Site(servers[0], endpoints)
        site.register(*DEVICES)
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted"
        assert site.one(locks, PERIODIC_LOCK) == 1
        token = servers[0].admin.token
        assert Client(servers[1].url, token).got("/auth/me")["role"] == "admin"
        for server in servers:
            await sees(site, f"{server.websocket_url}?token={token}")
        assert site.one(locks, PERIODIC_LOCK) == 1
        await asyncio.to_thread(folders.close)


async def sees(site: Site, url: str) -> None:
    async with websockets.connect(url) as socket:
        await socket.send(json.dumps({"type": "subscribe", "channel": "telemetry:bot-1"}))
        publisher = Publisher(site.load(["bot-1"], rate=20))
        publishing = asyncio.create_task(publisher.run())
        async with asyncio.timeout(20):
            while json.loads(await socket.recv())["type"] != "telemetry":
                pass
        publisher.stop()
        await publishing
