"""Parquet, as pandas, DuckDB and Spark read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from rosfit.kernel.clock import parse_time
from rosfit.telemetry.export.rows import Fields, Row
from rosfit.telemetry.export.sink import Sink

TIME = pa.timestamp("us", tz="UTC")

# A row group is what a reader skips or loads at once.
GROUP_ROWS = 50_000
GROUP_BYTES = 16 * 1024 * 1024


class ParquetEncoder:
    """Times in microseconds; the payload as JSON, or a column of doubles for each field, with null for what is none."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = Fields(fields) if fields else None
        last = [(field, pa.float64()) for field in fields] or [("payload", pa.string())]
        heading = [("time", TIME), ("stream", pa.string()), ("message_id", pa.string()), ("seq", pa.int64())]
        self._schema = pa.schema([*heading, ("received_at", TIME), *last])
        self._sink = Sink()
        self._writer = ParquetWriter(self._sink, self._schema, compression="zstd")
        self._rows: list[list[Any]] = []
        self._size = 0

    def page(self, rows: Sequence[Row]) -> bytes:
        self._rows += [self._row(row) for row in rows]
        self._size += sum(len(item.payload) for _, item in rows)
        if len(self._rows) >= GROUP_ROWS or self._size >= GROUP_BYTES:
            self._write_group()
        return self._sink.take()

    def end(self) -> bytes:
        self._write_group()
        self._writer.close()
        return self._sink.take()

    def _row(self, row: Row) -> list[Any]:
        (time, stream, _), item = row
        about = [time, stream, item.message_id, item.seq, parse_time(item.received_at)]
        if self._fields:
            return about + [_number(value) for value in self._fields.of(item.payload)]
        return [*about, bytes(item.payload).decode()]

    def _write_group(self) -> None:
        if not self._rows:
            return
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._rows, self._size = [], 0


def _number(value: Any) -> float | None:
    """NaN and infinities are strings in JSON."""
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
