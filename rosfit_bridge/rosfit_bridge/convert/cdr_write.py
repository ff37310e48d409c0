"""JSON-ready values → CDR bytes (little endian), for messages that go into the ROS graph."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any

from rosfit_bridge.convert import objects, values
from rosfit_bridge.convert.shape import BYTES, Array, Number, Sequence, Shape, Struct, Text

_HEADER = b"\x00\x01\x00\x00"
_COUNT = struct.Struct("<I")
Put = Callable[[bytearray, Any], None]
Encoder = Callable[[dict[str, Any]], bytes]


class BadValueError(ValueError):
    """A value that does not fit its field; the message starts with the field's path."""


@functools.lru_cache(maxsize=None)
def encoder(shape: Struct) -> Encoder:
    """Fields left out get the message's defaults; unknown fields are refused."""
    put = _put(shape)

    def encode(value: dict[str, Any]) -> bytes:
        out = bytearray(_HEADER)
        put(out, value)
        return bytes(out)

    return encode


@functools.lru_cache(maxsize=None)
def _put(shape: Shape) -> Put:
    if isinstance(shape, Number):
        return _number(shape)
    if isinstance(shape, Text):
        return _text(shape)
    if isinstance(shape, Struct):
        return _struct(shape)
    if isinstance(shape.item, Number) and shape.item.name in BYTES:
        return _bytes(shape)
    return _items(shape)


def _align(out: bytearray, size: int) -> None:
    out.extend(bytes(-(len(out) - len(_HEADER)) % size))


def _number(shape: Number) -> Put:
    pack, size = struct.Struct("<" + shape.code).pack, shape.size
    convert = {"boolean": values.to_bool, "float": values.to_float, "double": values.to_float}.get(
        shape.name, values.to_int
    )

    def put(out: bytearray, value: Any) -> None:
        _align(out, size)
        try:
            out.extend(pack(convert(value)))
        except (struct.error, OverflowError) as error:
            raise BadValueError(f"{value!r} does not fit {shape.name} ({error})") from error

    return put


def _text(shape: Text) -> Put:
    if shape.wide:
        raise BadValueError("wstring fields cannot be written")

    def put(out: bytearray, value: Any) -> None:
        if not isinstance(value, str):
            raise BadValueError(f"expected text, got {value!r}")
        try:
            data = value.encode("utf-8") + b"\0"
        except UnicodeEncodeError as error:
            raise BadValueError(f"half a surrogate pair at {error.start}, which is no text") from error
        if "\0" in value:
            raise BadValueError(f"a NUL at {value.index(chr(0))}, where ROS would end the text")
        _check_bound(len(data) - 1, shape.bound)
        _put_count(out, len(data))
        out.extend(data)

    return put


def _struct(shape: Struct) -> Put:
    fields = [(name, _put(field)) for name, field in shape.fields]
    known = {name for name, _ in fields}
    defaults = objects.to_plain(shape)(shape.cls())

    def put(out: bytearray, value: Any) -> None:
        if not isinstance(value, dict):
            raise BadValueError(f"expected an object with {', '.join(sorted(known))}, got {value!r}")
        if not known.issuperset(value):
            has = ", ".join(sorted(known)) or "no field at all"
            raise BadValueError(f"unknown field {min(set(value) - known)}; known here: {has}")
        if not fields:
            out.append(0)
        for name, put_field in fields:
            try:
                put_field(out, value[name] if name in value else defaults[name])
            except (ValueError, TypeError) as error:
                raise BadValueError(f"{name}: {error}") from error

    return put


def _items(shape: Array | Sequence) -> Put:
    put_item = _put(shape.item)

    def put(out: bytearray, value: Any) -> None:
        if not isinstance(value, (list, tuple)):
            raise BadValueError(f"expected a list, got {value!r}")
        _check_length(out, len(value), shape)
        for item in value:
            put_item(out, item)

    return put


def _bytes(shape: Array | Sequence) -> Put:
    def put(out: bytearray, value: Any) -> None:
        data = values.to_bytes(value)
        _check_length(out, len(data), shape)
        out.extend(data)

    return put


def _check_length(out: bytearray, length: int, shape: Array | Sequence) -> None:
    if isinstance(shape, Array):
        if length != shape.length:
            raise BadValueError(f"expected exactly {shape.length} elements, got {length}")
        return
    _check_bound(length, shape.bound)
    _put_count(out, length)


def _check_bound(length: int, bound: int | None) -> None:
    if bound is not None and length > bound:
        raise BadValueError(f"at most {bound} elements, got {length}")


def _put_count(out: bytearray, count: int) -> None:
    _align(out, 4)
    out.extend(_COUNT.pack(count))
