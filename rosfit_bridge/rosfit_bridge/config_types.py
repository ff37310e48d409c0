"""What the configuration says of ROS types, held against what is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

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

# What is sent comes first.
_PARTS = {"srv": ("Request", "Response"), "action": ("Goal", "Result", "Feedback")}
_READ_ONLY = ("bridge.publish", "ota.gate")


def check_types(settings: Config, file: str) -> None:
    """Every message, service and action type must be installed. Raises `ConfigError` with file, line and key."""
    problems = []
    for path, line, check in _checks(settings):
        try:
            check()
        except (UnknownTypeError, UnknownFieldError) as error:
            problems.append(Problem(line, path, str(error)))
    if problems:
        raise ConfigError(file, problems)


def _checks(settings: Config) -> Iterator[tuple[str, int, Callable[[], None]]]:
    """Path, line, and what raises where something is wrong."""
    bridge = settings.bridge
    sections = {
        "bridge.publish": (bridge.publish, ("msg_type",)),
        "bridge.subscribe": (bridge.subscribe, ("msg_type",)),
        "bridge.services": (bridge.services, ("srv_type",)),
        "bridge.actions": (bridge.actions, ("action_type",)),
        "shadow.map": (settings.shadow.map, ("msg_type", "srv_type", "report_type")),
        "ota.gate": (settings.ota.gate, ("msg_type",)),
    }
    for section, (entries, keys) in sections.items():
        for index, entry in enumerate(entries):
            for key in keys:
                name, sent = getattr(entry, key), section not in _READ_ONLY
                if name is not None:
                    yield f"{section}[{index}].{key}", entry.line, partial(_usable, name, sent=sent)
    for index, entry in enumerate(bridge.subscribe):
        yield f"bridge.subscribe[{index}]", entry.line, partial(_bounds, entry)
    for index, entry in enumerate(settings.ota.gate):
        if entry.ros_topic is not None:
            yield f"ota.gate[{index}].field", entry.line, partial(_gate_field, entry)


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
