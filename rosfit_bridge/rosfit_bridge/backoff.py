"""How long to wait before the next attempt."""

from __future__ import annotations

import random

# A connection that broke sooner counts as another failure: two bridges that share a device id throw each other out.
STABLE_S = 10.0


class Backoff:
    """Doubles from `low` to `high`; each wait is drawn from its upper half, so that a fleet does not return at once."""

    def __init__(self, low: float, high: float, rng: random.Random | None = None) -> None:
        self._low, self._high = low, high
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._failures = 0

    def failed(self) -> float:
        """Seconds to wait."""
        ceiling = min(self._high, self._low * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return self._rng.uniform(ceiling / 2, ceiling)

    def was_connected(self, seconds: float) -> None:
        if seconds >= STABLE_S:
            self._failures = 0
