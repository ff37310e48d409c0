"""Exports to read with anything: CSV and JSON lines."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from typing import Any

import msgspec

from rosfit.telemetry.export.rows import Fields, Row

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines


class CsvEncoder:
    """RFC 4180: one line a sample, with the payload as JSON, or with a column for each field."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = Fields(fields) if fields else None
        self._heading = ["time", "stream", "message_id", "seq", "received_at", *(fields or ["payload"])]

    def page(self, rows: Sequence[Row]) -> bytes:
        text = StringIO()
        writer = csv.writer(text)
        if self._heading:
            writer.writerow(self._heading)
            self._heading = []
        for _, item in rows:
            about = [item.time, item.stream, item.message_id, item.seq, item.received_at]
            writer.writerow([*about, *self._values(item.payload)])
        return text.getvalue().encode()

    def end(self) -> bytes:
        return b""

    def _values(self, payload: msgspec.Raw) -> list[str | None]:
        if self._fields is None:
            return [bytes(payload).decode()]
        return [_cell(value) for value in self._fields.of(payload)]


def _cell(value: Any) -> str | None:
    """Text as it is, everything else as JSON."""
    return value if value is None or isinstance(value, str) else _encode(value).decode()


class JsonLinesEncoder:
    """One item a line, of the same shape as in the list of samples."""

    def page(self, rows: Sequence[Row]) -> bytes:
        return _encode_lines([item for _, item in rows])

    def end(self) -> bytes:
        return b""
