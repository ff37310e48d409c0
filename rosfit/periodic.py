"""Work that comes round by itself. What only one process may do is done by the one that holds the lock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import structlog

from rosfit.accounts import service as accounts
from rosfit.fleet import service as fleet
from rosfit.fleet.service import BrokerAccess
from rosfit.handler.hot import VITALS_EVERY_S, VitalsBook
from rosfit.kernel.clock import now
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.ports import ObjectStore
from rosfit.kernel.work import OpenWork
from rosfit.ota import artifacts
from rosfit.shadow import service as shadow
from rosfit.telemetry import dead_letters
from rosfit.telemetry import service as telemetry

log = structlog.get_logger(__name__)

SILENCE_EVERY_S = 1.0
# A database that takes so long over what was heard stands still; nobody is judged by what it last had.
STALL_S = 1.0
HOUSEKEEPING_EVERY_S = 3600.0
EXPIRY_MARGIN_S = 0.2

Elected = Callable[[], AbstractAsyncContextManager[Awaitable[None]]]


class Periodic:
    def __init__(
        self,
        open_work: OpenWork,
        vitals: VitalsBook,
        heartbeat_timeout_s: float,
        access: BrokerAccess | None,
        objects: ObjectStore,
        shadow_history_limit: int,
    ) -> None:
        self._open_work = open_work
        self._vitals = vitals
        self._timeout_s = heartbeat_timeout_s
        self._access = access
        self._objects = objects
        self._shadow_history_limit = shadow_history_limit

    async def write_vitals(self) -> None:
        """In every process: what its slots heard."""
        while True:
            await asyncio.sleep(VITALS_EVERY_S)
            await _try(self.write_vitals_once)

    async def write_vitals_once(self) -> None:
        async with self._open_work() as work:
            await self._vitals.write(work)

    async def watch_silence(self, hearing_for_s: Callable[[], float]) -> None:
        """In the process that has the first ingest slot, for as long as it has it: who says nothing goes offline.

        `hearing_for_s` tells for how long the broker has been heard without a break. While the broker was not heard,
        or the database did not take what was heard, nobody can be said to have been silent: each device first gets
        the whole timeout to be heard again.
        """
        writing_since = time.monotonic()
        while True:
            await asyncio.sleep(SILENCE_EVERY_S)
            asked_at = time.monotonic()
            written = await _try(self.write_vitals_once)
            if not written or time.monotonic() - asked_at > STALL_S:
                writing_since = time.monotonic()
            if min(hearing_for_s(), time.monotonic() - writing_since) > self._timeout_s:
                await _try(self._mark_silent)

    async def run(self, elected: Elected) -> None:
        """In one process at a time: partitions, and what has run out."""
        while True:
            try:
                async with elected() as lost:
                    await self._lead(asyncio.ensure_future(lost))
            except UnavailableError as error:
                log.warning("periodic_work_paused", why=error.detail)
            await asyncio.sleep(1)

    async def _lead(self, lost: asyncio.Future[None]) -> None:
        while not lost.done():
            await _try(self._keep_house)
            await _try(self._sweep_objects)
            await asyncio.wait({lost}, timeout=HOUSEKEEPING_EVERY_S)
        lost.result()

    async def _mark_silent(self) -> None:
        # By our own clock and from before the question: it may be held up, and what is heard meanwhile not be seen.
        heard_before = now() - timedelta(seconds=self._timeout_s)
        async with self._open_work() as work:
            await fleet.mark_silent(work, heard_before)

    async def _keep_house(self) -> None:
        await self.add_partitions()
        async with self._open_work() as work:
            await accounts.delete_expired(work)
            await dead_letters.trim(work)
            await shadow.trim(work, self._shadow_history_limit)

    async def _sweep_objects(self) -> None:
        if swept := await artifacts.sweep(self._open_work, self._objects):
            log.info("objects_swept", count=swept)

    async def add_partitions(self) -> None:
        async with self._open_work() as work:
            if added := await telemetry.add_partitions(work):
                log.info("partitions_added", count=added)

    async def keep_broker_synced(self, changes: AsyncIterator[None]) -> None:
        """Whoever changed a credential (a command beside us, the end of its time), the broker must know."""
        changed = asyncio.ensure_future(anext(changes))
        try:
            while True:
                await asyncio.wait({changed}, timeout=await self._until_expiry_s())
                if changed.done():
                    await changed
                    changed = asyncio.ensure_future(anext(changes))
                await _try(self.sync_broker)
        finally:
            changed.cancel()

    async def _until_expiry_s(self) -> float | None:
        """Until the next credential runs out; None if none does, or if nobody can tell just now."""
        try:
            async with self._open_work() as work:
                at = await fleet.next_expiry(work)
        except UnavailableError:
            return None
        # By the database's clock, which may be behind ours.
        return None if at is None else max(EXPIRY_MARGIN_S, (at - now()).total_seconds() + EXPIRY_MARGIN_S)

    async def sync_broker(self) -> None:
        if self._access is not None:
            async with self._open_work() as work:
                await fleet.sync_broker(work, self._access)


async def _try(step: Callable[[], Awaitable[None]]) -> bool:
    """Whether it was done."""
    try:
        await step()
    except UnavailableError as error:
        log.warning("periodic_step_failed", step=step.__name__, why=error.detail)
    except Exception:
        # A fault of ours in one step must not end the process; the step comes round again.
        log.exception("periodic_step_failed", step=step.__name__)
    else:
        return True
    return False
