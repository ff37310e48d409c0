"""How long a sample takes from its publisher to the row in PostgreSQL and to a WebSocket, under steady load."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import websockets

from tests.bench import processes
from tests.bench.ingest import LOAD
from tests.e2e.site import Site

# Every message of this device is timed, one in twenty of all.
TIMED = "bench-01"
WARM_UP_S = 2.0


@dataclass
class Quantiles:
    """Milliseconds."""

    p50: float
    p99: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> Quantiles:
        ordered = sorted(values)
        return cls(ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], len(ordered))


@dataclass
class Latency:
    per_s: float
    committed: Quantiles
    websocket: Quantiles


async def measure(site: Site, per_s: float, seconds: float) -> Latency:
    stop = asyncio.Event()
    committed = asyncio.create_task(_until_committed(site, stop))
    websocket = asyncio.create_task(_until_websocket(site, stop))
    duration = str(seconds + WARM_UP_S)
    result = await processes.load(site.mqtt_url, *LOAD, "--rate", str(per_s), "--duration", duration)
    stop.set()
    return Latency(result["rate"], Quantiles.of(await committed), Quantiles.of(await websocket))


async def _until_committed(site: Site, stop: asyncio.Event) -> list[float]:
    """Looks every 2 ms for new rows, which are there for others once PostgreSQL has flushed their commit.

    A device's rows come in order, so each look starts where the last one ended and costs the server next to nothing.
    """
    found: list[float] = []
    newest, seen = datetime.fromtimestamp(time.time() + WARM_UP_S, UTC), -1
    async with await psycopg.AsyncConnection.connect(site.database_url, autocommit=True) as connection:
        while not stop.is_set():
            cursor = await connection.execute(
                "SELECT seq, time, (payload->>'sent_us')::int8 FROM telemetry"
                " WHERE device_id = %s AND stream = 'load' AND time >= %s AND seq > %s ORDER BY seq",
                [TIMED, newest, seen],
            )
            arrived_us = time.time_ns() / 1000
            for seq, at, sent_us in await cursor.fetchall():
                newest, seen = at, seq
                found.append((arrived_us - sent_us) / 1000)
            await asyncio.sleep(0.002)
    return found


async def _until_websocket(site: Site, stop: asyncio.Event) -> list[float]:
    found: list[float] = []
    began_us = (time.time() + WARM_UP_S) * 1e6
    stopped = asyncio.create_task(stop.wait())
    async with websockets.connect(f"{site.server.websocket_url}?token={site.server.admin.token}") as socket:
        await socket.send(json.dumps({"type": "subscribe", "channel": f"telemetry:{TIMED}"}))
        while not stop.is_set():
            reading = asyncio.ensure_future(socket.recv())
            await asyncio.wait({reading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                reading.cancel()
                break
            arrived_us = time.time_ns() / 1000
            message = json.loads(reading.result())
            if message["type"] == "telemetry" and message["data"]["payload"]["sent_us"] > began_us:
                found.append((arrived_us - message["data"]["payload"]["sent_us"]) / 1000)
    return found
