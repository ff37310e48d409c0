"""ROS parameter values as JSON and back, by the numbers of rcl_interfaces/msg/ParameterType."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rosfit_bridge.convert import values

NOT_SET, BOOL, INTEGER, DOUBLE, STRING = range(5)
BYTES, BOOLS, INTEGERS, DOUBLES, STRINGS = range(5, 10)

FIELDS = {
    BOOL: "bool_value",
    INTEGER: "integer_value",
    DOUBLE: "double_value",
    STRING: "string_value",
    BYTES: "byte_array_value",
    BOOLS: "bool_array_value",
    INTEGERS: "integer_array_value",
    DOUBLES: "double_array_value",
    STRINGS: "string_array_value",
}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {value!r}")
    value.encode("utf-8")  # half a surrogate pair is a ValueError
    return value


def _int64(value: Any) -> int:
    number = values.to_int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{number} does not fit 64 bits")
    return number


def _octets(value: Any) -> list[bytes]:
    return [bytes([octet]) for octet in values.to_bytes(value)]


def _list_of(item: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def convert(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError(f"expected a list, got {value!r}")
        return [item(each) for each in value]

    return convert


_FROM_JSON: dict[int, Callable[[Any], Any]] = {
    BOOL: values.to_bool,
    INTEGER: _int64,
    DOUBLE: values.to_float,
    STRING: _text,
    BYTES: _octets,
    BOOLS: _list_of(values.to_bool),
    INTEGERS: _list_of(_int64),
    DOUBLES: _list_of(values.to_float),
    STRINGS: _list_of(_text),
}


def from_json(value: Any, kind: int) -> tuple[int, Any]:
    """Type and value of what `value` becomes for a parameter of type `kind`. Raises ValueError."""
    if kind == NOT_SET:
        kind = _guess(value)
    return kind, _FROM_JSON[kind](value)


def to_json(message: Any) -> Any:
    """Of a rcl_interfaces/msg/ParameterValue."""
    if message.type == NOT_SET:
        return None
    value = getattr(message, FIELDS[message.type])
    if message.type in (BOOL, STRING):
        return value
    if message.type == INTEGER:
        return values.big(value)
    if message.type == DOUBLE:
        return values.number(value)
    if message.type == BYTES:
        return values.octets(value)
    wrap = {INTEGERS: values.bigs, DOUBLES: values.numbers}.get(message.type, list)
    return wrap(list(value))


def _guess(value: Any) -> int:
    """A parameter without a type of its own takes that of the value."""
    single = {bool: BOOL, int: INTEGER, float: DOUBLE, str: STRING}
    if type(value) in single:
        return single[type(value)]
    kinds = {type(item) for item in value} if isinstance(value, list) else set()
    if kinds == {int, float}:
        return DOUBLES
    lists = {bool: BOOLS, int: INTEGERS, float: DOUBLES, str: STRINGS}
    if len(kinds) == 1 and (kind := kinds.pop()) in lists:
        return lists[kind]
    raise ValueError(f"expected true or false, a number, text, or a list of one of them; got {value!r}")
