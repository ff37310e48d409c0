"""Every message type that is installed, random messages of it, and what they look like in JSON.

Written from rclpy's message classes alone, so that it can judge the converters.
"""

import base64
import importlib
import math
import pkgutil
import random
import struct

import numpy as np
from rosidl_parser import definition as idl

EXTREMES = {
    "float": [0.0, -0.0, 0.1, 1e-45, 3.4028235e38, math.nan, math.inf, -math.inf, 16777216.0, 1 / 3],
    "double": [0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf, 2.0**53],
}
RANGES = {
    "uint8": (0, 2**8 - 1),
    "int8": (-(2**7), 2**7 - 1),
    "uint16": (0, 2**16 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint32": (0, 2**32 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint64": (0, 2**64 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
ALPHABET = "abcXYZ 0189_/\\\"'\n\täß€漢字😀"


def installed_types():
    """`[(name, class)]` of every message, service request and response on the path."""
    found = {}
    for module in pkgutil.iter_modules():
        for kind in ("msg", "srv"):
            for cls in _classes(module.name, kind):
                found[f"{module.name}/{kind}/{cls.__name__}"] = cls
    return sorted(found.items())


def _classes(package, kind):
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not any(name == kind for _, name, _ in pkgutil.iter_modules(places)):
        return
    for cls in vars(importlib.import_module(f"{package}.{kind}")).values():
        for candidate in (cls, getattr(cls, "Request", None), getattr(cls, "Response", None)):
            if hasattr(candidate, "SLOT_TYPES") and hasattr(candidate, "get_fields_and_field_types"):
                yield candidate


def fields(cls):
    names = [n for n in cls.get_fields_and_field_types() if n != "structure_needs_at_least_one_member"]
    return list(zip(names, cls.SLOT_TYPES, strict=False))


def class_of(slot):
    module = importlib.import_module(".".join(slot.namespaces))
    if hasattr(module, slot.name):
        return getattr(module, slot.name)
    owner, _, member = slot.name.rpartition("_")
    return getattr(getattr(module, owner), member)


def random_message(cls, rng: random.Random):
    message = cls()
    for name, slot in fields(cls):
        setattr(message, name, _random(slot, rng))
    return message


def _random(slot, rng):
    if isinstance(slot, idl.BasicType):
        return _random_number(slot.typename, rng)
    if isinstance(slot, idl.AbstractGenericString):
        limit = slot.maximum_size if slot.has_maximum_size() else 12
        return "".join(rng.choice(ALPHABET) for _ in range(rng.randint(0, min(limit, 12))))
    if isinstance(slot, idl.Array):
        return _random_items(slot.value_type, slot.size, rng)
    if isinstance(slot, idl.AbstractSequence):
        bound = slot.maximum_size if isinstance(slot, idl.BoundedSequence) else 40
        return _random_items(
            slot.value_type, rng.choice([0, 1, 2, 3, min(bound, 40)]) if bound > 3 else rng.randint(0, bound), rng
        )
    return random_message(class_of(slot), rng)


def _random_items(slot, count, rng):
    items = [_random(slot, rng) for _ in range(count)]
    if isinstance(slot, idl.BasicType) and slot.typename == "float":
        return np.array(items, np.float32)
    return items


def _random_number(name, rng):
    if name == "boolean":
        return rng.random() < 0.5
    if name == "octet":
        return bytes([rng.randint(0, 255)])
    if name in EXTREMES:
        value = rng.choice([*EXTREMES[name], rng.uniform(-100, 100), rng.gauss(0, 1e6)])
        return float(np.float32(value)) if name == "float" else value
    low, high = RANGES[name]
    return rng.choice([low, high, 0 if low <= 0 else low, rng.randint(low, high), min(high, 2**53 + 1)])


def expected(message):
    return {name: _expected(slot, getattr(message, name)) for name, slot in fields(type(message))}


def _expected(slot, value):
    if isinstance(slot, idl.BasicType):
        return _expected_number(slot.typename, value)
    if isinstance(slot, idl.AbstractGenericString):
        return value
    if isinstance(slot, (idl.Array, idl.AbstractSequence)):
        return _expected_items(slot.value_type, value)
    return expected(value)


def _expected_items(slot, value):
    if isinstance(slot, idl.BasicType) and slot.typename in ("octet", "uint8", "char"):
        return base64.b64encode(b"".join(v if isinstance(v, bytes) else bytes([v]) for v in value)).decode()
    return [_expected(slot, v) for v in value]


def _expected_number(name, value):
    if name == "octet":
        return value[0]
    if name == "boolean":
        return bool(value)
    if name in EXTREMES:
        return _expected_float(name, float(value))
    return int(value) if abs(int(value)) <= 2**53 else str(int(value))


def _expected_float(name, value):
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return Float32(value) if name == "float" else value


class Float32(float):
    """Equal to any double that reads back as the same float32."""

    def __eq__(self, other):
        try:
            return isinstance(other, float) and struct.pack("f", other) == struct.pack("f", self)
        except OverflowError:
            return False

    __hash__ = float.__hash__
