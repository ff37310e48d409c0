"""What a simulation sent and what became of it."""

from __future__ import annotations

import msgspec


class Count(msgspec.Struct):
    """Messages of one row. At QoS 0 nobody acknowledges: there `acknowledged` stays 0.

    `failed` were refused by the broker, found no connection or no room, or were never acknowledged.
    """

    sent: int = 0
    acknowledged: int = 0
    failed: int = 0


class Summary(msgspec.Struct):
    """Of a whole run; `connects` and `losses` count connections of all robots, `updates` their ends by status."""

    robots: int
    seconds: float = 0.0
    connects: int = 0
    losses: int = 0
    refusals: dict[str, int] = {}
    streams: dict[str, Count] = {}
    updates: dict[str, int] = {}

    def of(self, row: str) -> Count:
        count = self.streams.get(row)
        if count is None:
            count = self.streams[row] = Count()
        return count

    def total(self) -> Count:
        counts = self.streams.values()
        return Count(
            sum(count.sent for count in counts),
            sum(count.acknowledged for count in counts),
            sum(count.failed for count in counts),
        )
