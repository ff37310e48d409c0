"""What differs between desired and reported, and JSON Merge Patch (RFC 7396). Pure."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

_MISSING = object()


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: `1` equals `1.0`, `true` is not `1`."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def delta(desired: Document, reported: Document) -> Document:
    """Each leaf of `desired` that `reported` lacks or has otherwise; arrays and empty objects are leaves.

    An empty object asks for an object and for nothing in it, so any object satisfies it.
    """
    found: Document = {}
    for key, wanted in desired.items():
        there = reported.get(key, _MISSING)
        if isinstance(wanted, dict) and isinstance(there, dict):
            if inner := delta(wanted, there):
                found[key] = inner
        elif not same(wanted, there):
            found[key] = wanted
    return found


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396: objects merge, null deletes, everything else replaces. Neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def merge_stamps(stamps: Document, patch: Document, stamp: Document) -> Document:
    """Metadata beside a merge: `stamp` at each leaf that the patch sets, nothing where it deletes."""
    result = dict(stamps)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif not isinstance(value, dict):
            result[key] = stamp
        else:
            result[key] = _merge_level(result.get(key), value, stamp)
    return result


def _merge_level(stamps: Any, patch: Document, stamp: Document) -> Document:
    """An empty object is a leaf where there was none; in an object that has leaves it sets nothing."""
    levels = stamps if isinstance(stamps, dict) and not is_stamp(stamps) else {}
    return merge_stamps(levels, patch, stamp) or stamp


def is_stamp(value: Document) -> bool:
    """Whether this is a leaf of metadata and not a level of it."""
    return isinstance(value.get("timestamp"), str)
