"""A shadow as rows to look at: each leaf with what is desired, what is reported, when and by whom. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from rosfit.shadow.changes import MISSING, Change, Path, changes, get_at, leaves
from rosfit.shadow.delta import Document, is_stamp
from rosfit.shadow.models import Shadow


@dataclass(frozen=True)
class Side:
    """A value as JSON, when it was last set, by whom if that is known, and in which layer if not the robot's own."""

    text: str
    at: str | None
    by: str | None
    layer: str | None = None


@dataclass(frozen=True)
class Row:
    """One leaf. `delta` is what the robot still has to take over."""

    label: str
    desired: Side | None
    reported: Side | None
    delta: str | None


@dataclass(frozen=True)
class Changed:
    """One leaf as JSON before and after, None where it was not there."""

    label: str
    before: str | None
    after: str | None


def rows_of(shadow: Shadow, names: Mapping[str, str]) -> list[Row]:
    """What differs first, then by name; `names` are those of people and keys by their id."""
    desired, reported = leaves(shadow.state.get("desired", {})), leaves(shadow.state.get("reported", {}))
    differing = leaves(shadow.state.get("delta", {}))
    stamps, heard = shadow.metadata.get("desired", {}), shadow.metadata.get("reported", {})
    paths = sorted({*desired, *reported}, key=lambda path: (path not in differing, path))
    return [
        Row(
            label_of(path),
            side(desired[path], get_at(stamps, path), names) if path in desired else None,
            side(reported[path], get_at(heard, path), names) if path in reported else None,
            json_text(differing.get(path, MISSING)),
        )
        for path in paths
    ]


def side(value: Any, stamp: Any, names: Mapping[str, str]) -> Side:
    if not isinstance(stamp, dict) or not is_stamp(stamp):
        return Side(str(json_text(value)), None, None)
    by = stamp.get("by")
    who = names.get(by, by) if isinstance(by, str) else None
    return Side(str(json_text(value)), stamp["timestamp"], who, stamp.get("layer"))


def authors(metadata: Document) -> set[str]:
    """Who set the leaves of a section."""
    return set(_authors(metadata.values()))


def _authors(levels: Iterable[Any]) -> Iterator[str]:
    for level in levels:
        if not isinstance(level, dict):
            continue
        if is_stamp(level):
            if isinstance(by := level.get("by"), str):
                yield by
        else:
            yield from _authors(level.values())


def changed(before: Document, after: Document) -> list[Changed]:
    return [changed_leaf(one) for one in changes(before, after)]


def changed_leaf(change: Change) -> Changed:
    return Changed(label_of(change.path), json_text(change.before), json_text(change.after))


def label_of(path: Path) -> str:
    """`nav.speed`; a key that has a dot itself is quoted."""
    return ".".join(f'"{key}"' if "." in key or not key else key for key in path)


def digest_of(document: Document) -> str:
    """The same for the same values, whatever their order."""
    return hashlib.sha256(msgspec.json.encode(document, order="deterministic")).hexdigest()[:16]


def json_text(value: Any) -> str | None:
    return None if value is MISSING else msgspec.json.encode(value).decode()
