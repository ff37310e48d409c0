"""What a velocity may become on its way to the wheels. Paths name fields: ("linear", "x")."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rosfit_bridge.convert.shape import Number, Shape, Struct
from rosfit_bridge.convert.values import to_float

Path = tuple[str, ...]

# A message that comes later than this after the last one does not earn more speed by waiting.
_LONGEST_STEP_S = 0.1


class UnknownFieldError(Exception):
    """A limit names a field that the message does not have."""


@dataclass(frozen=True)
class Bound:
    """`slew`: how much the value may move away from zero per second."""

    path: Path
    limit: float | None
    slew: float | None


class Bounds:
    """Clamps, and lets a value grow only so fast. Getting slower is never held back."""

    def __init__(self, bounds: list[Bound]) -> None:
        self._bounds = bounds
        self._last = {bound.path: 0.0 for bound in bounds}
        self._last_at = -math.inf
        # Whether the last message asked for no motion at all.
        self.still = False

    def apply(self, message: dict[str, Any], at: float) -> dict[str, Any]:
        """A copy within the bounds. Raises ValueError naming a field that is no finite number."""
        step_s = min(at - self._last_at, _LONGEST_STEP_S)
        wanted = {bound.path: _value(message, bound.path) for bound in self._bounds}
        for bound in self._bounds:
            value = _clamped(wanted[bound.path], bound.limit)
            if bound.slew is not None:
                value = _slewed(self._last[bound.path], value, bound.slew * step_s)
            self._last[bound.path] = value
            message = _with(message, bound.path, value)
        self._last_at = at
        self.still = not any(wanted.values())
        return message

    def stopped(self) -> None:
        """Zero was published: growing begins there."""
        for path in self._last:
            self._last[path] = 0.0


def _clamped(value: float, limit: float | None) -> float:
    return value if limit is None else min(limit, max(-limit, value))


def _slewed(last: float, wanted: float, step: float) -> float:
    start = last if last * wanted > 0 else 0.0
    return math.copysign(min(abs(wanted), abs(start) + step), wanted)


def _value(message: Any, path: Path) -> float:
    for name in path:
        if not isinstance(message, dict):
            raise ValueError(f"{'.'.join(path)}: expected an object with {name}")
        message = message.get(name, {} if name != path[-1] else 0.0)
    try:
        value = to_float(message)
    except ValueError as error:
        raise ValueError(f"{'.'.join(path)}: {error}") from error
    if not math.isfinite(value):
        raise ValueError(f"{'.'.join(path)}: expected a finite number, got {message!r}")
    return value


def _with(message: dict[str, Any], path: Path, value: float) -> dict[str, Any]:
    first, *rest = path
    inner = _with(message.get(first) or {}, tuple(rest), value) if rest else value
    return {**message, first: inner}


def bounds_of(shape: Struct, limits: Mapping[str, float], slew: Mapping[str, float]) -> list[Bound]:
    """Raises UnknownFieldError."""
    names = [*limits, *(name for name in slew if name not in limits)]
    return [Bound(path_of(shape, name), limits.get(name), slew.get(name)) for name in names]


def path_of(shape: Struct, name: str) -> Path:
    """`linear_x`, `linear.x` or `twist.linear.x`; in a stamped message what is stamped may go without its name."""
    paths = list(numeric_paths(shape))
    wanted = name.replace("_", ".")
    for path in paths:
        full = ".".join(path).replace("_", ".")
        if full == wanted or full == f"twist.{wanted}":
            return path
    known = ", ".join(".".join(path) for path in paths[:20]) or "none"
    raise UnknownFieldError(f"limits and slew: the message has no numeric field {name}; it has {known}")


def numeric_paths(shape: Shape, before: Path = ()) -> Iterator[Path]:
    if isinstance(shape, Struct):
        for name, field in shape.fields:
            yield from numeric_paths(field, (*before, name))
    elif isinstance(shape, Number) and shape.name in ("float", "double"):
        yield before
