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

# Section, what has a type there, its key and that of its type, and whether the bridge writes such messages.
_KEYS = (
    ("bridge.publish", "topic", "ros_topic", "msg_type", False),
    ("bridge.subscribe", "topic", "ros_topic", "msg_type", True),
    ("bridge.services", "service", "ros_service", "srv_type", True),
    ("bridge.actions", "action", "ros_action", "action_type", True),
    ("shadow.map", "topic", "ros_topic", "msg_type", True),
    ("shadow.map", "service", "ros_service", "srv_type", True),
    ("shadow.map", "topic", "report_topic", "report_type", False),
    ("ota.gate", "topic", "ros_topic", "msg_type", False),
)
# What is sent comes first.
_PARTS = {"srv": ("Request", "Response"), "action": ("Goal", "Result", "Feedback")}
_OWN = {
    ("topic", "/rosout"): "rcl_interfaces/msg/Log",
    ("topic", "/diagnostics"): "diagnostic_msgs/msg/DiagnosticArray",
    ("topic", "/parameter_events"): "rcl_interfaces/msg/ParameterEvent",
}


class Use(NamedTuple):
    """A place of the file that names a type. `thing` is a topic, service or action, and its name."""

    path: str
    line: int
    type: str
    thing: tuple[str, str]
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


def check_reload(now: Config, fresh: Config, file: str) -> None:
    """What is in use keeps its type, or ROS makes an error half-way. Raises `ConfigError`."""
    held = {use.thing: use.type for use in _uses(now)}
    problems = [
        Problem(use.line, use.path, f"{use.thing[1]} is {held[use.thing]} until the bridge is started anew")
        for use in _uses(fresh)
        if held.get(use.thing, use.type) != use.type
    ]
    if problems:
        raise ConfigError(file, problems)


def _checks(settings: Config) -> Iterator[tuple[str, int, Callable[[], None]]]:
    """Path, line, and what raises where something is wrong."""
    for use in _uses(settings):
        yield use.path, use.line, partial(_usable, use.type, sent=use.sent)
    for index, entry in enumerate(settings.bridge.subscribe):
        yield f"bridge.subscribe[{index}]", entry.line, partial(_bounds, entry)
    for index, gate in enumerate(settings.ota.gate):
        if gate.ros_topic is not None:
            yield f"ota.gate[{index}].field", gate.line, partial(_gate_field, gate)


def _uses(settings: Config) -> Iterator[Use]:
    for section, kind, name, key, sent in _KEYS:
        for index, entry in enumerate(operator.attrgetter(section)(settings)):
            type_ = getattr(entry, key)
            if type_ is not None:
                yield Use(f"{section}[{index}].{key}", entry.line, type_, (kind, getattr(entry, name)), sent)


def _one_type_each(settings: Config) -> Iterator[Problem]:
    """Of a second one, ROS makes an error when the node is already up."""
    known = {thing: (type_, "the bridge itself") for thing, type_ in _OWN.items()}
    for use in _uses(settings):
        first, by = known.setdefault(use.thing, (use.type, f"line {use.line}"))
        if first != use.type:
            kind, name = use.thing
            yield Problem(use.line, use.path, f"{name} is {first} by {by}; of one {kind} there is one type")


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
