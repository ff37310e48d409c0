"""What people do to a simulated robot: hold its stick, stop it, and let it go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

Velocity = tuple[float, float]  # m/s and rad/s

STILL: Velocity = (0.0, 0.0)

# As on a real robot, which stands when its driver is not heard.
WATCHDOG_S = 0.5
# So long it stands for a driver who let go; then it goes its own ways again.
PATIENCE_S = 10.0
# So long an emergency stop holds without `resume`: nobody can walk up to a simulated robot.
STOPPED_S = 60.0


@dataclass
class Remote:
    clock: Callable[[], float] = time.monotonic
    _velocity: Velocity = STILL
    _heard_at: float = -math.inf
    _stopped_at: float = -math.inf

    def drive(self, velocity: Velocity) -> None:
        self._velocity, self._heard_at = velocity, self.clock()

    def stop(self) -> None:
        self._stopped_at, self._heard_at = self.clock(), -math.inf

    def resume(self) -> None:
        self._stopped_at = self._heard_at = -math.inf

    def wanted(self) -> Velocity | None:
        """None: it goes its own ways."""
        now = self.clock()
        if now - self._stopped_at < STOPPED_S:
            return STILL
        silent_s = now - self._heard_at
        if silent_s < WATCHDOG_S:
            return self._velocity
        return STILL if silent_s < PATIENCE_S else None
