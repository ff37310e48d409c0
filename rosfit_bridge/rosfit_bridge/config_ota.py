"""The `ota` section of rosfit-bridge.yaml: what the update agent may install, when, how, and how it is judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosfit_bridge.located import Located
from rosfit_bridge.ota.errors import RejectedError
from rosfit_bridge.ota.verify import public_key
from rosfit_bridge.schema import (
    ROS_NAME,
    Context,
    Key,
    MistakeError,
    Section,
    any_path,
    boolean,
    choice,
    file_path,
    integer,
    list_of,
    matching,
    number,
    optional,
    ros_type,
    text,
)

METHODS = ("slots", "command", "deb", "image")


@dataclass(frozen=True)
class Gate:
    """One condition that has to hold before an update is begun; exactly one of topic, service and command."""

    ros_topic: str | None
    msg_type: str | None
    field: str | None
    equals: Any
    at_least: float | None
    at_most: float | None
    ros_service: str | None
    command: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Install:
    method: str
    hook: tuple[str, ...]
    command: tuple[str, ...]
    restart: tuple[str, ...]
    runtime: str
    timeout_s: float


@dataclass(frozen=True)
class Health:
    """Everything named has to be well within `within_s`, and to stay so for `for_s`."""

    nodes: tuple[str, ...]
    topics: tuple[str, ...]
    processes: tuple[str, ...]
    command: tuple[str, ...]
    within_s: float
    for_s: float


@dataclass(frozen=True)
class Ota:
    enabled: bool
    folder: Path | None
    device_type: str | None
    names: tuple[str, ...]
    public_keys: tuple[Path, ...]
    require_signature: bool
    allow_downgrade: bool
    max_mb: float
    rate_kib_s: float | None
    keep: int
    gate: tuple[Gate, ...]
    install: Install
    health: Health


def _scalar(at: Located, _: Context) -> Any:
    if isinstance(at.value, (list, dict)):
        raise MistakeError("expected a number, text, true or false")
    return at.value


def _check_gate(at: Located, context: Context, values: dict[str, Any]) -> None:
    kinds = [name for name in ("ros_topic", "ros_service", "command") if values[name]]
    if len(kinds) != 1:
        context.report(at.line, at.path, "expected exactly one of ros_topic, ros_service and command")
    elif kinds == ["ros_topic"]:
        _check_topic(at, context, values)


def _check_topic(at: Located, context: Context, values: dict[str, Any]) -> None:
    for name in ("msg_type", "field"):
        if values[name] is None:
            context.report(at.line, f"{at.path}.{name}", "missing; ros_topic needs it")
    if all(values[name] is None for name in ("equals", "at_least", "at_most")):
        context.report(at.line, at.path, "ros_topic needs equals, at_least or at_most")


def _check_install(at: Located, context: Context, values: dict[str, Any]) -> None:
    if values["method"] == "command" and not values["command"]:
        context.report(at.line, f"{at.path}.command", "missing; method command needs it")


def _check_ota(at: Located, context: Context, values: dict[str, Any]) -> None:
    if values["enabled"] and values["require_signature"] and not values["public_keys"]:
        message = "missing; name the fleet's update keys, or set require_signature: false to install what is not signed"
        context.report(at.line, f"{at.path}.public_keys", message)


def _key_file(at: Located, context: Context) -> Path:
    path = file_path(at, context)
    try:
        public_key(path)
    except RejectedError as error:
        raise MistakeError(str(error)) from error
    return path


_NAME = matching(ROS_NAME, "a ROS name such as /odom")
_WORDS = list_of(text)

GATE = Section(
    Gate,
    {
        "ros_topic": Key(_NAME, None),
        "msg_type": Key(ros_type("msg", "sensor_msgs/BatteryState"), None),
        "field": Key(text, None),
        "equals": Key(_scalar, None),
        "at_least": Key(optional(number(-1e300, 1e300)), None),
        "at_most": Key(optional(number(-1e300, 1e300)), None),
        "ros_service": Key(_NAME, None),
        "command": Key(_WORDS, ()),
    },
    with_line=True,
    also=_check_gate,
)
INSTALL = Section(
    Install,
    {
        "method": Key(choice(*METHODS), "slots"),
        "hook": Key(_WORDS, ()),
        "command": Key(_WORDS, ()),
        "restart": Key(_WORDS, ()),
        "runtime": Key(choice("docker", "podman"), "docker"),
        "timeout_s": Key(number(1, 86_400), 600.0),
    },
    also=_check_install,
)
HEALTH = Section(
    Health,
    {
        "nodes": Key(list_of(_NAME), ()),
        "topics": Key(list_of(_NAME), ()),
        "processes": Key(_WORDS, ()),
        "command": Key(_WORDS, ()),
        "within_s": Key(number(0, 86_400), 60.0),
        "for_s": Key(number(0, 86_400), 10.0),
    },
)
OTA = Section(
    Ota,
    {
        "enabled": Key(boolean, False),
        "folder": Key(any_path, None),
        "device_type": Key(text, None),
        "names": Key(_WORDS, ("*",)),
        "public_keys": Key(list_of(_key_file), ()),
        "require_signature": Key(boolean, True),
        "allow_downgrade": Key(boolean, False),
        "max_mb": Key(number(0.001, 1_000_000), 2048.0),
        "rate_kib_s": Key(optional(number(1, 10_000_000)), None),
        "keep": Key(integer(2, 100), 3),
        "gate": Key(list_of(GATE), ()),
        "install": Key(INSTALL, INSTALL.defaults()),
        "health": Key(HEALTH, HEALTH.defaults()),
    },
    also=_check_ota,
)
