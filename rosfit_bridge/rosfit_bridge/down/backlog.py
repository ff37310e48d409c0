"""Messages that wait to be put into ROS: bounded, and never in the way of commands."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

MOST_WAITING = 1_000
MOST_BYTES = 4 * 1024 * 1024


class Backlog:
    """`put` by any thread; `take` gets one after the other by way of `post`, so that others come in between.

    `dropped` is called for each that gave way to newer ones.
    """

    def __init__(
        self,
        post: Callable[..., Any],
        take: Callable[[str, bytes, Any], None],
        dropped: Callable[[], None],
    ) -> None:
        self._post, self._take, self._dropped = post, take, dropped
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, bytes, Any]] = deque()
        self._bytes = 0
        self._busy = False

    def put(self, topic: str, payload: bytes, properties: Any) -> None:
        with self._lock:
            self._waiting.append((topic, payload, properties))
            self._bytes += len(payload)
            while len(self._waiting) > MOST_WAITING or (self._bytes > MOST_BYTES and len(self._waiting) > 1):
                self._bytes -= len(self._waiting.popleft()[1])
                self._dropped()
            begin, self._busy = not self._busy, True
        if begin:
            self._post(self._next)

    def _next(self) -> None:
        with self._lock:
            self._busy = bool(self._waiting)
            if not self._busy:
                return
            message = self._waiting.popleft()
            self._bytes -= len(message[1])
        self._take(*message)
        self._post(self._next)
