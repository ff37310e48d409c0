"""MessagePack → plain values, so that robots need no package for it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 32
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d",
    0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def unpack(data: bytes) -> Any:
    """Raises ValueError for what is not exactly one value, or holds an extension type."""
    reader = _Reader(data)
    try:
        value = reader.value(0)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise ValueError(f"not MessagePack: {error}") from error
    if reader.at != len(data):
        raise ValueError(f"not MessagePack: {len(data) - reader.at} bytes too many")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        tag = self._take(1)[0]
        if tag < 0x80 or tag >= 0xE0:
            return tag if tag < 0x80 else tag - 0x100
        if tag < 0xC0:
            return self._short(tag, depth)
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag in _NUMBERS:
            return self._number(_NUMBERS[tag])
        return self._long(tag, depth)

    def _short(self, tag: int, depth: int) -> Any:
        if tag < 0x90:
            return self._map(tag & 0x0F, depth)
        if tag < 0xA0:
            return self._list(tag & 0x0F, depth)
        return self._text(tag & 0x1F)

    def _long(self, tag: int, depth: int) -> Any:
        forms: dict[int, tuple[str, Callable[[int], Any]]] = {
            0xC4: (">B", self._take), 0xC5: (">H", self._take), 0xC6: (">I", self._take),
            0xD9: (">B", self._text), 0xDA: (">H", self._text), 0xDB: (">I", self._text),
            0xDC: (">H", lambda n: self._list(n, depth)), 0xDD: (">I", lambda n: self._list(n, depth)),
            0xDE: (">H", lambda n: self._map(n, depth)), 0xDF: (">I", lambda n: self._map(n, depth)),
        }  # fmt: skip
        if tag not in forms:
            raise ValueError(f"not MessagePack: type 0x{tag:02x} is not taken here")
        width, read = forms[tag]
        return read(self._number(width))

    def _take(self, count: int) -> bytes:
        taken = self._data[self.at : self.at + count]
        if len(taken) != count:
            raise ValueError("not MessagePack: it ends too early")
        self.at += count
        return taken

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _text(self, count: int) -> str:
        return self._take(count).decode("utf-8")

    def _list(self, count: int, depth: int) -> list[Any]:
        return [self.value(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[str, Any]:
        made = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str):
                raise ValueError("not an object: its keys are not text")
            made[key] = self.value(depth + 1)
        return made
