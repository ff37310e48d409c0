"""Driving by hand: what a stick's message may become, and when the robot must be told to stand still. Pure."""

from __future__ import annotations

import math
from collections import deque
from typing import Annotated, Any

import msgspec

# Without a new command for this long the robot is told to stand still; the bridge decides the same by itself.
STILL_AFTER_S = 0.5

# A driver is trusted for this long after the last ping, or after the beginning.
PING_WITHIN_S = 3.0

# A lease that was not renewed for this long is anybody's: its process is dead.
LEASE_STALE_S = 3.0

MESSAGES_PER_S = 150

DEFAULT_LIMITS = (1.0, 2.0)


class Drive(msgspec.Struct, frozen=True):
    """What the client sends: metres and radians per second."""

    seq: Annotated[int, msgspec.Meta(ge=0)]
    linear_x: float = 0.0
    angular_z: float = 0.0


class Velocity(msgspec.Struct, frozen=True):
    linear_x: float
    angular_z: float


STILL = Velocity(0.0, 0.0)


class Stick:
    """One driver's stick, from the moment `at` on. Times are seconds of a monotonic clock."""

    def __init__(self, at: float, limits: tuple[float, float] = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._seq = -1
        self._times: deque[float] = deque(maxlen=MESSAGES_PER_S)
        self._moved_at: float | None = None
        self._pinged_at = at

    def admits(self, at: float) -> bool:
        """Whether one more message is within the limit; whatever it says."""
        if len(self._times) == MESSAGES_PER_S and at - self._times[0] < 1.0:
            return False
        self._times.append(at)
        return True

    def drive(self, wanted: Drive, at: float) -> Velocity | None:
        """The clamped velocity; None for one that is old, or not to be trusted any more."""
        if wanted.seq <= self._seq:
            return None
        self._seq = wanted.seq
        if self._ping_missed(at):
            return None
        velocity = clamped(wanted, self._limits)
        self._moved_at = None if velocity == STILL else at
        return velocity

    def ping(self, at: float) -> None:
        self._pinged_at = at

    def must_stop(self, at: float) -> bool:
        """Whether zero is due now; it is due once."""
        if self._moved_at is None:
            return False
        if at - self._moved_at >= STILL_AFTER_S or self._ping_missed(at):
            self._moved_at = None
            return True
        return False

    def _ping_missed(self, at: float) -> bool:
        return at - self._pinged_at > PING_WITHIN_S


def clamped(wanted: Drive, limits: tuple[float, float]) -> Velocity:
    """Raises ValueError for what is no number."""
    if not (math.isfinite(wanted.linear_x) and math.isfinite(wanted.angular_z)):
        raise ValueError("linear_x and angular_z are finite numbers")
    linear, angular = limits
    return Velocity(max(-linear, min(linear, wanted.linear_x)), max(-angular, min(angular, wanted.angular_z)))


def limits_of(metadata: dict[str, Any]) -> tuple[float, float]:
    """`metadata.teleop` of a device may say `{"linear_x": 0.6, "angular_z": 1.2}`."""
    own = metadata.get("teleop")
    found = own if isinstance(own, dict) else {}
    return _limit(found.get("linear_x"), DEFAULT_LIMITS[0]), _limit(found.get("angular_z"), DEFAULT_LIMITS[1])


def _limit(value: Any, default: float) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 100
    return float(value) if usable else default


def twist(velocity: Velocity) -> dict[str, dict[str, float]]:
    """geometry_msgs/Twist."""
    return {
        "linear": {"x": velocity.linear_x, "y": 0.0, "z": 0.0},
        "angular": {"x": 0.0, "y": 0.0, "z": velocity.angular_z},
    }
