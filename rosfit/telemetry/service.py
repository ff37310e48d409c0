"""What can be asked of telemetry. Callers own the unit of work and have checked that the device exists."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.paging import Page, decode_cursor, encode_cursor
from rosfit.kernel.ports import HotStore
from rosfit.kernel.work import Work
from rosfit.telemetry import repository
from rosfit.telemetry.errors import FrameNotFoundError, SeriesRequestError
from rosfit.telemetry.models import Frame, FrameInfo, Function, Item, LogLine, Order, Series, SeriesLine
from rosfit.telemetry.partitions import missing_partitions
from rosfit.telemetry.series import FIELD_LIMIT, align, bucket_for, bucket_starts, parse_bucket, with_gaps

_BEGINNING = datetime.min.replace(year=1, tzinfo=now().tzinfo)
_END = datetime.max.replace(tzinfo=now().tzinfo)

_decode_item = msgspec.json.Decoder(Item).decode
_decode_frame = msgspec.msgpack.Decoder(Frame).decode
_decode_info = msgspec.json.Decoder(FrameInfo).decode


async def raw(
    work: Work,
    device_id: str,
    *,
    stream: str | None,
    start: datetime | None,
    end: datetime | None,
    order: Order,
    cursor: str | None,
    limit: int,
) -> Page[Item]:
    """Samples by time; of one stream, or of all merged."""
    wanted = [stream] if stream else await repository.streams(work.connection, device_id)
    after = decode_cursor(cursor, tuple[datetime, str, str])
    rows = await repository.samples(
        work.connection, device_id, wanted, start or _BEGINNING, end or _END, order, after, limit + 1
    )
    items = [item for _, item in rows[:limit]]
    more = len(rows) > limit
    return Page(items, encode_cursor(*rows[limit - 1][0]) if more else None)


async def latest(work: Work, hot: HotStore, device_id: str) -> list[Item]:
    """The newest sample of every stream: from the hot store, which is rebuilt where it knows nothing."""
    try:
        found = await hot.latest(device_id)
        if found is not None:
            return [_decode_item(text) for _, text in sorted(found.items())]
        await hot.begin_rebuild(device_id)
    except UnavailableError:
        return [item for _, item in await _latest_stored(work, device_id)]
    rows = await _latest_stored(work, device_id)
    newest = {item.stream: (time.timestamp(), msgspec.json.encode(item)) for time, item in rows}
    with contextlib.suppress(UnavailableError):  # it is rebuilt at the next question
        await hot.rebuild_latest(device_id, newest)
    return [item for _, item in rows]


async def _latest_stored(work: Work, device_id: str) -> list[tuple[datetime, Item]]:
    wanted = await repository.streams(work.connection, device_id)
    return await repository.latest(work.connection, device_id, wanted)


async def series(
    work: Work,
    device_id: str,
    *,
    stream: str,
    fields: Sequence[str],
    start: datetime | None,
    end: datetime | None,
    bucket: str | None,
    points: int,
    fn: Function,
) -> Series:
    """One line per field over shared buckets. The last hour when no time is given."""
    if not 1 <= len(fields) <= FIELD_LIMIT:
        raise SeriesRequestError(f"give 1 to {FIELD_LIMIT} fields, not {len(fields)}")
    end = end or now()
    start = start or end - timedelta(hours=1)
    if start >= end:
        raise SeriesRequestError(f"from ({format_time(start)}) must be before to ({format_time(end)})")
    bucket_us = parse_bucket(bucket) if bucket else bucket_for(start, end, points)
    start = align(start, bucket_us)
    times = bucket_starts(start, end, bucket_us)
    lines = []
    for field in fields:
        found = await repository.series(work.connection, device_id, stream, field.split("."), start, end, bucket_us, fn)
        lines.append(SeriesLine(stream, field, fn, with_gaps(found, len(times))))
    return Series([format_time(time) for time in times], lines)


async def logs(
    work: Work, device_id: str, levels: Sequence[str] | None, cursor: str | None, limit: int
) -> Page[LogLine]:
    """Newest first."""
    after = decode_cursor(cursor, tuple[datetime, str])
    rows = await repository.logs(work.connection, device_id, levels, after, limit + 1)
    more = len(rows) > limit
    return Page([line for _, line in rows[:limit]], encode_cursor(*rows[limit - 1][0]) if more else None)


async def frame(work: Work, hot: HotStore, device_id: str, name: str) -> Frame:
    """The newest frame: the hot store's, or the newest that came with QoS 1. Raises FrameNotFoundError."""
    try:
        packed = await hot.frame(device_id, name)
    except UnavailableError:
        packed = None
    found = _decode_frame(packed) if packed else await repository.get_frame(work.connection, device_id, name)
    if found is None:
        raise FrameNotFoundError(f"{device_id} has sent nothing on blob/{name[:64]}; see which blobs it publishes")
    return found


async def frames(work: Work, hot: HotStore, device_id: str) -> list[FrameInfo]:
    """The newest frame of every name, without its bytes: what a silent robot showed last."""
    found = {info.name: info for info in await repository.list_frames(work.connection, device_id)}
    with contextlib.suppress(UnavailableError):
        for about in (await hot.frames(device_id)).values():
            info = _decode_info(about)
            # The hot store's bytes are the ones that `frame` gives.
            found[info.name] = info
    return [found[name] for name in sorted(found)]


async def add_partitions(work: Work) -> int:
    """Make the partitions of the coming weeks; returns how many were missing."""
    existing = await repository.partitions(work.connection)
    if existing is None:
        return 0
    missing = missing_partitions(now().date(), existing)
    for monday in missing:
        await repository.add_partition(work.connection, monday)
    return len(missing)
