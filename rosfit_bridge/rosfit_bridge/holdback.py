"""QoS 0 samples while the socket takes no more: newest wins, per stream, oldest first out."""

from __future__ import annotations

from collections import deque

from rosfit_bridge.envelope import Outgoing

SMALL_BYTES = 64 * 1024
SMALL_DEPTH, LARGE_DEPTH = 50, 2


class Holdback:
    def __init__(self) -> None:
        self._streams: dict[str, deque[tuple[int, Outgoing]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return sum(map(len, self._streams.values())) if self._streams else 0

    def put(self, message: Outgoing) -> int:
        """Returns how many older ones were dropped for it."""
        waiting = self._streams.setdefault(message.topic, deque())
        depth = SMALL_DEPTH if len(message.payload) <= SMALL_BYTES else LARGE_DEPTH
        dropped = 0
        while len(waiting) >= depth:
            waiting.popleft()
            dropped += 1
        self._count += 1
        waiting.append((self._count, message))
        return dropped

    def pop(self) -> Outgoing | None:
        """The one that has waited longest."""
        if not self._streams:
            return None
        topic = min(self._streams, key=lambda t: self._streams[t][0][0])
        waiting = self._streams[topic]
        _, message = waiting.popleft()
        if not waiting:
            del self._streams[topic]
        return message

    def clear(self) -> int:
        count = len(self)
        self._streams.clear()
        return count
