"""Layers of desired values laid over each other: fleet, groups, the device's own. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from rosfit.shadow.delta import Document


class Layer(NamedTuple):
    """Values, and beside each leaf its stamp."""

    document: Document
    stamps: Document


def overlay(layers: Iterable[Layer]) -> Layer:
    """From the bottom up: objects merge, every other value hides what lies below it."""
    result = Layer({}, {})
    for layer in layers:
        result = _over(result, layer)
    return result


def _over(below: Layer, above: Layer) -> Layer:
    document, stamps = dict(below.document), dict(below.stamps)
    for key, value in above.document.items():
        there, stamp = document.get(key), above.stamps.get(key, {})
        if not (isinstance(value, dict) and isinstance(there, dict) and there):
            document[key], stamps[key] = value, stamp
        elif value:
            document[key], stamps[key] = _over(Layer(there, _level(stamps.get(key))), Layer(value, stamp))
    return Layer(document, stamps)


def _level(stamps: Any) -> Document:
    return stamps if isinstance(stamps, dict) else {}
