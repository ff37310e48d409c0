"""Message objects → JSON-ready values. Slower than the CDR decoder: for types with wstring, and for defaults."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from rosfit_bridge.convert import values
from rosfit_bridge.convert.shape import BYTES, Number, Shape, Struct, Text

Plain = Callable[[Any], Any]


@functools.lru_cache(maxsize=None)
def to_plain(shape: Shape) -> Plain:
    if isinstance(shape, Number):
        return _number(shape)
    if isinstance(shape, Text):
        return str
    if isinstance(shape, Struct):
        return _struct(shape)
    if isinstance(shape.item, Number):
        return _numbers(shape.item)
    item = to_plain(shape.item)
    return lambda value: [item(v) for v in value]


def _struct(shape: Struct) -> Plain:
    fields = [(name, to_plain(field)) for name, field in shape.fields]
    return lambda message: {name: plain(getattr(message, name)) for name, plain in fields}


def _number(shape: Number) -> Plain:
    if shape.name in BYTES:
        return _octet
    if shape.name in ("int64", "uint64"):
        return values.big
    return {"float": values.short, "double": values.number}.get(shape.name, lambda value: value)


def _octet(value: Any) -> int:
    """rclpy holds a `byte` as one-byte bytes and a `char` as int or one-letter text."""
    return value if isinstance(value, int) else ord(value)


def _numbers(item: Number) -> Plain:
    if item.name in BYTES:
        return _bytes
    if item.name == "float":
        return lambda value: values.shorts(np.asarray(value, np.float32))
    wrap = {"double": values.numbers, "int64": values.bigs, "uint64": values.bigs}.get(item.name, list)
    return lambda value: wrap(value.tolist() if hasattr(value, "tolist") else list(value))


def _bytes(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return values.b64(bytes(_octet(v) for v in value))
    return values.b64(value.tobytes() if hasattr(value, "tobytes") else bytes(value))
