"""JSON may write numbers that no double and no 64-bit integer holds; what a device said must still be readable."""

from __future__ import annotations

import json
from typing import Any

import msgspec

# 2^64 and -2^63 are written with so many characters.
_LONGEST_OF_64_BITS = 20


def read_json(text: bytes | msgspec.Raw) -> Any:
    """The value of valid JSON. Where a number is out of range, long integers become text and such floats infinite."""
    try:
        return msgspec.json.decode(text)
    except msgspec.ValidationError:
        return _with_long_integers_as_text(text)


def msgpack_from_json(text: bytes) -> bytes:
    """The same as MessagePack, where integers beyond 64 bits are text."""
    try:
        return msgspec.msgpack.encode(read_json(text))
    except OverflowError:
        return msgspec.msgpack.encode(_with_long_integers_as_text(text))


def _with_long_integers_as_text(text: bytes | msgspec.Raw) -> Any:
    return json.loads(bytes(text), parse_int=_integer)


def _integer(digits: str) -> int | str:
    # Python itself refuses to convert more than some thousand digits.
    if len(digits) > _LONGEST_OF_64_BITS:
        return digits
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else digits
