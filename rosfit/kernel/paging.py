"""Keyset paging: opaque cursors over the sort key of the last item shown."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from rosfit.kernel.errors import BadRequestError

T = TypeVar("T")

MAX_LIMIT = 200


class Page(msgspec.Struct, Generic[T], frozen=True):
    """`next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None = None


class CursorError(BadRequestError):
    code = "INVALID_CURSOR"
    title = "The cursor is not one this list gave out"


def encode_cursor(*key: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decode_cursor(cursor: str | None, types: type[tuple[Any, ...]] | Any) -> Any:
    """The sort key inside `cursor` as a tuple of `types`, or None for the first page."""
    if not cursor:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(raw, type=types)
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise CursorError("Use a next_cursor from the same list, or none for the first page") from error


def page_within(items: Iterable[T], limit: int, cursor: str | None, key: Callable[[T], str]) -> Page[T]:
    """A page of a list that is at hand as a whole, in the order of `key`."""
    after = decode_cursor(cursor, tuple[str])
    rows = sorted((item for item in items if after is None or key(item) > after[0]), key=key)
    return page_of(rows, limit, lambda item: (key(item),))


def page_of(rows: Sequence[T], limit: int, key: Callable[[T], tuple[Any, ...]]) -> Page[T]:
    """A page from `limit + 1` rows: the extra row only says that there is a next page."""
    items = list(rows[:limit])
    more = len(rows) > limit
    return Page(items, encode_cursor(*key(items[-1])) if more and items else None)
