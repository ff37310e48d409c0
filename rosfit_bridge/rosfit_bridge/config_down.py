"""The part of rosfit-bridge.yaml for the way from the cloud to the robot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosfit_bridge import topics
from rosfit_bridge.located import Located
from rosfit_bridge.schema import (
    ROS_NAME,
    Context,
    Key,
    MistakeError,
    Section,
    any_path,
    boolean,
    choice,
    integer,
    list_of,
    mapping_of,
    matching,
    number,
    optional,
    ros_type,
    text,
)

VELOCITIES = ("geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped")
DEFAULT_WATCHDOG_MS = 500
# Commands that the bridge answers by itself. emergency_stop is not among them: it may be given a service.
BUILT_IN = ("ping", "cancel", "list_graph", "reload_config", "get_parameters", "set_parameters")


@dataclass(frozen=True)
class Subscribe:
    mqtt_suffix: str
    ros_topic: str
    msg_type: str
    qos: int
    watchdog_ms: int | None
    limits: dict[str, float]
    slew: dict[str, float]
    frame_id: str
    line: int

    @property
    def watchdog_s(self) -> float | None:
        """None when nothing watches. A robot's velocity is watched unless the configuration says 0."""
        wanted = self.watchdog_ms
        if wanted is None and self.msg_type in VELOCITIES:
            wanted = DEFAULT_WATCHDOG_MS
        return wanted / 1000 if wanted else None


@dataclass(frozen=True)
class Service:
    command: str
    ros_service: str
    srv_type: str
    timeout_s: float
    line: int


@dataclass(frozen=True)
class Action:
    command: str
    ros_action: str
    action_type: str
    timeout_s: float
    progress_field: str | None
    progress_max: float
    line: int


@dataclass(frozen=True)
class Parameters:
    node: str
    names: tuple[str, ...]
    writable: bool
    line: int


@dataclass(frozen=True)
class Commands:
    path: Path | None
    remember: int
    session_s: int


def _down_suffix(at: Located, context: Context) -> str:
    suffix = text(at, context)
    wrong = topics.problem_of_down_suffix(suffix)
    if wrong:
        raise MistakeError(wrong)
    return suffix


def check_bridge(at: Located, context: Context, values: dict[str, Any]) -> None:
    _check_commands(at, context, values)
    first: dict[tuple[str, str], Subscribe] = {}
    for index, entry in enumerate(values["subscribe"]):
        earlier = first.setdefault((entry.mqtt_suffix, entry.ros_topic), entry)
        if earlier is not entry:
            message = f"duplicate: {entry.mqtt_suffix} already goes to {entry.ros_topic}, by line {earlier.line}"
            context.report(entry.line, f"{at.path}.subscribe[{index}]", message)


def _check_commands(at: Located, context: Context, values: dict[str, Any]) -> None:
    """A command has one meaning: no name twice in services and actions together, and none of the bridge's own."""
    first: dict[str, Any] = {}
    for section in ("services", "actions"):
        for index, entry in enumerate(values[section]):
            if entry.command in BUILT_IN:
                message = f"{entry.command} is a command of the bridge itself; choose another name"
                context.report(entry.line, f"{at.path}.{section}[{index}].command", message)
    for section in ("services", "actions"):
        for index, entry in enumerate(values[section]):
            earlier = first.setdefault(entry.command, entry)
            if earlier is not entry:
                message = f"duplicate: command {entry.command} is already given on line {earlier.line}"
                context.report(entry.line, f"{at.path}.{section}[{index}].command", message)


_TOPIC = matching(ROS_NAME, "a ROS name such as /cmd_vel")

SUBSCRIBE = Section(
    Subscribe,
    {
        "mqtt_suffix": Key(_down_suffix),
        "ros_topic": Key(_TOPIC),
        "msg_type": Key(ros_type("msg", "geometry_msgs/Twist")),
        "qos": Key(choice(0, 1), 0),
        "watchdog_ms": Key(optional(integer(0, 600_000)), None),
        "limits": Key(mapping_of(number(0, 1e9)), {}),
        "slew": Key(mapping_of(number(1e-6, 1e9)), {}),
        "frame_id": Key(text, ""),
    },
    with_line=True,
)
SERVICE = Section(
    Service,
    {
        "command": Key(text),
        "ros_service": Key(_TOPIC),
        "srv_type": Key(ros_type("srv", "std_srvs/Trigger")),
        "timeout_s": Key(number(0.1, 3600), 10.0),
    },
    with_line=True,
)
ACTION = Section(
    Action,
    {
        "command": Key(text),
        "ros_action": Key(_TOPIC),
        "action_type": Key(ros_type("action", "nav2_msgs/NavigateToPose")),
        "timeout_s": Key(number(0.1, 604_800), 3600.0),
        "progress_field": Key(optional(text), None),
        "progress_max": Key(number(1e-9, 1e12), 1.0),
    },
    with_line=True,
)
PARAMETERS = Section(
    Parameters,
    {"node": Key(_TOPIC), "names": Key(list_of(text), ("*",)), "writable": Key(boolean, False)},
    with_line=True,
)
COMMANDS = Section(
    Commands,
    {
        "path": Key(any_path, None),
        "remember": Key(integer(100, 1_000_000), 10_000),
        "session_s": Key(integer(0, 4_294_967_294), 86_400),
    },
)
