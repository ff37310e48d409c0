"""A unit of work: one database transaction, and the events to announce once it has committed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from psycopg import AsyncConnection

from rosfit.kernel.feed import Event


class Work:
    """Services write through `connection`; only the edge that made the work commits it."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection
        self.events: list[Event] = []
        self.after_commit: list[Callable[[], Awaitable[None]]] = []

    def announce(self, event: Event) -> None:
        self.events.append(event)

    def then(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action` after the commit; it must be safe to lose, since the process may die before it."""
        self.after_commit.append(action)

    @asynccontextmanager
    async def part(self) -> AsyncIterator[None]:
        """A savepoint: what fails inside leaves nothing in the database, and nothing to announce."""
        events, actions = len(self.events), len(self.after_commit)
        try:
            async with self.connection.transaction():
                yield
        except BaseException:
            del self.events[events:], self.after_commit[actions:]
            raise


OpenWork = Callable[[], AbstractAsyncContextManager[Work]]
