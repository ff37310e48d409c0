"""`telemetry/status`: what a robot says of itself every few seconds."""

from __future__ import annotations

import math
from typing import Any

from rosfit_bridge.counters import Counters
from rosfit_bridge.vitals import Vitals, versions

_FAR_AWAY = 1e100


class Heartbeat:
    """`battery` in percent and `position` appear once a mapped topic has brought them."""

    def __init__(self, vitals: Vitals, counters: Counters) -> None:
        self._vitals, self._counters = vitals, counters
        self._versions = versions()
        self._battery: float | None = None
        self._position: dict[str, Any] | None = None

    def payload(self) -> dict[str, Any]:
        beat = self._vitals.read()
        if self._battery is not None:
            beat["battery"] = self._battery
        if self._position is not None:
            beat["position"] = self._position
        beat["versions"] = self._versions
        beat["bridge"] = {"memory_mb": self._vitals.own_memory_mb(), **self._counters.as_dict()}
        return beat

    def saw_battery(self, message: dict[str, Any]) -> None:
        """sensor_msgs/BatteryState: `percentage` is 0 to 1, NaN when unmeasured."""
        level = message["percentage"]
        if isinstance(level, (int, float)):
            self._battery = round(100.0 * level, 1)

    def saw_odometry(self, message: dict[str, Any]) -> None:
        pose = message["pose"]["pose"]
        at, turn = pose["position"], pose["orientation"]
        # Products of them must be finite, too, and a unit quaternion has nothing above 1.
        numbers = [at["x"], at["y"], at["z"], *turn.values()]
        if not all(isinstance(n, (int, float)) and abs(n) < _FAR_AWAY for n in numbers):
            return
        position = {name: round(at[name], 4) for name in ("x", "y", "z")}
        self._position = {**position, "theta": round(_yaw(turn), 4), "frame": message["header"]["frame_id"]}


def _yaw(q: dict[str, float]) -> float:
    return math.atan2(2.0 * (q["w"] * q["z"] + q["x"] * q["y"]), 1.0 - 2.0 * (q["y"] ** 2 + q["z"] ** 2))


TAPS = {
    "sensor_msgs/msg/BatteryState": Heartbeat.saw_battery,
    "nav_msgs/msg/Odometry": Heartbeat.saw_odometry,
}
