"""A file that is taken away piece by piece while a library writes it."""

from __future__ import annotations


class Sink:
    """Enough of a binary file for writers that only append."""

    closed = False

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._taken = 0

    def write(self, data: bytes) -> int:
        self._waiting += data
        return len(data)

    def tell(self) -> int:
        return self._taken + len(self._waiting)

    def flush(self) -> None:
        """There is nothing behind it."""

    def take(self) -> bytes:
        """What was written since the last time."""
        piece = bytes(self._waiting)
        self._taken += len(piece)
        self._waiting.clear()
        return piece
