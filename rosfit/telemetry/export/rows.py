"""What every format is made of: samples, and values found in their payloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rosfit.protocol.numbers import read_json
from rosfit.telemetry.models import Item
from rosfit.telemetry.repository import SampleKey

# The exact time of a sample is in its key; in the item it is text with milliseconds.
Row = tuple[SampleKey, Item]

FIELD_LIMIT = 100


class Fields:
    """Values at dotted paths, `battery.percent` or `ranges.0`; None where a payload has nothing there."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._paths = [field.split(".") for field in fields]

    def of(self, payload: msgspec.Raw) -> list[Any]:
        document = read_json(payload)
        return [_at(document, path) for path in self._paths]


def _at(value: Any, path: Sequence[str]) -> Any:
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
