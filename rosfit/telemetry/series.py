"""The pure part of a series: which buckets, which field, and gaps as nulls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from rosfit.kernel.clock import EPOCH
from rosfit.telemetry.errors import SeriesRequestError

BUCKET_LIMIT = 10_000
FIELD_LIMIT = 16

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?")
_UNIT_S = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}

# Widths that people read off an axis, in seconds.
_ROUND_S = (
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
    3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
)  # fmt: skip
_WEEK_S = 604_800

# Widths are whole microseconds, as times in the database are: 0.3 / 0.1 is less than 3 in binary.
_SECOND_US = 1_000_000
_MICROSECOND = timedelta(microseconds=1)


def parse_bucket(text: str) -> int:
    """`10s`, `5m`, `1h`, `1d`, `250ms` or plain seconds, as microseconds."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNIT_S[match[2] or "s"] if match else 0.0
    if not 0.001 <= seconds <= 366 * 86_400:
        raise SeriesRequestError(f"bucket={text[:20]!r} is not a width such as 10s, 5m, 1h or 1d, from 1 ms to a year")
    return round(seconds * _SECOND_US)


def bucket_for(start: datetime, end: datetime, points: int) -> int:
    """The smallest round width, in microseconds, that needs at most `points` buckets (two where one cannot do)."""
    most = max(points, 2)
    for width_s in _widths():
        width_us = round(width_s * _SECOND_US)
        if count_buckets(align(start, width_us), end, width_us) <= most:
            return width_us
    raise AssertionError("unreachable: widths grow without end")


def _widths() -> Iterator[float]:
    yield from _ROUND_S
    weeks = 2
    while True:
        yield weeks * _WEEK_S
        weeks *= 2


def align(start: datetime, bucket_us: int) -> datetime:
    """The bucket boundary at or before `start`, so that a chart does not tremble as it moves."""
    beyond_us = (start - EPOCH) // _MICROSECOND % bucket_us
    try:
        return start - timedelta(microseconds=beyond_us)
    except OverflowError:  # the boundary lies before the year 1
        return start


def count_buckets(start: datetime, end: datetime, bucket_us: int) -> int:
    return -((start - end) // _MICROSECOND // bucket_us)


def bucket_starts(start: datetime, end: datetime, bucket_us: int) -> list[datetime]:
    count = count_buckets(start, end, bucket_us)
    if count > BUCKET_LIMIT:
        raise SeriesRequestError(f"{count} buckets; at most {BUCKET_LIMIT}: choose a wider bucket or a shorter time")
    return [start + timedelta(microseconds=number * bucket_us) for number in range(count)]


def with_gaps(found: Mapping[int, float | None], count: int) -> list[float | None]:
    return [found.get(number) for number in range(count)]
