"""Standing still when nobody drives any more: decided here, on the robot."""

from __future__ import annotations

import math

# Zero is said for this long, as the first ones may be lost; then silence, so that twist_mux can hand over.
ZERO_FOR_S = 1.0
ZERO_EVERY_S = 0.05


class Watchdog:
    """Times are seconds of a monotonic clock. No thread and no lock of its own."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._fed_at: float | None = None  # None: nobody drives
        self._stop_at: float | None = None  # since when zero is said
        self._zero_at = math.inf
        self._held = False

    @property
    def held(self) -> bool:
        return self._held

    def feed(self, at: float, *, still: bool) -> bool:
        """Whether this message may pass. After `hold`, nothing passes until the stick has been let go of."""
        if self._held:
            silent = self._fed_at is None or at - self._fed_at >= self._timeout_s
            self._fed_at = at
            if not (still or (silent and not self._stopping(at))):
                return False
            self._held = False
        self._fed_at, self._stop_at, self._zero_at = at, None, at + self._timeout_s
        return True

    def stop(self, at: float) -> None:
        """Zero from now on, if anybody was driving."""
        if self._fed_at is not None and self._stop_at is None and not self._held:
            self._begin(at)

    def hold(self, at: float) -> None:
        """An emergency stop: zero in any case."""
        self._held = True
        self._begin(at)

    def due(self, at: float) -> bool:
        """Whether to say zero now."""
        if at < self._zero_at:
            return False
        if self._stop_at is None:
            self._begin(at)
        if at - (self._stop_at or at) >= ZERO_FOR_S:
            self._zero_at = math.inf
            if not self._held:
                self._fed_at = self._stop_at = None
            return False
        self._zero_at = at + ZERO_EVERY_S
        return True

    @property
    def next_at(self) -> float:
        """When `due` is to be asked again; infinity when there is nothing to watch."""
        return self._zero_at

    def _begin(self, at: float) -> None:
        self._stop_at = self._zero_at = at

    def _stopping(self, at: float) -> bool:
        return self._stop_at is not None and at - self._stop_at < ZERO_FOR_S
