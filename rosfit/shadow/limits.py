"""What a shadow may be: size, depth, length of keys, and no null in arrays. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from rosfit.shadow.errors import ShadowShapeError, ShadowTooLargeError

SECTION_BYTES = 32 * 1024
DEPTH = 10
KEY_BYTES = 256


def check_patch(patch: Any) -> None:
    """Raises ShadowShapeError with the measured number."""
    _check(patch, 1)


def _check(value: Any, depth: int) -> None:
    if isinstance(value, dict | list) and depth > DEPTH:
        raise ShadowShapeError(f"{_depth(value, depth)} levels deep; at most {DEPTH}")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_key(key)
            _check(inner, depth + 1)
    elif isinstance(value, list):
        if any(inner is None for inner in value):
            raise ShadowShapeError("an array contains null, which a merge could not tell from deleting")
        for inner in value:
            _check(inner, depth + 1)


def _check_key(key: str) -> None:
    size = len(key.encode())
    if size > KEY_BYTES:
        raise ShadowShapeError(f"a key of {size} bytes ({key[:32]!r}…); at most {KEY_BYTES}")
    if "\0" in key:
        raise ShadowShapeError("a key contains U+0000, which cannot be stored")


def _depth(value: Any, depth: int) -> int:
    """Level by level: what is far too deep must not end in Python's own limit."""
    level = [value]
    while level := [inner for one in level for inner in _inside(one) if isinstance(inner, dict | list)]:
        depth += 1
    return depth


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def check_section(name: str, section: Any) -> None:
    """Raises ShadowTooLargeError for a section that is too large after the merge."""
    size = len(msgspec.json.encode(section))
    if size > SECTION_BYTES:
        raise ShadowTooLargeError(f"{name} would be {size} bytes; at most {SECTION_BYTES}")
