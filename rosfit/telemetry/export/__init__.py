"""The samples of a device as one file, written page by page while it is read; it may be larger than memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from rosfit.kernel.clock import now
from rosfit.kernel.work import OpenWork, Work
from rosfit.telemetry import repository
from rosfit.telemetry.errors import ExportRequestError
from rosfit.telemetry.export.rows import FIELD_LIMIT, Row
from rosfit.telemetry.repository import SampleKey

Format = Literal["csv", "jsonl", "parquet", "mcap"]

MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "mcap": "application/vnd.mcap",
}

# A page is one query: so many samples, or fewer of large ones.
PAGE_ROWS = 2000
PAGE_BYTES = 4 * 1024 * 1024
FIRST_PAGE_ROWS = 100

_BEGINNING = datetime.min.replace(tzinfo=now().tzinfo)


class Wanted(msgspec.Struct, frozen=True):
    """What to export: every stream unless some are named, from the first sample until now unless times are given.

    `fields` are dotted paths; each becomes a column, in place of the payload.
    """

    device_id: str
    format: Format
    streams: Sequence[str] = ()
    start: datetime | None = None
    end: datetime | None = None
    fields: Sequence[str] = ()


class Encoder(Protocol):
    """Bytes of a file for each page, and those at its end."""

    def page(self, rows: Sequence[Row]) -> bytes: ...

    def end(self) -> bytes: ...


def check(wanted: Wanted) -> None:
    """Raises ExportRequestError."""
    if wanted.fields and wanted.format not in {"csv", "parquet"}:
        raise ExportRequestError(f"`field` makes columns, which {wanted.format} has none of; leave it out")
    if len(wanted.fields) > FIELD_LIMIT:
        raise ExportRequestError(f"give up to {FIELD_LIMIT} fields, not {len(wanted.fields)}")
    if len(set(wanted.fields)) < len(wanted.fields):
        raise ExportRequestError("a field is named twice")
    if wanted.start and wanted.end and wanted.start >= wanted.end:
        raise ExportRequestError("`from` must be before `to`")


async def export(open_work: OpenWork, wanted: Wanted) -> AsyncIterator[bytes]:
    """The file piece by piece, oldest sample first. No connection is held while the reader takes a piece."""
    check(wanted)
    end = wanted.end or now()
    encoder = await asyncio.to_thread(_encoder, wanted)
    async with open_work() as work:
        streams = wanted.streams or await repository.streams(work.connection, wanted.device_id)
    limit, after = FIRST_PAGE_ROWS, None
    while True:
        async with open_work() as work:
            rows = await _page(work, wanted, streams, end, after, limit)
        # Off the loop: the page of a compressed format takes tens of milliseconds.
        if piece := await asyncio.to_thread(encoder.page, rows):
            yield piece
        if len(rows) < limit:
            break
        after, limit = rows[-1][0], _next_limit(rows)
    yield await asyncio.to_thread(encoder.end)


async def _page(
    work: Work, wanted: Wanted, streams: Sequence[str], end: datetime, after: SampleKey | None, limit: int
) -> list[Row]:
    start = wanted.start or _BEGINNING
    return await repository.samples(work.connection, wanted.device_id, streams, start, end, "asc", after, limit)


def _next_limit(rows: Sequence[Row]) -> int:
    size = sum(len(item.payload) for _, item in rows)
    return max(1, min(PAGE_ROWS, PAGE_BYTES * len(rows) // max(size, 1)))


def _encoder(wanted: Wanted) -> Encoder:
    # Each brings its library along only when it is asked for: that of Parquet takes 50 MB.
    match wanted.format:
        case "csv":
            from rosfit.telemetry.export.text import CsvEncoder

            return CsvEncoder(wanted.fields)
        case "jsonl":
            from rosfit.telemetry.export.text import JsonLinesEncoder

            return JsonLinesEncoder()
        case "parquet":
            from rosfit.telemetry.export.parquet import ParquetEncoder

            return ParquetEncoder(wanted.fields)
        case "mcap":
            from rosfit.telemetry.export.mcap import McapEncoder

            return McapEncoder(wanted.device_id)
