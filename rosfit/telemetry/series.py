"""The pure part of a series: which buckets, which field, and gaps as nulls."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta

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


def parse_bucket(text: str) -> float:
    """`10s`, `5m`, `1h`, `1d`, `250ms` or plain seconds, as seconds."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNIT_S[match[2] or "s"] if match else 0.0
    if not 0.001 <= seconds <= 366 * 86_400:
        raise SeriesRequestError(f"bucket={text[:20]!r} is not a width such as 10s, 5m, 1h or 1d, from 1 ms to a year")
    return seconds


def bucket_for(start: datetime, end: datetime, points: int) -> float:
    """The smallest round width, in seconds, that needs at most `points` buckets."""
    exact = (end - start).total_seconds() / points
    return next((width for width in _ROUND_S if width >= exact), math.ceil(exact / 604_800) * 604_800)


def align(start: datetime, bucket_s: float) -> datetime:
    """The bucket boundary at or before `start`, so that a chart does not tremble as it moves."""
    seconds = start.timestamp()
    return start - timedelta(seconds=seconds % bucket_s)


def bucket_starts(start: datetime, end: datetime, bucket_s: float) -> list[datetime]:
    count = math.ceil((end - start).total_seconds() / bucket_s)
    if count > BUCKET_LIMIT:
        raise SeriesRequestError(f"{count} buckets; at most {BUCKET_LIMIT}: choose a wider bucket or a shorter time")
    return [start + timedelta(seconds=number * bucket_s) for number in range(count)]


def with_gaps(found: Mapping[int, float | None], count: int) -> list[float | None]:
    return [found.get(number) for number in range(count)]
