"""The `shadow` section of rosfit-bridge.yaml: which part of the desired state goes where in the ROS graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rosfit_bridge.located import Located
from rosfit_bridge.schema import (
    ROS_NAME,
    Context,
    Key,
    MistakeError,
    Section,
    boolean,
    list_of,
    matching,
    ros_type,
    text,
)

DEFAULT = "default"


@dataclass(frozen=True)
class Entry:
    """Exactly one of node, ros_topic and ros_service."""

    path: tuple[str, ...]
    shadow: str
    node: str | None
    parameter: str | None
    names: tuple[str, ...]
    ros_topic: str | None
    msg_type: str | None
    ros_service: str | None
    srv_type: str | None
    field: str | None
    report_topic: str | None
    report_type: str | None
    line: int


@dataclass(frozen=True)
class Shadow:
    enabled: bool
    map: tuple[Entry, ...]


def _path(at: Located, context: Context) -> tuple[str, ...]:
    parts = tuple(text(at, context).split("."))
    if "" in parts:
        raise MistakeError("expected keys with dots between them, such as nav.max_speed")
    return parts


def _check_entry(at: Located, context: Context, values: dict[str, Any]) -> None:
    kinds = [name for name in ("node", "ros_topic", "ros_service") if values[name]]
    if len(kinds) != 1:
        context.report(at.line, at.path, "expected exactly one of node, ros_topic and ros_service")
        return
    for kind, needed in (("ros_topic", "msg_type"), ("ros_service", "srv_type"), ("report_topic", "report_type")):
        if (values[kind] is None) != (values[needed] is None):
            context.report(at.line, f"{at.path}.{needed}", f"{kind} and {needed} go together")
    if kinds == ["node"] and values["report_topic"] is not None:
        context.report(at.line, f"{at.path}.report_topic", "parameters are read from the node; nothing to report with")


def _check_shadow(at: Located, context: Context, values: dict[str, Any]) -> None:
    """No two entries for the same keys: each would take the other's value for a change on the robot."""
    for index, entry in enumerate(values["map"]):
        for other in values["map"][:index]:
            shorter = min(len(entry.path), len(other.path))
            if entry.shadow == other.shadow and entry.path[:shorter] == other.path[:shorter]:
                message = f"overlaps {'.'.join(other.path)} on line {other.line}"
                context.report(entry.line, f"{at.path}.map[{index}].path", message)


_NAME = matching(ROS_NAME, "a ROS name such as /controller")

ENTRY = Section(
    Entry,
    {
        "path": Key(_path),
        "shadow": Key(text, DEFAULT),
        "node": Key(_NAME, None),
        "parameter": Key(text, None),
        "names": Key(list_of(text), ("*",)),
        "ros_topic": Key(_NAME, None),
        "msg_type": Key(ros_type("msg", "std_msgs/String"), None),
        "ros_service": Key(_NAME, None),
        "srv_type": Key(ros_type("srv", "std_srvs/SetBool"), None),
        "field": Key(text, None),
        "report_topic": Key(_NAME, None),
        "report_type": Key(ros_type("msg", "std_msgs/String"), None),
    },
    with_line=True,
    also=_check_entry,
)
SHADOW = Section(Shadow, {"enabled": Key(boolean, False), "map": Key(list_of(ENTRY), ())}, also=_check_shadow)
