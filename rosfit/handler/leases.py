"""Work that one server process at a time does: an ingest slot, publishing commands.

The lease is a PostgreSQL session lock. When its process dies, the lock goes with the connection, and another process
takes over; for a slot, with what the broker has queued for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import structlog

from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.loops import run_together

log = structlog.get_logger(__name__)

RETRY_S = 1.0

# Waits for the lock, holds it inside, and yields what raises UnavailableError when it is lost.
Lease = Callable[[], AbstractAsyncContextManager[Awaitable[None]]]


async def hold_lease(name: str, lease: Lease, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` whenever this process holds the lease, until cancelled."""
    while True:
        try:
            async with lease() as lost:
                log.info("lease_taken", lease=name)
                await run_together(work(), lost)
        except UnavailableError as error:
            log.warning("lease_lost", lease=name, why=error.detail)
        except Exception:
            # A fault of ours: what is not acknowledged comes again, to this process or to another.
            log.exception("lease_failed", lease=name)
        await asyncio.sleep(RETRY_S)
