"""Ingest slots: durable sessions with fixed client ids, each run by one server process at a time.

The lease of a slot is a PostgreSQL session lock. When its process dies, the lock goes with the connection, and
another process takes over the slot and what the broker has queued for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import structlog

from rosfit.kernel.errors import UnavailableError

log = structlog.get_logger(__name__)

RETRY_S = 1.0

# Waits for the slot's lock, holds it inside, and raises UnavailableError when it is lost.
Lease = Callable[[int], AbstractAsyncContextManager[Awaitable[None]]]


async def hold_slot(slot: int, lease: Lease, work: Callable[[int], Awaitable[None]]) -> None:
    """Run `work(slot)` whenever this process holds the slot's lease, until cancelled."""
    while True:
        try:
            async with lease(slot) as lost:
                log.info("slot_leased", slot=slot)
                await _until_lost(work(slot), lost)
        except* UnavailableError as errors:
            log.warning("slot_lost", slot=slot, why=str(_first(errors)))
        except* Exception:
            # A fault of ours: what is not acknowledged comes again, to this process or to another.
            log.exception("slot_failed", slot=slot)
        await asyncio.sleep(RETRY_S)


def _first(errors: BaseException) -> BaseException:
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors


async def _until_lost(work: Awaitable[None], lost: Awaitable[None]) -> None:
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(lost)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
