"""JSON may write numbers that no double and no 64-bit integer holds; what a device said must still be readable."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

# 2^64 and -2^63 are written with so many characters.
_LONGEST_OF_64_BITS = 20

# With zeros for digits and no signs, an exponent of three digits reads `e000`: 0.3 us to see that there is none.
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
_STRING_OR_EXPONENT = re.compile(rb'"(?:[^"\\]|\\.)*"|[eE][+-]?([0-9]{3,})')


def written_out(text: bytes) -> int:
    """About how many bytes it takes once PostgreSQL has written out its numbers: 1e100000 has 100,001 digits."""
    if b"e000" not in text.translate(_DIGITS, b"+-"):
        return len(text)
    exponents = (match[1] for match in _STRING_OR_EXPONENT.finditer(text) if match[1])
    return len(text) + sum(int(digits[:9]) for digits in exponents)


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
