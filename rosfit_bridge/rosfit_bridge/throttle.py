"""How often something may pass."""

from __future__ import annotations


class Throttle:
    """At most `hz` a second, evenly. Slots keep their grid, so that 50 Hz thinned to 10 Hz is 10 Hz and not 8.3.

    A tenth of a period of slack lets a 10 Hz source with jitter through a 10 Hz throttle whole.
    """

    def __init__(self, hz: float | None) -> None:
        self._period = 1.0 / hz if hz else 0.0
        self._next = float("-inf")

    def ready(self, now: float) -> bool:
        period = self._period
        if not period:
            return True
        if now < self._next - 0.1 * period:
            return False
        behind = now - self._next
        self._next = now + period if behind > period else self._next + period
        return True


def complaints() -> Throttle:
    """For the log: what goes wrong thirty times a second is told once a minute. The counters have the number."""
    return Throttle(1 / 60)


class TokenBucket:
    """`burst` at once, `rate` a second in the long run; what does not pass is counted until somebody asks."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        self._tokens = self._burst
        self._last = float("-inf")
        self._suppressed = 0

    def take(self, now: float) -> bool:
        if self._last != float("-inf"):
            self._tokens = min(self._burst, self._tokens + (now - self._last) * self._rate)
        self._last = now
        if self._tokens < 1.0:
            self._suppressed += 1
            return False
        self._tokens -= 1.0
        return True

    def suppressed(self) -> int:
        """How many were held back since the last call."""
        count, self._suppressed = self._suppressed, 0
        return count
