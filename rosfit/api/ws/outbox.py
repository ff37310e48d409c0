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
# A robot may name as many streams as it likes: past this, the channels that have been quiet for longest go.
NEWEST_LIMIT_BYTES = 16 * 1024 * 1024
# What an event takes beside its data.
_OVERHEAD_BYTES = 500
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
        if self._newest is None and (len(self._events) >= self._limit or self._bytes > EVENTS_LIMIT_BYTES):
            self._newest, self._bytes = {}, 0
            for waiting in self._events:
                self._keep_newest(self._newest, *waiting)
            self._events.clear()
        if self._newest is None:
            self._events.append((channel, event))
            self._bytes += len(event.data)
        else:
            self._keep_newest(self._newest, channel, event)
        self._some.set()

    def _keep_newest(self, newest: dict[str, Event], channel: str, event: Event) -> None:
        """In the order of the newest, so that the first is of the channel that has been quiet for longest."""
        self._drop(newest, channel)
        newest[channel] = event
        self._bytes += len(event.data) + _OVERHEAD_BYTES
        while self._bytes > NEWEST_LIMIT_BYTES:
            self._drop(newest, next(iter(newest)))

    def _drop(self, newest: dict[str, Event], channel: str) -> None:
        if dropped := newest.pop(channel, None):
            self._bytes -= len(dropped.data) + _OVERHEAD_BYTES
            self.skipped += 1

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
