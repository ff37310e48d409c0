"""Nothing old is ever driven: which messages of a stream are too late, without trusting anybody's clock."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

MAX_AGE_S = 1.0
# A sender's clock that was set anew is believed again after so long.
_WINDOW_S = 30.0
# After so much silence a smaller number means that the sender was started again.
_FORGET_SEQ_S = 1.0


class Freshness:
    """Per sender (an envelope's `correlation_id`): rising `seq`, and no more than a second later than its quickest.

    The difference between arrival and `timestamp` is the clocks' difference and the way's time. The smallest one of
    the last while is the quickest way; what took a second longer than that has waited somewhere.
    """

    def __init__(self) -> None:
        self._sender: Any = None
        self._seq = -1
        self._accepted_at = -math.inf
        self._ways: deque[tuple[float, float]] = deque()  # (arrival, difference), differences rising

    def refusal(self, sender: Any, seq: int | None, sent_at: float | None, arrived_at: float) -> str | None:
        """Why not to use it (`sent_at` in Unix seconds, `arrived_at` monotonic); None when it is fresh."""
        if sender != self._sender:
            self._sender, self._seq = sender, -1
            self._ways.clear()
        if seq is not None and seq <= self._seq and arrived_at - self._accepted_at < _FORGET_SEQ_S:
            return f"seq {seq} after {self._seq}"
        if sent_at is not None and (late_s := self._later_than_quickest(sent_at, arrived_at)) > MAX_AGE_S:
            return f"{late_s:.1f} s late"
        if seq is not None:
            self._seq = seq
        self._accepted_at = arrived_at
        return None

    def _later_than_quickest(self, sent_at: float, arrived_at: float) -> float:
        way = arrived_at - sent_at
        ways = self._ways
        while ways and ways[0][0] < arrived_at - _WINDOW_S:
            ways.popleft()
        while ways and ways[-1][1] >= way:
            ways.pop()
        ways.append((arrived_at, way))
        return way - ways[0][1]
