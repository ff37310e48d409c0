"""The loop from broker to database: receive, decode, announce, write, commit, acknowledge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from rosfit.handler.decode import Decoder, Parsed
from rosfit.handler.hot import LatestValues, VitalsBook
from rosfit.handler.live import Live
from rosfit.handler.marks import Marks
from rosfit.handler.pending import Pending
from rosfit.handler.writer import OrderedHandler, Outcome, Writer
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.feed import Feed
from rosfit.kernel.metrics import Metrics
from rosfit.kernel.ports import MessageSource
from rosfit.kernel.work import Work
from rosfit.protocol.topics import Kind
from rosfit.telemetry import repository as telemetry

log = structlog.get_logger(__name__)

# A batch: enough rows that the commit's fixed cost is spread, few enough that it takes some tens of milliseconds.
BATCH_MESSAGES = 2_000
BATCH_BYTES = 8 * 1024 * 1024

# Commits come at least this far apart, so that a lone message is quick and a stream is batched.
FLUSH_EVERY_S = 0.005

OpenWork = Callable[[], AbstractAsyncContextManager[Work]]


class Ingest:
    """Takes one slot's messages to the database. `open_work` makes a unit of work that commits at its end."""

    def __init__(
        self,
        *,
        open_work: OpenWork,
        decoder: Decoder,
        feed: Feed,
        latest: LatestValues,
        vitals: VitalsBook,
        metrics: Metrics,
        ordered: Mapping[Kind, OrderedHandler],
    ) -> None:
        self._open_work = open_work
        self._decoder = decoder
        self._live = Live(feed)
        self._latest = latest
        self._vitals = vitals
        self._metrics = metrics
        self._ordered = ordered

    async def run(self, source: MessageSource, slot: int) -> None:
        """Until cancelled. What was not committed stays with the broker."""
        pending = Pending()
        async with self._patient_work() as work:
            marks = Marks(slot, await telemetry.marks(work.connection, slot))
        writer = Writer(marks, self._ordered)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive(source, pending))
            tasks.create_task(self._write_all(source, pending, writer))

    async def replay(self, parsed: Parsed, work: Work) -> Outcome:
        """Take one message again, in the caller's unit of work."""
        outcome = await Writer(None, self._ordered).write(work, [parsed])
        work.then(self._after_replay(outcome))
        return outcome

    def _after_replay(self, outcome: Outcome) -> Callable[[], Awaitable[None]]:
        async def spread() -> None:
            self._spread(outcome)

        return spread

    @asynccontextmanager
    async def _patient_work(self) -> AsyncIterator[Work]:
        """A unit of work as soon as the database answers."""
        while True:
            try:
                async with self._open_work() as work:
                    yield work
                    return
            except UnavailableError as error:
                log.warning("database_unreachable", why=error.detail)
                await asyncio.sleep(0.5)

    async def _receive(self, source: MessageSource, pending: Pending) -> None:
        while True:
            arrived = await source.receive()
            self._metrics.received.inc(len(arrived))
            for incoming in arrived:
                parsed = self._decoder.decode(incoming)
                if parsed is None:
                    source.acknowledge([incoming])
                    continue
                self._live.on_arrival(parsed)
                pending.add(parsed)
            self._metrics.pending.set(len(pending))
            self._metrics.pending_bytes.set(pending.bytes)
            if pending.dropped:
                self._metrics.dropped.inc(pending.dropped)
                pending.dropped = 0

    async def _write_all(self, source: MessageSource, pending: Pending, writer: Writer) -> None:
        while True:
            messages = await pending.take(BATCH_MESSAGES, BATCH_BYTES)
            started = time.perf_counter()
            outcome = await self._write(writer, messages)
            source.acknowledge([parsed.incoming for parsed in messages])
            took_s = time.perf_counter() - started
            self._count(outcome, len(messages), took_s)
            self._spread(outcome)
            await asyncio.sleep(max(0.0, FLUSH_EVERY_S - took_s))

    async def _write(self, writer: Writer, messages: Sequence[Parsed]) -> Outcome:
        """Write and commit, again and again while the database is away: these messages are nowhere else."""
        delay_s = 0.1
        while True:
            try:
                async with self._open_work() as work:
                    return await writer.write(work, messages)
            except UnavailableError as error:
                log.warning("database_unreachable", why=error.detail, waiting=len(messages))
            except Exception:
                # A fault of ours must not end the stream: the messages stay unacknowledged and are tried again.
                log.exception("ingest_write_failed", waiting=len(messages))
            self._metrics.write_retries.inc()
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 2.0)

    def _count(self, outcome: Outcome, messages: int, took_s: float) -> None:
        self._metrics.commit_seconds.observe(took_s)
        self._metrics.batch_messages.observe(messages)
        self._metrics.stored.inc(outcome.stored)
        self._metrics.duplicates.inc(outcome.duplicates)
        for letter in outcome.batch.dead_letters:
            self._metrics.dead_letters.labels(letter.reason).inc()

    def _spread(self, outcome: Outcome) -> None:
        """After the commit: what is derived and may be lost."""
        batch = outcome.batch
        for device_id in batch.refused:
            self._live.forget(device_id)
        for device_id, at in batch.heard.items():
            self._vitals.heard(device_id, at.timestamp())
            self._live.learn(device_id)
        for parsed in batch.accepted:
            if not parsed.announced:
                self._live.on_commit(parsed)
        for sample in batch.samples:
            self._latest.note(sample)
            self._vitals.note(sample)
        for (device_id, name), (frame, _) in batch.frames.items():
            self._latest.note_frame(device_id, name, frame)
