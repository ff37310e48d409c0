"""What a robot publishes, with the field names of the ROS messages that real ones send."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np

from rosfit.sim import plan
from rosfit.sim.model import Doing, Robot

BEAMS = 180
RANGE_MIN, RANGE_MAX = 0.12, 8.0

Payload = dict[str, Any]

_OK, _WARN, _ERROR = 0, 1, 2
_POWER_CHARGING, _POWER_DISCHARGING = 1, 2


def header(unix_s: float, frame_id: str) -> Payload:
    """std_msgs/Header."""
    whole = math.floor(unix_s)
    return {"stamp": {"sec": whole, "nanosec": round((unix_s - whole) * 1e6) * 1000}, "frame_id": frame_id}


def odometry(robot: Robot, unix_s: float) -> Payload:
    """nav_msgs/Odometry, without the covariances."""
    return {
        "header": header(unix_s, "odom"),
        "child_frame_id": "base_link",
        "pose": {
            "pose": {
                "position": {"x": round(robot.x, 4), "y": round(robot.y, 4), "z": 0.0},
                "orientation": {
                    "x": 0.0,
                    "y": 0.0,
                    "z": round(math.sin(robot.theta / 2), 6),
                    "w": round(math.cos(robot.theta / 2), 6),
                },
            }
        },
        "twist": {
            "twist": {
                "linear": {"x": round(robot.speed, 4), "y": 0.0, "z": 0.0},
                "angular": {"x": 0.0, "y": 0.0, "z": round(robot.turn, 4)},
            }
        },
    }


def heartbeat(robot: Robot) -> Payload:
    """`telemetry/status`: cpu, memory, disk and battery in percent, uptime in seconds."""
    busy = 12.0 + 30.0 * robot.speed + 8.0 * math.sin(robot.uptime_s / 17.0)
    return {
        "cpu": _percent(busy + robot.rng.uniform(-3.0, 3.0)),
        "memory": _percent(41.0 + 6.0 * math.sin(robot.uptime_s / 130.0)),
        "disk": _percent(35.0 + robot.uptime_s / 40_000.0),
        "battery": round(robot.battery, 1),
        "uptime": round(robot.uptime_s, 1),
        "position": {"x": round(robot.x, 3), "y": round(robot.y, 3), "theta": round(robot.theta, 4)},
        "mode": robot.doing.value,
    }


def _percent(value: float) -> float:
    return round(min(100.0, max(0.0, value)), 1)


def battery(robot: Robot, unix_s: float) -> Payload:
    """sensor_msgs/BatteryState: `percentage` from 0 to 1."""
    charging = robot.doing is Doing.CHARGING
    fraction = robot.battery / 100
    return {
        "header": header(unix_s, "battery"),
        "voltage": round(21.5 + 3.7 * fraction - 0.4 * robot.speed, 3),
        "temperature": round(robot.motor_temperature - 4.0, 2),
        "current": round(6.5 if charging else -0.6 - 2.4 * robot.speed, 3),
        "charge": round(20.0 * fraction, 3),
        "capacity": 20.0,
        "design_capacity": 22.0,
        "percentage": round(fraction, 4),
        "power_supply_status": _POWER_CHARGING if charging else _POWER_DISCHARGING,
        "power_supply_health": 1,
        "power_supply_technology": 2,
        "present": True,
        "cell_voltage": [],
        "cell_temperature": [],
        "location": "base",
        "serial_number": f"B-{robot.device_id}",
    }


def diagnostics(robot: Robot, unix_s: float, *, sensor_fault: bool = False) -> Payload:
    """diagnostic_msgs/DiagnosticArray."""
    low = robot.battery < 25.0
    hot = robot.motor_temperature > 48.0
    return {
        "header": header(unix_s, ""),
        "status": [
            _diagnostic("battery", _WARN if low else _OK, "low" if low else "ok", percent=robot.battery),
            _diagnostic("motors", _WARN if hot else _OK, "warm" if hot else "ok", celsius=robot.motor_temperature),
            _diagnostic(
                "lidar",
                _ERROR if sensor_fault else _OK,
                "no valid ranges" if sensor_fault else "ok",
                beams=BEAMS,
            ),
            _diagnostic("drive", _OK, robot.doing.value, metres=robot.odometer),
        ],
    }


def _diagnostic(name: str, level: int, message: str, **values: float) -> Payload:
    pairs = [{"key": key, "value": f"{value:.1f}"} for key, value in values.items()]
    return {"level": level, "name": name, "message": message, "hardware_id": "sim", "values": pairs}


def scan(robot: Robot, unix_s: float, *, broken: bool = False) -> Payload:
    """sensor_msgs/LaserScan all around: "Infinity" where nothing is near, "NaN" from a broken sensor."""
    step = math.tau / BEAMS
    angles = -math.pi + step * np.arange(BEAMS, dtype=np.float64)
    metres = plan.beams(robot.x, robot.y, angles + robot.theta)
    metres += np.array([robot.rng.gauss(0.0, 0.008) for _ in range(BEAMS)])
    return {
        "header": header(unix_s, "laser"),
        "angle_min": round(-math.pi, 6),
        "angle_max": round(math.pi - step, 6),
        "angle_increment": round(step, 6),
        "time_increment": 0.0,
        "scan_time": 0.1,
        "range_min": RANGE_MIN,
        "range_max": RANGE_MAX,
        "ranges": ["NaN"] * BEAMS if broken else [_range(value) for value in metres.tolist()],
        "intensities": [],
    }


def _range(metres: float) -> float | str:
    return round(max(RANGE_MIN, metres), 3) if metres <= RANGE_MAX else "Infinity"


def joint_states(robot: Robot, unix_s: float, *, temperatures: bool) -> Payload:
    """sensor_msgs/JointState; `temperature` in °C besides, as some drivers send it."""
    side = robot.turn * 0.18
    velocities = [round((robot.speed - side) / 0.08, 3), round((robot.speed + side) / 0.08, 3)]
    joints: Payload = {
        "header": header(unix_s, ""),
        "name": ["wheel_left_joint", "wheel_right_joint"],
        "position": [round(angle, 3) for angle in robot.wheels],
        "velocity": velocities,
        "effort": [round(0.4 + 0.15 * abs(velocity), 3) for velocity in velocities],
    }
    if temperatures:
        joints["temperature"] = [round(robot.motor_temperature, 1), round(robot.motor_temperature + 0.8, 1)]
    return joints


_CHATTER = (
    ("debug", "local_costmap", "updated 42 cells"),
    ("info", "controller_server", "passed waypoint {place}"),
    ("info", "bt_navigator", "{doing} at {speed:.2f} m/s"),
    ("info", "battery_monitor", "{battery:.0f} % left"),
    ("warn", "controller_server", "control loop missed its rate of 20 Hz"),
    ("warn", "amcl", "pose covariance is growing near {place}"),
    ("error", "lidar_driver", "checksum mismatch, frame dropped"),
)
_CHATTER_WEIGHTS = (20, 30, 25, 15, 5, 3, 1)


def log_line(robot: Robot) -> Payload:
    level, logger, text = robot.rng.choices(_CHATTER, _CHATTER_WEIGHTS)[0]
    message = text.format(place=robot.place, doing=robot.doing.value, speed=robot.speed, battery=robot.battery)
    return {"level": level, "message": message, "logger": logger, "fields": {"place": robot.place}}


def clock_text(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%H:%M:%S")
