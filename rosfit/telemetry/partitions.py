"""Which range partitions plain PostgreSQL needs; TimescaleDB makes its own chunks."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta

# Weekly: a year of telemetry is 52 tables, which the planner prunes in microseconds.
SPAN = timedelta(days=7)

# Times outside these weeks (a robot without a clock, an import) lie in the default partition.
WEEKS_AHEAD = 3


def partition_name(monday: date) -> str:
    return f"telemetry_{monday:%Y%m%d}"


def missing_partitions(today: date, existing: Collection[str]) -> list[date]:
    """The Mondays, from this week on, for which a partition must still be made."""
    this_monday = today - timedelta(days=today.weekday())
    mondays = [this_monday + week * SPAN for week in range(WEEKS_AHEAD)]
    return [monday for monday in mondays if partition_name(monday) not in existing]


def bounds(monday: date) -> tuple[datetime, datetime]:
    start = datetime.combine(monday, time(), UTC)
    return start, start + SPAN
