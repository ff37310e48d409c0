"""What a socket still has to send: bounded, so that a slow reader gets the newest and never a growing queue."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from rosfit.api.ws.channels import event_channel
from rosfit.kernel.feed import Event

# Past this many waiting events a reader is slow, and only the newest of each channel is kept.
EVENTS_LIMIT = 1_000
EVENTS_LIMIT_BYTES = 4 * 1024 * 1024
ANSWERS_LIMIT = 1_000


class Outbox:
    def __init__(self, events_limit: int = EVENTS_LIMIT) -> None:
        self._limit = events_limit
        self._answers: deque[dict[str, Any]] = deque(maxlen=ANSWERS_LIMIT)
        self._events: deque[tuple[str, Event]] = deque()
        self._bytes = 0
        self._newest: dict[str, Event] | None = None
        self._some = asyncio.Event()
        self.skipped = 0

    def answer(self, message: dict[str, Any]) -> None:
        self._answers.append(message)
        self._some.set()

    def push(self, event: Event) -> None:
        channel = event_channel(event)
        self._bytes += len(event.data)
        if self._newest is None and (len(self._events) >= self._limit or self._bytes > EVENTS_LIMIT_BYTES):
            self._newest = {}
            for waiting, older in self._events:
                self._newest[waiting] = older
            self.skipped += len(self._events) - len(self._newest)
            self._events.clear()
        if self._newest is None:
            self._events.append((channel, event))
        else:
            self.skipped += channel in self._newest
            self._newest[channel] = event
        self._some.set()

    async def take(self) -> tuple[list[dict[str, Any]], list[tuple[str, Event]]]:
        """Wait for something; then all answers and events that wait."""
        await self._some.wait()
        self._some.clear()
        answers, self._answers = list(self._answers), deque(maxlen=ANSWERS_LIMIT)
        events = list(self._events) if self._newest is None else list(self._newest.items())
        self._events.clear()
        self._newest = None
        self._bytes = 0
        return answers, events
