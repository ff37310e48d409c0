"""What a message type is made of, read once from rosidl's SLOT_TYPES."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rosidl_parser import definition as idl

# IDL name → (struct code, size and alignment in bytes). `long double` has no CDR form that Fast CDR and numpy share.
NUMBERS: dict[str, tuple[str, int]] = {
    "boolean": ("?", 1),
    "octet": ("B", 1),
    "char": ("B", 1),
    "uint8": ("B", 1),
    "int8": ("b", 1),
    "uint16": ("H", 2),
    "int16": ("h", 2),
    "uint32": ("I", 4),
    "int32": ("i", 4),
    "uint64": ("Q", 8),
    "int64": ("q", 8),
    "float": ("f", 4),
    "double": ("d", 8),
}
BYTES = ("octet", "char", "uint8")
EMPTY_STRUCT_FIELD = "structure_needs_at_least_one_member"


class UnknownTypeError(Exception):
    """The message, service or action type is not installed, or holds something CDR cannot carry."""


@dataclass(frozen=True)
class Number:
    name: str

    @property
    def code(self) -> str:
        return NUMBERS[self.name][0]

    @property
    def size(self) -> int:
        return NUMBERS[self.name][1]


@dataclass(frozen=True)
class Text:
    bound: int | None = None
    wide: bool = False


@dataclass(frozen=True)
class Array:
    """`length` elements, always; in CDR without a count."""

    item: Shape
    length: int


@dataclass(frozen=True)
class Sequence:
    item: Shape
    bound: int | None = None


@dataclass(frozen=True)
class Struct:
    """A message. Without fields it is still one byte on the wire."""

    cls: type
    fields: tuple[tuple[str, Shape], ...]


Shape = Number | Text | Array | Sequence | Struct


def load_class(type_name: str) -> type:
    """`nav_msgs/msg/Odometry` → the class. Raises `UnknownTypeError` saying what to install."""
    package, kind, name = type_name.split("/")
    try:
        module = importlib.import_module(f"{package}.{kind}")
    except ImportError as error:
        what = f"package {package} with its {kind} folder is not installed or not sourced ({error})"
        raise UnknownTypeError(what) from error
    found = getattr(module, name, None)
    if found is None:
        known = ", ".join(sorted(n for n in vars(module) if n[:1].isupper() and "_" not in n)[:40])
        raise UnknownTypeError(f"{package} has no {kind} {name}; it has {known}")
    return found


@functools.lru_cache(maxsize=None)
def shape_of(cls: type) -> Struct:
    names = [n for n in cls.get_fields_and_field_types() if n != EMPTY_STRUCT_FIELD]
    slots = cls.SLOT_TYPES
    return Struct(cls, tuple((name, _shape(slot)) for name, slot in zip(names, slots, strict=True)))


def _shape(slot: Any) -> Shape:
    if isinstance(slot, idl.BasicType):
        if slot.typename not in NUMBERS:
            raise UnknownTypeError(f"{slot.typename} fields are not supported")
        return Number(slot.typename)
    if isinstance(slot, idl.AbstractGenericString):
        bound = slot.maximum_size if slot.has_maximum_size() else None
        return Text(bound, isinstance(slot, idl.AbstractWString))
    if isinstance(slot, idl.Array):
        return Array(_shape(slot.value_type), slot.size)
    if isinstance(slot, idl.AbstractSequence):
        bound = slot.maximum_size if isinstance(slot, idl.BoundedSequence) else None
        return Sequence(_shape(slot.value_type), bound)
    return shape_of(_class_of(slot))


def _class_of(slot: Any) -> type:
    module = importlib.import_module(".".join(slot.namespaces))
    found = getattr(module, slot.name, None)
    if found is None:  # service requests and the like hang on their service's class
        owner, _, member = slot.name.rpartition("_")
        found = getattr(getattr(module, owner), member)
    return found


def parts(shape: Shape) -> Iterator[Shape]:
    yield shape
    if isinstance(shape, (Array, Sequence)):
        yield from parts(shape.item)
    elif isinstance(shape, Struct):
        for _, field in shape.fields:
            yield from parts(field)


def has_wide_text(shape: Shape) -> bool:
    """Distributions disagree on wstring in CDR (2 or 4 bytes a character): such types are taken as objects."""
    return any(isinstance(part, Text) and part.wide for part in parts(shape))
