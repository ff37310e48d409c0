"""JSON has no NaN, no 64-bit integers and no bytes: how single values and arrays are written instead."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

try:
    from pybase64 import b64encode as _b64encode
except ImportError:
    from base64 import b64encode as _b64encode

SAFE = 2**53
_FLOAT32 = struct.Struct("f")
_NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def nonfinite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def number(value: float) -> Any:
    return value if value - value == 0.0 else nonfinite(value)


def short(value: float) -> Any:
    """A float32 with the fewest digits that read back as the same float32 (0.1, not 0.10000000149011612)."""
    if value - value != 0.0:
        return nonfinite(value)
    packed = _FLOAT32.pack(value)
    for digits in ("%.6g", "%.7g", "%.8g"):
        candidate = float(digits % value)
        # The first can round up past the largest float32, which struct refuses.
        if abs(candidate) <= 3.4028234663852886e38 and _FLOAT32.pack(candidate) == packed:
            return candidate
    return float("%.9g" % value)


def big(value: int) -> Any:
    return value if -SAFE <= value <= SAFE else str(value)


def numbers(values: list[float]) -> list[Any]:
    total = sum(values)
    return values if total - total == 0.0 else [number(v) for v in values]


def bigs(values: list[int]) -> list[Any]:
    if not values or (min(values) >= -SAFE and max(values) <= SAFE):
        return values
    return [big(v) for v in values]


def shorts(values: np.ndarray) -> list[Any]:
    """`short` for a whole float32 array: seven digits are enough for most, so the rest is done one by one."""
    if len(values) < 16 or not np.isfinite(values).all():
        return _shorts_by_parts(values)
    wide = values.astype(np.float64)
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log10(np.where(wide == 0.0, 1.0, np.abs(wide))))
        result = _rounded(wide, 6.0 - exponent)
        good = result.astype(np.float32) == values
        for digits in (7.0, 8.0):
            if good.all():
                break
            again = _rounded(wide, digits - exponent)
            result = np.where(good, result, again)
            good |= again.astype(np.float32) == values
    out = result.tolist()
    for index in np.flatnonzero(~good).tolist():
        out[index] = short(float(values[index]))
    return out


def _rounded(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Division by an exact power of ten gives the double nearest to the decimal, so it prints short."""
    up = np.power(10.0, np.maximum(places, 0.0))
    down = np.power(10.0, np.maximum(-places, 0.0))
    return np.rint(values * up / down) / up * down


def _shorts_by_parts(values: np.ndarray) -> list[Any]:
    if len(values) < 16:
        return [short(v) for v in values.tolist()]
    finite = np.isfinite(values)
    out = shorts(np.where(finite, values, np.float32(1.0)))
    for index in np.flatnonzero(~finite).tolist():
        out[index] = nonfinite(float(values[index]))
    return out


def b64(data: bytes) -> str:
    return _b64encode(data).decode("ascii")


def octets(values: Sequence[bytes]) -> str:
    """rclpy's `byte[]`: a list of one-byte bytes objects."""
    return b64(b"".join(values))


def presentable(value: Any) -> Any:
    """Parsed JSON as JSON and a merge patch carry it: no NaN, no half characters, and what is null is not there."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [presentable(each) for each in value]
    if isinstance(value, dict):
        return {presentable(key): presentable(each) for key, each in value.items() if each is not None}
    return value


def to_float(value: Any) -> float:
    if isinstance(value, str):
        if value not in _NAMES:
            raise ValueError(f"expected a number, got {value!r}")
        return _NAMES[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"expected a number, got {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("expected a number, got one with hundreds of digits") from error


def to_int(value: Any) -> int:
    if isinstance(value, str):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, got {value!r}")
    return value


def to_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return value


def to_bytes(value: Any) -> bytes:
    """Base64 text, raw bytes (MessagePack), or a list of numbers."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"expected base64, got {value[:20]!r} ({error})") from error
    if isinstance(value, list):
        return bytes(to_int(v) for v in value)
    raise ValueError(f"expected base64 text or a list of numbers, got {value!r}")
