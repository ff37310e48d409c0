"""The loop from broker to database: receive, decode, announce, write, commit, acknowledge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import msgspec
import structlog

from rosfit.handler.decode import Decoder, Parsed
from rosfit.handler.hot import LatestValues, VitalsBook
from rosfit.handler.live import Live
from rosfit.handler.marks import Marks, SlotTakenError
from rosfit.handler.pending import Pending
from rosfit.handler.writer import Attempt, Handlers, Outcome, Writer
from rosfit.kernel.errors import InvalidError, UnavailableError
from rosfit.kernel.feed import Feed
from rosfit.kernel.loops import run_together
from rosfit.kernel.metrics import Metrics
from rosfit.kernel.ports import MessageSource
from rosfit.kernel.work import Work

log = structlog.get_logger(__name__)

# A batch: enough rows that the commit's fixed cost is spread, few enough that it takes some tens of milliseconds.
BATCH_MESSAGES = 2_000
BATCH_BYTES = 8 * 1024 * 1024

# Commits come at least this far apart, so that a lone message is quick and a stream is batched.
FLUSH_EVERY_S = 0.005

# Between attempts while the database is away; its restart after a kill takes under a second.
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 2.0

OpenWork = Callable[[], AbstractAsyncContextManager[Work]]

T = TypeVar("T")


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
        handlers: Handlers,
    ) -> None:
        self._open_work = open_work
        self._decoder = decoder
        self._live = Live(feed)
        self._latest = latest
        self._vitals = vitals
        self._metrics = metrics
        self._handlers = handlers

    async def run(self, source: MessageSource, slot: int) -> None:
        """Until cancelled. What was not committed stays with the broker. Raises SlotTakenError."""
        pending = Pending()
        # Received at once, and not only when the database answers: `pending` is bounded, the source's inbox is not.
        await run_together(self._receive(source, pending), self._write_all(source, pending, slot))

    async def replay(self, parsed: Parsed, work: Work) -> Outcome:
        """Take one message again, in the caller's unit of work."""
        outcome = await Writer(None, self._handlers).write(work, [parsed], Attempt(careful=True))
        work.then(self._after_replay(outcome))
        return outcome

    def _after_replay(self, outcome: Outcome) -> Callable[[], Awaitable[None]]:
        async def spread() -> None:
            self._spread(outcome)

        return spread

    async def _until_done(self, step: Callable[[Work], Awaitable[T]], what: str) -> T:
        """Do `step` in a unit of work of its own, again and again while the database is away."""
        delay_s = FIRST_RETRY_S
        while True:
            try:
                async with self._open_work() as work:
                    return await step(work)
            except SlotTakenError:
                raise
            except UnavailableError as error:
                log.warning("database_unreachable", doing=what, why=error.detail)
            self._metrics.write_retries.inc()
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LAST_RETRY_S)

    async def _receive(self, source: MessageSource, pending: Pending) -> None:
        while True:
            for incoming in await source.receive():
                self._metrics.received.inc()
                parsed = self._decoder.decode(incoming)
                if parsed is None:
                    source.acknowledge([incoming])
                elif pending.add(parsed):
                    self._live.on_arrival(parsed)
            self._count_pending(pending)

    async def _write_all(self, source: MessageSource, pending: Pending, slot: int) -> None:
        marks = Marks(slot)
        await self._until_done(marks.claim, "claiming a slot")
        # Another process may have written what this one has not seen.
        self._latest.distrust()
        writer = Writer(marks, self._handlers)
        while True:
            messages = await pending.take(BATCH_MESSAGES, BATCH_BYTES)
            started = time.perf_counter()
            self._count_pending(pending)
            await self._store(source, writer, messages, pending)
            await asyncio.sleep(max(0.0, FLUSH_EVERY_S - (time.perf_counter() - started)))

    async def _store(
        self, source: MessageSource, writer: Writer, messages: Sequence[Parsed], pending: Pending
    ) -> None:
        """Write, commit, acknowledge, and pass on what was committed."""
        started = time.perf_counter()
        try:
            outcome = await self._write(writer, messages)
        except SlotTakenError:
            raise
        except Exception as fault:
            # A fault of ours must not end the stream: halve the batch until the message behind it stands alone.
            log.exception("ingest_write_failed", waiting=len(messages))
            if len(messages) > 1:
                middle = len(messages) // 2
                await self._store(source, writer, messages[:middle], pending)
                await self._store(source, writer, messages[middle:], pending)
                return
            outcome = await self._bury(writer, messages[0], fault)
        source.acknowledge([parsed.incoming for parsed in messages])
        self._count(outcome, len(messages), time.perf_counter() - started)
        self._spread(outcome, pending)

    async def _write(self, writer: Writer, messages: Sequence[Parsed]) -> Outcome:
        """One batch: these messages are nowhere else, so this ends with their commit, or with a fault of ours."""
        attempt = Attempt()

        async def write(work: Work) -> Outcome:
            now, attempt.unanswered = msgspec.structs.replace(attempt), True
            return await writer.write(work, messages, now)

        try:
            return await self._until_done(write, "writing")
        except InvalidError:
            attempt.careful = True
            return await self._until_done(write, "writing row by row")

    async def _bury(self, writer: Writer, parsed: Parsed, fault: Exception) -> Outcome:
        async def bury(work: Work) -> Outcome:
            return await writer.bury(work, parsed, f"{type(fault).__name__}: {fault}")

        while True:
            try:
                return await self._until_done(bury, "keeping a dead letter")
            except SlotTakenError:
                raise
            except Exception:
                log.exception("dead_letter_not_written", topic=parsed.incoming.topic[:200])
                await asyncio.sleep(LAST_RETRY_S)

    def _count_pending(self, pending: Pending) -> None:
        self._metrics.pending.set(len(pending))
        self._metrics.pending_bytes.set(pending.bytes)
        if pending.dropped:
            self._metrics.dropped.inc(pending.dropped)
            pending.dropped = 0

    def _count(self, outcome: Outcome, messages: int, took_s: float) -> None:
        self._metrics.commit_seconds.observe(took_s)
        self._metrics.batch_messages.observe(messages)
        self._metrics.stored.inc(outcome.stored)
        self._metrics.duplicates.inc(outcome.duplicates)
        for letter in outcome.batch.dead_letters:
            self._metrics.dead_letters.labels(letter.reason).inc()

    def _spread(self, outcome: Outcome, pending: Iterable[Parsed] = ()) -> None:
        """After the commit: what is derived and may be lost."""
        batch = outcome.batch
        for device_id in batch.refused:
            self._live.forget(device_id)
        for parsed, letter in zip(batch.rejected, batch.dead_letters, strict=True):
            if parsed.route is not None and parsed.route.device_id not in batch.refused:
                payload = parsed.message.payload if parsed.message else b""
                self._handlers.refused(parsed.route, payload, f"{letter.reason}: {letter.detail}")
        for device_id, at in batch.heard.items():
            self._vitals.heard(device_id, at.timestamp())
        for parsed in batch.accepted:
            if not parsed.announced:
                self._live.on_commit(parsed)
        if new := self._live.learn(batch.heard):
            for parsed in pending:
                if parsed.route is not None and parsed.route.device_id in new and not parsed.announced:
                    self._live.on_arrival(parsed)
        for sample in batch.samples:
            self._latest.note(sample)
            self._vitals.note(sample)
        for (device_id, name), (frame, _) in batch.frames.items():
            self._latest.note_frame(device_id, name, frame)
