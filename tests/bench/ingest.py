"""Durable ingest flat out, beside a consumer that only counts and a COPY that only writes."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.bench import processes
from tests.e2e.site import Site
from tests.load.broker import running_broker
from tests.server import until

# 300 bytes each, over 20 devices on four connections: a publisher that costs a third of a core at 15,000/s.
DEVICES = [f"bench-{number:02d}" for number in range(1, 21)]
LOAD = ("--devices", "bench-%02d:20", "--connections", "4", "--inflight", "500")


@dataclass
class Rate:
    """`cpu_us` is the consumer's CPU time per message."""

    per_s: float
    cpu_us: float


async def durable(site: Site, messages: int) -> Rate:
    """From the first publish to the last commit."""
    server = site.server.process
    assert server is not None
    stored, cpu = site.metric("rosfit_samples_stored_total"), processes.cpu_s([server.pid])
    result = await processes.load(site.mqtt_url, *LOAD, "--messages", str(messages))
    assert result["acknowledged"] == messages, result
    await asyncio.to_thread(until, lambda: site.metric("rosfit_samples_stored_total") >= stored + messages, 120)
    ended_us = time.time_ns() / 1000
    cpu = processes.cpu_s([server.pid]) - cpu
    started_us = site.one(
        "SELECT min((payload->>'sent_us')::int8) FROM telemetry WHERE message_id LIKE %s", f"{result['run']}-%"
    )
    return Rate(messages * 1e6 / (ended_us - started_us), 1e6 * cpu / messages)


async def counted(messages: int) -> Rate:
    """The same load into a consumer that acknowledges at once and keeps nothing, on a broker set up alike."""
    with tempfile.TemporaryDirectory() as folder, running_broker(Path(folder)) as broker:
        counter = await processes.start("tests.load.counter", broker.url, "--messages", str(messages))
        await asyncio.sleep(1.0)
        await processes.load(broker.url, *LOAD, "--messages", str(messages))
        count = await processes.finished(counter)
    return Rate(count["rate"], count["cpu_us_per_message"])


def copied(site: Site, messages: int) -> Rate:
    """A binary COPY of as many rows of the same shape into a table with the same key, 1,000 rows a transaction."""
    columns = "device_id, stream, time, message_id, seq, received_at, payload"
    types = ["text", "text", "timestamptz", "text", "int8", "timestamptz", "jsonb"]
    with psycopg.connect(site.database_url, autocommit=True) as connection:
        rows = connection.execute(f"SELECT {columns} FROM telemetry LIMIT 1000").fetchall()
        connection.execute("CREATE TABLE copied (LIKE telemetry INCLUDING ALL)")
        started, cpu = time.perf_counter(), time.process_time()
        for number in range(messages // 1000):
            fresh = [(*row[:3], f"{number}-{row[3]}", *row[4:6], _json(row[6])) for row in rows]
            _copy(connection, columns, types, fresh)
        took_s, cpu = time.perf_counter() - started, time.process_time() - cpu
        connection.execute("DROP TABLE copied")
    return Rate(messages / took_s, 1e6 * cpu / messages)


def _copy(connection: psycopg.Connection[Any], columns: str, types: list[str], rows: list[tuple[Any, ...]]) -> None:
    with connection.cursor().copy(f"COPY copied ({columns}) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


def _json(value: Any) -> Any:
    return psycopg.types.json.Jsonb(value)
