"""What a type looks like, for forms and their readers: {field: type, nested object, [element] or [element, length]}."""

from __future__ import annotations

from typing import Any

from rosfit_bridge.convert.shape import Array, Number, Sequence, Shape, Struct, Text

_NAMES = {"float": "float32", "double": "float64", "boolean": "bool", "octet": "byte"}


def describe(shape: Shape) -> Any:
    if isinstance(shape, Struct):
        return {name: describe(field) for name, field in shape.fields}
    if isinstance(shape, Array):
        return [describe(shape.item), shape.length]
    if isinstance(shape, Sequence):
        return [describe(shape.item)]
    if isinstance(shape, Text):
        return "wstring" if shape.wide else "string"
    assert isinstance(shape, Number)
    return _NAMES.get(shape.name, shape.name)
