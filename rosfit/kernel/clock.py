"""Wall-clock time and its form on the wire (RFC 3339, UTC, milliseconds)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

# A time as text, as `format_time` and the SQL function `wire_time` write it.
WireTime = Annotated[
    str, msgspec.Meta(extra_json_schema={"format": "date-time"}, examples=["2026-03-30T10:05:32.123Z"])
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Unix seconds stay below this until the year 5138; milliseconds have been above it since 1973.
_SECONDS_BELOW = 100_000_000_000


def now() -> datetime:
    return datetime.now(UTC)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: `2026-03-30T10:05:32.123Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_time(value: object) -> datetime:
    """RFC 3339 text with an offset, or Unix seconds or milliseconds as a number.

    Raises ValueError, with what is expected, for anything else.
    """
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a time is RFC 3339 text or Unix seconds or milliseconds as a number")
    seconds = value / 1000 if abs(value) >= _SECONDS_BELOW else value
    try:
        return EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"{value!r} is not a Unix time in seconds or milliseconds") from error


def _from_text(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is not an RFC 3339 time such as 2026-03-30T10:05:32.123Z") from error
    if moment.tzinfo is None or text[10:11] not in {"T", "t", " "}:
        raise ValueError(f"{text[:40]!r} is not an RFC 3339 time with an offset, such as …T10:05:32.123Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text[:40]!r} lies outside the years 1 to 9999") from error
