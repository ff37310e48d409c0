"""A backlog stays with the broker, whatever it makes of the receive-maximum."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from rosfit.infra.mqtt import PAUSE_ABOVE, PAUSE_ABOVE_BYTES, IngestSession
from rosfit.infra.publish_tap import READ_BYTES
from rosfit.kernel.ports import Incoming
from rosfit.sim.accounts import RobotAccount
from tests.load.broker import running_broker
from tests.load.plan import Load
from tests.load.publisher import Publisher

BACKLOG = 20_000
MB = 1024 * 1024


@asynccontextmanager
async def ingest_session(folder: Path) -> AsyncIterator[tuple[IngestSession, Load]]:
    """A connected session, and what a load for its broker begins with."""
    with running_broker(folder) as broker:
        session = IngestSession(broker.url, 0, 1, ["rosfit/+/#"])
        running = asyncio.create_task(session.run())
        while not session.connected_for_s():
            await asyncio.sleep(0.01)
        yield session, Load("127.0.0.1", broker.port, [RobotAccount("d1")], qos=1)
        running.cancel()


async def test_no_more_is_taken_than_can_be_kept(tmp_path: Path) -> None:
    async with ingest_session(tmp_path) as (session, load):
        await Publisher(replace(load, messages=BACKLOG)).run()
        taken = waiting = 0
        # One read may bring what was on its way when the session stopped reading.
        most = PAUSE_ABOVE + READ_BYTES // 300
        while taken < BACKLOG:
            batch = await asyncio.wait_for(session.receive(), 10)
            waiting = len(batch)
            assert waiting <= most
            taken += waiting
            session.acknowledge(batch)
    assert taken == BACKLOG


async def test_large_messages_are_bounded_by_their_bytes(tmp_path: Path) -> None:
    """A hundred pictures are few, but 100 MB: only two thirds are taken until some are acknowledged."""
    async with ingest_session(tmp_path) as (session, load):
        await Publisher(replace(load, messages=100, size=MB)).run()
        held: list[Incoming] = []
        with suppress(TimeoutError):
            while True:
                held += await asyncio.wait_for(session.receive(), 1)
        assert PAUSE_ABOVE_BYTES <= sum(len(message.payload) for message in held) <= PAUSE_ABOVE_BYTES + 2 * MB
        session.acknowledge(held)
        taken = len(held)
        while taken < 100:
            batch = await asyncio.wait_for(session.receive(), 10)
            taken += len(batch)
            session.acknowledge(batch)
    assert taken == 100
