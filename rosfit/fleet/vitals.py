"""Battery and pose, read from whatever a device publishes without configuration."""

from __future__ import annotations

import math
from typing import Any

# Streams that may hold vitals, best first: the bridge's heartbeat, ROS messages by habit, generic devices.
BATTERY_STREAMS = ("status", "battery", "battery_state", "custom/battery", "default")
POSE_STREAMS = ("odom", "pose", "amcl_pose", "status", "default")
VITAL_STREAMS = frozenset(BATTERY_STREAMS) | frozenset(POSE_STREAMS)


def number_of(value: Any) -> float | None:
    """A finite number, where it is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of more than 308 digits
        return None
    return number if math.isfinite(number) else None


def battery_percent(stream: str, payload: dict[str, Any]) -> float | None:
    """Percent, 0 to 100. `percentage` is sensor_msgs/BatteryState's fraction where the message is one."""
    if "power_supply_status" in payload or stream in {"battery_state"}:
        fraction = number_of(payload.get("percentage"))
        return None if fraction is None else _bounded(fraction * 100)
    battery = payload.get("battery")
    if isinstance(battery, dict):
        return battery_percent("battery", battery)
    for key in ("battery", "battery_percent", "battery_level", "percentage", "percent", "level", "soc"):
        if key.startswith("battery") or stream.endswith("battery"):
            value = number_of(payload.get(key))
            if value is not None:
                return _bounded(value * 100 if key == "percentage" and value <= 1 else value)
    return None


def _bounded(percent: float) -> float:
    return round(min(100.0, max(0.0, percent)), 1)


def pose_of(payload: dict[str, Any]) -> dict[str, float] | None:
    """`{x, y, theta}` in metres and radians from an odometry, a pose or a flat object."""
    pose = payload.get("pose", payload.get("position", payload))
    while isinstance(pose, dict) and isinstance(pose.get("pose"), dict):
        pose = pose["pose"]
    if not isinstance(pose, dict):
        return None
    position = pose["position"] if isinstance(pose.get("position"), dict) else pose
    x, y = number_of(position.get("x")), number_of(position.get("y"))
    if x is None or y is None:
        return None
    return {"x": round(x, 3), "y": round(y, 3), "theta": round(_heading(pose), 4)}


def _heading(pose: dict[str, Any]) -> float:
    orientation = pose.get("orientation")
    if isinstance(orientation, dict):
        x, y, z, w = (number_of(orientation.get(axis)) or 0.0 for axis in "xyzw")
        return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    for key in ("theta", "yaw", "heading"):
        if (value := number_of(pose.get(key))) is not None:
            return value
    return 0.0
