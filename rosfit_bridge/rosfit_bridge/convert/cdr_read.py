"""CDR bytes → JSON-ready values, by Python source generated once per message type.

Runs of numbers become one struct call: padding inside a run is known when the source is written, as long as the
position is known modulo 8; behind a string or a sequence it is not, and the position is aligned at run time.
A position is counted from the fourth byte, behind the encapsulation header (OMG XCDR version 1).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from rosfit_bridge.convert import values
from rosfit_bridge.convert.shape import BYTES, Array, Number, Sequence, Shape, Struct, Text

Decoder = Callable[[bytes], dict[str, Any]]

# Arrays up to this length are read with the numbers around them; a covariance has 36.
_INLINE_ARRAY = 64
_BIG, _LITTLE = b"\x00\x00", b"\x00\x01"


class NotCdrError(Exception):
    """The encapsulation header announces something other than plain CDR."""


@functools.lru_cache(maxsize=None)
def decoder(shape: Struct) -> Decoder:
    little = _compile(shape, "<")

    def decode(raw: bytes) -> dict[str, Any]:
        header = raw[:2]
        if header == _LITTLE:
            return little(raw)
        if header == _BIG:
            return _compile(shape, ">")(raw)
        raise NotCdrError(f"encapsulation {header.hex()} is not plain CDR")

    return decode


@functools.lru_cache(maxsize=None)
def _compile(shape: Struct, order: str) -> Decoder:
    source = _Source(order)
    result = source.read(shape)
    source.flush()
    lines = ["def decode(raw):", "    o = 4", *source.lines, f"    return {result}"]
    namespace = source.names
    exec(compile("\n".join(lines), f"<cdr {shape.cls.__name__}>", "exec"), namespace)  # noqa: S102
    return namespace["decode"]


class _Source:
    """Writes the body of one decoder.

    The next byte is known to be at `residue` modulo `modulus`. `read` returns an expression that is valid once the
    pending run has been flushed.
    """

    def __init__(self, order: str) -> None:
        self.order = order
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "number": values.number,
            "short": values.short,
            "big": values.big,
            "numbers": values.numbers,
            "shorts": values.shorts,
            "bigs": values.bigs,
            "b64": values.b64,
            "frombuffer": np.frombuffer,
        }
        self._depth = 1
        self._count = 0
        self._modulus, self._residue = 8, 0
        self._format: list[str] = []
        self._items = 0
        self._tuple = self._name("t")

    def read(self, shape: Shape) -> str:
        if isinstance(shape, Number):
            return self._number(shape)
        if isinstance(shape, Text):
            return self._text(shape)
        if isinstance(shape, Struct):
            return self._struct(shape)
        if isinstance(shape, Array):
            return self._array(shape)
        return self._sequence(shape)

    def flush(self) -> None:
        """Reads the pending run into a tuple and moves on."""
        if not self._format:
            return
        run, name = self._tuple, self._name("u")
        layout = struct.Struct(self.order + "".join(self._format))
        self.names[name] = layout.unpack_from
        if self._items:
            self._line(f"{run} = {name}(raw, o)")
        if "d" in "".join(self._format):
            self._line(f"s = sum({run})")
            self._line(f"if s - s != 0.0: {run} = [number(v) for v in {run}]")
        self._line(f"o += {layout.size}")
        self._format, self._items, self._tuple = [], 0, self._name("t")

    def _number(self, shape: Number) -> str:
        value = f"{self._tuple_for(shape)}[{self._add(shape)}]"
        if shape.name == "float":
            return f"short({value})"
        return f"big({value})" if shape.name in ("int64", "uint64") else value

    def _text(self, shape: Text) -> str:
        if shape.wide:
            raise NotCdrError("wstring is not decoded from CDR")
        size, name = self._length(), self._name("x")
        self._line(f"{name} = str(raw[o:o + {size} - 1], 'utf-8', 'replace')")
        self._line(f"o += {size}")
        self._forget(1)
        return name

    def _struct(self, shape: Struct) -> str:
        if not shape.fields:
            self._pad(1)
            return "{}"
        members = [f"{name!r}: {self.read(field)}" for name, field in shape.fields]
        return "{" + ", ".join(members) + "}"

    def _array(self, shape: Array) -> str:
        item, length = shape.item, shape.length
        if not isinstance(item, Number):
            return self._loop(item, str(length))
        if item.name in BYTES:
            return self._bytes(str(length), static=length)
        if length <= _INLINE_ARRAY:
            return self._inline_array(item, length)
        self._align(item.size)
        self.flush()
        return self._block(item, str(length), static=length)

    def _inline_array(self, item: Number, length: int) -> str:
        run = self._tuple_for(item)
        first = self._add(item, length)
        part = f"{run}[{first}:{first + length}]"
        if item.name == "float":
            return f"[short(v) for v in {part}]"
        return f"bigs(list({part}))" if item.name in ("int64", "uint64") else f"list({part})"

    def _sequence(self, shape: Sequence) -> str:
        item, count = shape.item, self._length()
        if not isinstance(item, Number):
            return self._loop(item, count)
        if item.name in BYTES:
            return self._bytes(count)
        if item.size == 8 and (self._modulus, self._residue) != (8, 0):
            # An empty sequence of 8-byte elements is not padded.
            self._line(f"if {count}: o = {_aligned(8)}")
        expression = self._block(item, count)
        self._forget(min(item.size, 4))
        return expression

    def _block(self, item: Number, count: str, static: int | None = None) -> str:
        name = self._name("x")
        self.names[f"d_{name}"] = np.dtype(_numpy_code(self.order, item))
        block = f"frombuffer(raw, d_{name}, {count}, o)"
        reading = {
            "float": f"shorts({block})",
            "double": f"numbers({block}.tolist())",
            "int64": f"bigs({block}.tolist())",
            "uint64": f"bigs({block}.tolist())",
        }.get(item.name, f"{block}.tolist()")
        self._line(f"{name} = {reading} if {count} else []")
        self._line(f"o += {count} * {item.size}")
        if static is not None:
            self._residue = (self._residue + static * item.size) % self._modulus
        return name

    def _bytes(self, count: str, static: int | None = None) -> str:
        self.flush()
        name = self._name("x")
        self._line(f"{name} = b64(raw[o:o + {count}])")
        self._line(f"o += {count}")
        if static is None:
            self._forget(1)
        else:
            self._residue = (self._residue + static) % self._modulus
        return name

    def _loop(self, item: Shape, count: str) -> str:
        self.flush()
        name = self._name("x")
        self._line(f"{name} = []")
        self._line(f"for _ in range({count}):")
        self._depth += 1
        self._forget(1)
        value = self.read(item)
        self.flush()
        self._line(f"{name}.append({value})")
        self._depth -= 1
        self._forget(1)
        return name

    def _length(self) -> str:
        """The count before a string or sequence, in a variable."""
        self._align(4)
        run = self._tuple
        index = self._add(Number("uint32"))
        self.flush()
        name = self._name("n")
        self._line(f"{name} = {run}[{index}]")
        return name

    def _tuple_for(self, item: Number) -> str:
        """Aligns, and starts a new run where doubles and floats meet (only doubles are made finite as a run)."""
        other = {"float": "d", "double": "f"}.get(item.name)
        if other and any(other in part for part in self._format):
            self.flush()
        self._align(item.size)
        return self._tuple

    def _add(self, item: Number, length: int = 1) -> int:
        first = self._items
        self._format.append(f"{length}{item.code}" if length > 1 else item.code)
        self._items += length
        self._residue = (self._residue + length * item.size) % self._modulus
        return first

    def _align(self, size: int) -> None:
        if self._modulus >= size:
            self._pad(-self._residue % size)
            return
        self.flush()
        self._line(f"o = {_aligned(size)}")
        self._modulus, self._residue = size, 0

    def _pad(self, size: int) -> None:
        if size:
            self._format.append(f"{size}x")
            self._residue = (self._residue + size) % self._modulus

    def _forget(self, modulus: int) -> None:
        self._modulus, self._residue = modulus, 0

    def _name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def _line(self, text: str) -> None:
        self.lines.append("    " * self._depth + text)


def _aligned(size: int) -> str:
    return {2: "(o + 1) & -2", 4: "(o + 3) & -4", 8: "((o + 3) & -8) + 4"}[size]


def _numpy_code(order: str, item: Number) -> str:
    kind = {"boolean": "?", "float": "f4", "double": "f8"}.get(item.name)
    if kind is None:
        kind = f"{'u' if item.name.startswith('u') else 'i'}{item.size}"
    return kind if item.size == 1 else order + kind
