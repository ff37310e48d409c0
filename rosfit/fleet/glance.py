"""A robot's health at a glance, read from the newest samples without configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rosfit.fleet.models import Device
from rosfit.fleet.vitals import POSE_STREAMS, number_of, pose_of
from rosfit.kernel.clock import WireTime

# diagnostic_msgs/DiagnosticStatus; a newer ROS sends the byte as a number, an older bridge as text.
_LEVELS = {0: "OK", 1: "WARN", 2: "ERROR", 3: "STALE"}


class Joint(msgspec.Struct, frozen=True):
    """`position` in radians or metres, `temperature` in degrees Celsius."""

    name: str
    position: float | None = None
    velocity: float | None = None
    effort: float | None = None
    temperature: float | None = None


class Trouble(msgspec.Struct, frozen=True):
    """A diagnostic that is not well."""

    code: str
    level: str
    message: str


class RobotStatus(msgspec.Struct, frozen=True):
    """`battery` in percent, `pose` in metres and radians."""

    device_id: str
    name: str
    status: str
    status_reason: str | None
    battery: float | None
    pose: dict[str, float] | None
    joints: list[Joint]
    error_codes: list[Trouble]
    current_task: Any
    last_seen: WireTime | None


def at_a_glance(device: Device, samples: Mapping[str, Any], current_task: Any = None) -> RobotStatus:
    """`samples` has the newest payload of each stream."""
    poses = (pose_of(samples[stream]) for stream in POSE_STREAMS if isinstance(samples.get(stream), dict))
    return RobotStatus(
        device.device_id,
        device.name,
        device.status,
        device.status_reason,
        device.battery,
        next(filter(None, poses), None),
        _joints(samples),
        _troubles(samples),
        current_task,
        device.last_seen,
    )


def _joints(samples: Mapping[str, Any]) -> list[Joint]:
    found = (samples.get(stream) for stream in ("joint_states", "joints"))
    state: dict[str, Any] = next((payload for payload in found if isinstance(payload, dict)), {})
    names = state.get("name", [])
    if not isinstance(names, list):
        return []
    return [
        Joint(
            str(name),
            _at(state.get("position"), index),
            _at(state.get("velocity"), index),
            _at(state.get("effort"), index),
            _at(state.get("temperature", state.get("temperatures")), index),
        )
        for index, name in enumerate(names)
    ]


def _at(values: Any, index: int) -> float | None:
    return number_of(values[index]) if isinstance(values, list) and index < len(values) else None


def _troubles(samples: Mapping[str, Any]) -> list[Trouble]:
    diagnostics = samples.get("diagnostics")
    found = diagnostics.get("status") if isinstance(diagnostics, dict) else None
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    return [
        Trouble(str(row.get("hardware_id") or row.get("name", "")), level, str(row.get("message", "")))
        for row in rows
        if (level := _level(row.get("level"))) != "OK"
    ]


def _level(value: Any) -> str:
    if isinstance(value, str) and len(value) == 1:
        value = ord(value)
    return _LEVELS.get(value, str(value)) if isinstance(value, int) else str(value)
