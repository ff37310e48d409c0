"""What waits to be written, in order of arrival and bounded.

QoS 1 is bounded by the broker's receive-maximum: what a new connection delivers again takes the place of what still
waits from the last one. QoS 0 is bounded here, by messages per stream and by memory over all; past a bound the oldest
waiting sample of that stream goes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

import msgspec

from rosfit.handler.decode import Parsed

STREAM_LIMIT = 1000
BYTES_LIMIT = 64 * 1024 * 1024

# What a waiting message takes beside its payload, which is there twice: as it came and as the sample's.
_OVERHEAD_BYTES = 900


class _Entry(msgspec.Struct, gc=False):
    parsed: Parsed | None
    size: int


class Pending:
    def __init__(self, stream_limit: int = STREAM_LIMIT, bytes_limit: int = BYTES_LIMIT) -> None:
        self._stream_limit = stream_limit
        self._bytes_limit = bytes_limit
        self._entries: deque[_Entry] = deque()
        # QoS 0 only, by topic: the same entries, oldest first.
        self._by_stream: dict[str, deque[_Entry]] = {}
        # QoS 1 and 2 only, by packet id.
        self._unacknowledged: dict[int, _Entry] = {}
        self._gone = 0
        self._arrived = asyncio.Event()
        # About what all of it takes in memory.
        self.bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._entries) - self._gone

    def __iter__(self) -> Iterator[Parsed]:
        return (entry.parsed for entry in self._entries if entry.parsed is not None)

    def add(self, parsed: Parsed) -> bool:
        """False for a redelivery of what waits already."""
        incoming = parsed.incoming
        entry = _Entry(parsed, 2 * len(incoming.payload) + _OVERHEAD_BYTES)
        if incoming.qos == 0:
            self._make_room(incoming.topic, entry)
            if entry.parsed is None:
                return True
        else:
            if self._is_redelivery(parsed):
                return False
            self._unacknowledged[incoming.packet_id] = entry
        self._entries.append(entry)
        self.bytes += entry.size
        self._arrived.set()
        return True

    def _is_redelivery(self, parsed: Parsed) -> bool:
        """Let a redelivery take the place of the first delivery, so that it is this one that is acknowledged."""
        waiting = self._unacknowledged.get(parsed.incoming.packet_id)
        if waiting is None or waiting.parsed is None or not parsed.replaces(waiting.parsed):
            return False
        parsed.announced = waiting.parsed.announced
        waiting.parsed = parsed
        return True

    def _make_room(self, stream: str, entry: _Entry) -> None:
        """Drop the oldest of the stream while a bound is passed; the new one itself when nothing else waits."""
        waiting = self._by_stream.setdefault(stream, deque())
        while waiting and (len(waiting) >= self._stream_limit or self.bytes + entry.size > self._bytes_limit):
            self._drop(waiting.popleft())
        if self.bytes + entry.size > self._bytes_limit:
            entry.parsed = None
            self.dropped += 1
            if not waiting:
                del self._by_stream[stream]
            return
        waiting.append(entry)

    def _drop(self, entry: _Entry) -> None:
        entry.parsed = None
        self.bytes -= entry.size
        self.dropped += 1
        self._gone += 1
        if self._gone > 1000 and self._gone > len(self._entries) // 2:
            self._entries = deque(kept for kept in self._entries if kept.parsed is not None)
            self._gone = 0

    async def take(self, limit: int, bytes_limit: int) -> list[Parsed]:
        """Wait for at least one message; then up to `limit` of them or about `bytes_limit`, oldest first."""
        while not len(self):
            self._arrived.clear()
            await self._arrived.wait()
        taken: list[Parsed] = []
        size = 0
        while self._entries and len(taken) < limit and size < bytes_limit:
            entry = self._entries.popleft()
            if entry.parsed is None:
                self._gone -= 1
                continue
            self._forget(entry, entry.parsed)
            taken.append(entry.parsed)
            size += entry.size
        self.bytes -= size
        return taken

    def _forget(self, entry: _Entry, parsed: Parsed) -> None:
        if parsed.incoming.qos:
            if self._unacknowledged.get(parsed.incoming.packet_id) is entry:
                del self._unacknowledged[parsed.incoming.packet_id]
        else:
            waiting = self._by_stream[parsed.incoming.topic]
            waiting.popleft()
            if not waiting:
                del self._by_stream[parsed.incoming.topic]
