"""What the configuration says of ROS types, held against what is installed."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from rosfit_bridge.config import Config, ConfigError
from rosfit_bridge.config_down import Subscribe
from rosfit_bridge.config_ota import Gate
from rosfit_bridge.convert.bounds import UnknownFieldError, bounds_of
from rosfit_bridge.convert.shape import (
    Array,
    Number,
    Sequence,
    Shape,
    Struct,
    Text,
    UnknownTypeError,
    has_wide_text,
    load_class,
    shape_of,
)
from rosfit_bridge.located import Problem

# Section, key of the topic, key of the type, and whether the bridge writes such messages.
_KEYS = (
    ("bridge.publish", "ros_topic", "msg_type", False),
    ("bridge.subscribe", "ros_topic", "msg_type", True),
    ("bridge.services", None, "srv_type", True),
    ("bridge.actions", None, "action_type", True),
    ("shadow.map", "ros_topic", "msg_type", True),
    ("shadow.map", None, "srv_type", True),
    ("shadow.map", "report_topic", "report_type", False),
    ("ota.gate", "ros_topic", "msg_type", False),
)
# What is sent comes first.
_PARTS = {"srv": ("Request", "Response"), "action": ("Goal", "Result", "Feedback")}
_OWN = {
    "/rosout": "rcl_interfaces/msg/Log",
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
    "/parameter_events": "rcl_interfaces/msg/ParameterEvent",
}


class Use(NamedTuple):
    """A place that names a type, for a topic or for a service or action."""

    path: str
    line: int
    name: str
    topic: str | None
    sent: bool


def check_types(settings: Config, file: str) -> None:
    """Every message, service and action type must be installed. Raises `ConfigError` with file, line and key."""
    problems = list(_one_type_each(settings))
    for path, line, check in _checks(settings):
        try:
            check()
        except (UnknownTypeError, UnknownFieldError) as error:
            problems.append(Problem(line, path, str(error)))
    if problems:
        raise ConfigError(file, problems)


def _checks(settings: Config) -> Iterator[tuple[str, int, Callable[[], None]]]:
    """Path, line, and what raises where something is wrong."""
    for use in _uses(settings):
        yield use.path, use.line, partial(_usable, use.name, sent=use.sent)
    for index, entry in enumerate(settings.bridge.subscribe):
        yield f"bridge.subscribe[{index}]", entry.line, partial(_bounds, entry)
    for index, gate in enumerate(settings.ota.gate):
        if gate.ros_topic is not None:
            yield f"ota.gate[{index}].field", gate.line, partial(_gate_field, gate)


def _uses(settings: Config) -> Iterator[Use]:
    for section, topic, key, sent in _KEYS:
        for index, entry in enumerate(operator.attrgetter(section)(settings)):
            name = getattr(entry, key)
            if name is not None:
                yield Use(f"{section}[{index}].{key}", entry.line, name, topic and getattr(entry, topic), sent)


def _one_type_each(settings: Config) -> Iterator[Problem]:
    """Of a second type for a topic, ROS makes an error when the node is already up."""
    known = {topic: (name, "the bridge itself") for topic, name in _OWN.items()}
    for use in _uses(settings):
        if use.topic is not None:
            first, by = known.setdefault(use.topic, (use.name, f"line {use.line}"))
            if first != use.name:
                yield Problem(use.line, use.path, f"{use.topic} is {first} by {by}; a topic has one type")


def _usable(name: str, *, sent: bool) -> None:
    found: Any = load_class(name)
    first, *_ = [shape_of(getattr(found, part)) for part in _PARTS.get(name.split("/")[1], ())] or [shape_of(found)]
    if sent and has_wide_text(first):
        raise UnknownTypeError(f"{name} holds a wstring, which the bridge reads but cannot write")


def _bounds(entry: Subscribe) -> None:
    with contextlib.suppress(UnknownTypeError):  # told already
        bounds_of(shape_of(load_class(entry.msg_type)), entry.limits, entry.slew)


def _gate_field(entry: Gate) -> None:
    """A number or text that the message really has; a number, where it is compared with one."""
    assert entry.msg_type is not None
    assert entry.field is not None
    try:
        shape: Shape = shape_of(load_class(entry.msg_type))
    except UnknownTypeError:
        return  # told already
    for name in entry.field.split("."):
        shape = _member(shape, name, entry)
    ordered = entry.at_least is not None or entry.at_most is not None
    if not isinstance(shape, Number) and (ordered or not isinstance(shape, Text)):
        raise UnknownFieldError(f"{entry.field} of {entry.msg_type} is no {'number' if ordered else 'single value'}")


def _member(shape: Shape, name: str, entry: Gate) -> Shape:
    if isinstance(shape, (Array, Sequence)) and name.isdecimal():
        return shape.item
    known = dict(shape.fields) if isinstance(shape, Struct) else {}
    if name not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise UnknownFieldError(f"{entry.msg_type}, {entry.field}: there is no field {name}; {has}")
    return known[name]
