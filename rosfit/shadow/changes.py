"""What is different between documents, leaf by leaf, and changes of two people brought together. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

import msgspec

from rosfit.shadow.delta import Document, merge, same

Path = tuple[str, ...]

MISSING: Final = msgspec.UNSET


class Change(msgspec.Struct, frozen=True):
    """One leaf; MISSING where it is not there."""

    path: Path
    before: Any
    after: Any


class Meeting(msgspec.Struct, frozen=True):
    """A leaf that one side changed, or both; they clash where both cannot be had."""

    path: Path
    base: Any
    yours: Any
    theirs: Any
    clash: bool


def leaves(document: Document) -> dict[Path, Any]:
    """Every leaf by its path; arrays and empty objects are leaves."""
    return dict(_walk(document, ()))


def _walk(value: Document, path: Path) -> Iterator[tuple[Path, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _walk(inner, (*path, key))
        else:
            yield (*path, key), inner


def changes(before: Document, after: Document) -> list[Change]:
    """What `after` sets or removes, in the order of `after`. An empty object that was filled is not removed."""
    old, new = leaves(before), leaves(after)
    found = [Change(path, old.get(path, MISSING), value) for path, value in new.items()]
    gone = [Change(path, value, MISSING) for path, value in old.items() if path not in new]
    return [one for one in found if not same(one.before, one.after)] + [
        one for one in gone if not isinstance(get_at(after, one.path), dict)
    ]


def patch_between(before: Document, after: Document) -> Document:
    """The merge patch that makes `after` of `before`; empty where they are the same."""
    patch: Document = {key: None for key in before if key not in after}
    for key, wanted in after.items():
        had = before.get(key, MISSING)
        if isinstance(wanted, dict) and isinstance(had, dict):
            if inner := patch_between(had, wanted):
                patch[key] = inner
        elif not same(had, wanted):
            patch[key] = wanted
    return patch


def meetings(base: Document, yours: Document, theirs: Document) -> list[Meeting]:
    """Every leaf that either side changed since `base`; those that clash come first."""
    mine = {one.path: one for one in changes(base, yours)}
    other = {one.path: one for one in changes(base, theirs)}
    found = [
        Meeting(
            path,
            _leaf(base, path),
            _leaf(yours, path),
            _leaf(theirs, path),
            path in mine and any(_clashes(mine[path], one) for one in other.values()),
        )
        for path in [*mine, *(path for path in other if path not in mine)]
    ]
    return sorted(found, key=lambda one: not one.clash)


def _clashes(mine: Change, other: Change) -> bool:
    """The same leaf with another value, or a leaf where the other side has an object."""
    if mine.path == other.path:
        return not same(mine.after, other.after)
    above, below = sorted((mine, other), key=lambda one: len(one.path))
    return below.path[: len(above.path)] == above.path and below.after is not MISSING and above.after != {}


def combine(base: Document, yours: Document, theirs: Document, given_up: Collection[Path] = ()) -> Document:
    """`theirs` with your changes since `base`, except for those given up."""
    kept = [one for one in changes(base, yours) if one.path not in given_up]
    result = theirs
    for one in sorted(kept, key=lambda one: one.after is not MISSING):
        result = _without(result, one.path, yours) if one.after is MISSING else set_at(result, one.path, one.after)
    return result


def _without(document: Document, path: Path, yours: Document) -> Document:
    """And without the objects that are empty then, where `yours` has none."""
    document = remove_at(document, path)
    parent = path[:-1]
    emptied = parent and get_at(document, parent) == {} and get_at(yours, parent) is MISSING
    return _without(document, parent, yours) if emptied else document


def get_at(document: Any, path: Path) -> Any:
    """MISSING where there is nothing."""
    for key in path:
        if not isinstance(document, dict):
            return MISSING
        document = document.get(key, MISSING)
    return document


def _leaf(document: Document, path: Path) -> Any:
    """MISSING also where there is an object with leaves of its own."""
    value = get_at(document, path)
    return MISSING if isinstance(value, dict) and value else value


def set_at(document: Document, path: Path, value: Any) -> Document:
    """A copy with `value` there; an empty object leaves an object that is there as it is."""
    patch = value
    for key in reversed(path):
        patch = {key: patch}
    result: Document = merge(document, patch)
    return result


def remove_at(document: Document, path: Path) -> Document:
    """A copy without what is there; what holds it stays."""
    parent = get_at(document, path[:-1])
    if not isinstance(parent, dict) or path[-1] not in parent:
        return document
    return set_at(document, path, None)
