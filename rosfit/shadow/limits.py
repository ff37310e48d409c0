"""What a shadow may be: size, depth, length of keys, and no null in arrays. Pure."""

from __future__ import annotations

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
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max((_depth(one, depth + 1) for one in inner if isinstance(one, dict | list)), default=depth)


def check_section(name: str, section: Any) -> None:
    """Raises ShadowTooLargeError for a section that is too large after the merge."""
    size = len(msgspec.json.encode(section))
    if size > SECTION_BYTES:
        raise ShadowTooLargeError(f"{name} would be {size} bytes; at most {SECTION_BYTES}")
