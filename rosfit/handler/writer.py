"""One transaction per batch. Rows that the database itself refuses become dead letters; the rest is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
import psycopg

from rosfit.fleet import repository as fleet
from rosfit.fleet import service as fleet_service
from rosfit.fleet.models import Vitals
from rosfit.handler.batch import Batch
from rosfit.handler.decode import Parsed
from rosfit.handler.marks import Marks
from rosfit.kernel.clock import format_time
from rosfit.kernel.feed import Event
from rosfit.kernel.work import Work
from rosfit.protocol.envelope import Message
from rosfit.protocol.errors import BadMessageError
from rosfit.protocol.topics import Kind, Route
from rosfit.telemetry import repository as telemetry
from rosfit.telemetry.models import NewAlert, NewLog, Sample

# Handles a message whose order per device matters, under a savepoint of its own. Raises BadMessageError.
OrderedHandler = Callable[[Work, Route, Message], Awaitable[None]]
Ordered = tuple[Parsed, Route, Message]

# Handles all messages of a kind in a batch at once, in their order; tells of each what is wrong with it, or None.
BatchHandler = Callable[[Work, Sequence[tuple[Route, Message]]], Awaitable[Sequence[BadMessageError | None]]]


# Is told, after the commit, of what became a dead letter: its route, the payload as far as it was read, and why.
Refused = Callable[[Route, bytes, str], None]


class Handlers(msgspec.Struct, frozen=True):
    """Who handles shadow, command and update messages. Batches go first."""

    ordered: Mapping[Kind, OrderedHandler]
    batched: Mapping[Kind, BatchHandler]
    refused: Refused = lambda *_: None

Row = TypeVar("Row", Sample, NewLog, NewAlert)
Insert = Callable[[psycopg.AsyncConnection[tuple[object, ...]], list[Row]], Awaitable[int]]


class Attempt(msgspec.Struct):
    """What is known of earlier attempts to write the same batch.

    `unanswered`: one may have been committed. `careful`: PostgreSQL refused a row, so find out which.
    """

    unanswered: bool = False
    careful: bool = False


class Outcome(msgspec.Struct):
    """What one committed batch did."""

    batch: Batch
    stored: int
    duplicates: int


class Writer:
    def __init__(self, marks: Marks | None, handlers: Handlers) -> None:
        self._marks = marks
        self._handlers = handlers

    async def write(self, work: Work, messages: Sequence[Parsed], attempt: Attempt | None = None) -> Outcome:
        """Write a batch; the caller commits. Every statement here is safe to run again after a rollback."""
        attempt = attempt or Attempt()
        if self._marks is not None and attempt.unanswered:
            await self._marks.load(work)
        fresh = [parsed for parsed in messages if self._marks is None or not self._marks.is_known(parsed)]
        ids = sorted({parsed.route.device_id for parsed in fresh if parsed.route})
        batch = Batch(await fleet.statuses(work.connection, ids) if ids else {})
        for parsed in fresh:
            batch.add(parsed)
        stored = await self._write_rows(work, batch, careful=attempt.careful)
        await self._handle_ordered(work, batch)
        if changes := batch.status_changes():
            # With the change goes when the device was heard, which otherwise is written once a second.
            heard = {one[0]: Vitals(batch.heard[one[0]].timestamp()) for one in changes if one[0] in batch.heard}
            if heard:
                await fleet.write_vitals(work.connection, heard)
            await fleet_service.apply_changes(work, changes)
        if batch.layouts:
            await fleet.remember_layouts(work.connection, batch.layouts)
        await self._write_dead_letters(work, batch, unanswered=attempt.unanswered)
        await self._write_marks(work, messages, fresh, batch)
        known = len(messages) - len(fresh)
        return Outcome(batch, stored, len(batch.samples) - stored + known)

    async def bury(self, work: Work, parsed: Parsed, why: str) -> Outcome:
        """Keep a message that cannot be written otherwise as a dead letter."""
        batch = Batch({})
        batch.reject(parsed, BadMessageError("not_storable", why))
        await self._write_dead_letters(work, batch, unanswered=True)
        await self._write_marks(work, [parsed], [parsed], batch)
        return Outcome(batch, 0, 0)

    async def _write_rows(self, work: Work, batch: Batch, *, careful: bool) -> int:
        connection = work.connection
        stored = 0
        if batch.samples:
            batch.samples, stored = await _insert(work, batch, batch.samples, telemetry.insert_samples, careful)
        if batch.logs:
            batch.logs, _ = await _insert(work, batch, batch.logs, telemetry.insert_logs, careful)
            for line in batch.logs:
                work.announce(_log_event(line))
        if batch.alerts:
            batch.alerts, _ = await _insert(work, batch, batch.alerts, telemetry.insert_alerts, careful)
            for alert in batch.alerts:
                if not batch.is_in_maintenance(alert.device_id):
                    work.announce(_alert_event(alert))
        for (device_id, name), (frame, qos) in batch.frames.items():
            if qos:
                await telemetry.upsert_frame(connection, device_id, name, frame)
        return stored

    async def _handle_ordered(self, work: Work, batch: Batch) -> None:
        for kind, handle_batch in self._handlers.batched.items():
            if same_kind := [one for one in batch.ordered if one[1].kind is kind]:
                await self._handle_batch(work, batch, handle_batch, same_kind)
        for parsed, route, message in batch.ordered:
            if route.kind in self._handlers.batched:
                continue
            handler = self._handlers.ordered.get(route.kind)
            try:
                if handler is None:
                    raise BadMessageError("no_handler", f"this version does nothing with {route.kind.value}")
                async with work.part():
                    await handler(work, route, message)
            except BadMessageError as bad:
                batch.reject(parsed, bad)
            except psycopg.DataError as error:
                batch.reject(parsed, _not_storable(error))

    async def _handle_batch(self, work: Work, batch: Batch, handle: BatchHandler, messages: Sequence[Ordered]) -> None:
        """All at once; if PostgreSQL refuses something, in halves until what it refuses stands alone."""
        try:
            async with work.part():
                outcomes = await handle(work, [(route, message) for _, route, message in messages])
        except psycopg.DataError as error:
            if len(messages) == 1:
                batch.reject(messages[0][0], _not_storable(error))
                return
            middle = len(messages) // 2
            await self._handle_batch(work, batch, handle, messages[:middle])
            await self._handle_batch(work, batch, handle, messages[middle:])
            return
        for (parsed, _, _), bad in zip(messages, outcomes, strict=True):
            if bad is not None:
                batch.reject(parsed, bad)

    async def _write_dead_letters(self, work: Work, batch: Batch, *, unanswered: bool) -> None:
        letters = batch.dead_letters
        if unanswered and self._marks is not None:
            marks = self._marks
            pairs = zip(batch.rejected, letters, strict=True)
            letters = [letter for parsed, letter in pairs if not marks.has(parsed)]
        if letters:
            await telemetry.insert_dead_letters(work.connection, letters)

    async def _write_marks(
        self, work: Work, messages: Sequence[Parsed], fresh: Sequence[Parsed], batch: Batch
    ) -> None:
        if self._marks is not None:
            anonymous = [parsed for parsed in fresh if parsed.is_anonymous]
            await self._marks.write(work, [*anonymous, *batch.rejected], _newest_packet_id(messages))


def _not_storable(error: psycopg.DataError) -> BadMessageError:
    return BadMessageError("not_storable", f"PostgreSQL cannot store it: {error}")


def _newest_packet_id(messages: Sequence[Parsed]) -> int | None:
    delivered = (parsed.incoming for parsed in reversed(messages))
    return next((one.packet_id for one in delivered if one.qos and not one.dup), None)


async def _insert(
    work: Work, batch: Batch, rows: list[Row], insert: Insert[Row], careful: bool
) -> tuple[list[Row], int]:
    """Insert all rows; when `careful`, halve them until the ones that PostgreSQL refuses stand alone.

    Returns the rows it took and how many of them are new.
    """
    if not careful:
        return rows, await insert(work.connection, rows)
    try:
        async with work.connection.transaction():
            return rows, await insert(work.connection, rows)
    except psycopg.DataError as error:
        if len(rows) == 1:
            batch.reject(batch.sources[id(rows[0])], _not_storable(error))
            return [], 0
        middle = len(rows) // 2
        first, first_new = await _insert(work, batch, rows[:middle], insert, careful)
        second, second_new = await _insert(work, batch, rows[middle:], insert, careful)
        return first + second, first_new + second_new


def _log_event(line: NewLog) -> Event:
    at = format_time(line.time)
    data = {
        "device_id": line.device_id,
        "time": at,
        "level": line.level,
        "message": line.message,
        "logger": line.logger,
        "fields": line.fields,
    }
    return Event("logs", line.device_id, line.level, msgspec.json.encode(data), at)


def _alert_event(alert: NewAlert) -> Event:
    at = format_time(alert.time)
    data = {
        "device_id": alert.device_id,
        "time": at,
        "name": alert.name,
        "severity": alert.severity,
        "message": alert.message,
    }
    return Event("alerts", alert.device_id, alert.name, msgspec.json.encode(data), at)
