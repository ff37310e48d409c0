"""Units of work for verbs that run beside a server, on the same stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg

from rosfit.infra.migrations import current_revision, head_revision
from rosfit.infra.redis import open_store
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.work import Work
from rosfit.settings import Settings
from rosfit.shadow.hot import HotShadows
from rosfit.supervisor import Endpoints

T = TypeVar("T")


@asynccontextmanager
async def work_beside(settings: Settings) -> AsyncIterator[Work]:
    """One unit of work; commits at the end. Raises UnavailableError when no server can be reached."""
    endpoints = Endpoints.discover(settings)
    url = endpoints.database_url
    try:
        await asyncio.to_thread(_check_schema, url)
        async with open_store(endpoints.redis_url) as store:
            shadows = HotShadows(store, distrust=lambda: None)
            async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
                work = Work(connection)
                yield work
                claim = await shadows.claim(work.events)
            await shadows.put(claim)
    except psycopg.OperationalError as error:
        raise UnavailableError(f"PostgreSQL does not answer ({error}); is `rosfit serve` running?") from error


def run_beside(settings: Settings, step: Callable[[Work], Awaitable[T]]) -> T:
    """`step` in one unit of work."""

    async def run() -> T:
        async with work_beside(settings) as work:
            return await step(work)

    return asyncio.run(run())


def _check_schema(url: str) -> None:
    found, wanted = current_revision(url), head_revision()
    if found != wanted:
        raise UnavailableError(f"the database is at revision {found}, not {wanted}: run `rosfit migrate`")
