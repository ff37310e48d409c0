"""Rows as they are written, and items as they are read."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from rosfit.kernel.clock import WireTime, format_time

Function = Literal["avg", "min", "max", "sum", "count", "last", "p50", "p95"]
FUNCTIONS: tuple[Function, ...] = Function.__args__  # type: ignore[attr-defined]

Order = Literal["asc", "desc"]

# Ids made up for messages without one start with this, which no device may use; readers see null.
MADE_UP = "\x1f"


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One sample to be written; `message_id` is the device's or a made-up one."""

    device_id: str
    stream: str
    time: datetime
    message_id: str
    seq: int | None
    received_at: datetime
    payload: msgspec.Raw


class Item(msgspec.Struct, frozen=True):
    """One sample as it is read; `payload` is what the device sent."""

    time: WireTime
    stream: str
    message_id: str | None
    seq: int | None
    received_at: WireTime
    payload: msgspec.Raw


class Items(msgspec.Struct, frozen=True):
    items: list[Item]


class SeriesLine(msgspec.Struct, frozen=True):
    """`values` has one entry per time; null where there is no number."""

    stream: str
    field: str
    fn: Function
    values: list[float | None]


class Series(msgspec.Struct, frozen=True):
    """Buckets start at `times`; all lines share them."""

    times: list[WireTime]
    series: list[SeriesLine]


class LogLine(msgspec.Struct, frozen=True):
    time: WireTime
    level: str
    message: str
    logger: str
    fields: dict[str, Any]


class NewLog(msgspec.Struct, frozen=True, gc=False):
    device_id: str
    time: datetime
    message_id: str
    level: str
    message: str
    logger: str
    fields: msgspec.Raw
    received_at: datetime


class NewAlert(msgspec.Struct, frozen=True, gc=False):
    device_id: str
    time: datetime
    message_id: str
    name: str
    severity: str
    message: str
    payload: msgspec.Raw
    received_at: datetime


class Frame(msgspec.Struct, frozen=True):
    """The newest binary message of a name, such as a camera image."""

    time: datetime
    content_type: str
    data: bytes


class FrameInfo(msgspec.Struct, frozen=True):
    """A frame without its bytes; `size` counts them."""

    name: str
    time: WireTime
    content_type: str
    size: int

    @classmethod
    def of(cls, name: str, frame: Frame) -> FrameInfo:
        return cls(name, format_time(frame.time), frame.content_type, len(frame.data))


class NewDeadLetter(msgspec.Struct, frozen=True, gc=False):
    received_at: datetime
    topic: str
    device_id: str | None
    reason: str
    detail: str
    qos: int
    content_type: str | None
    payload: bytes


class DeadLetter(msgspec.Struct, frozen=True):
    """`payload` is text where it is UTF-8, else `payload_base64`; a long one is cut to 64 KiB here only."""

    id: str
    received_at: WireTime
    topic: str
    device_id: str | None
    reason: str
    detail: str
    qos: int
    content_type: str | None
    size: int
    replayed_at: WireTime | None
    payload: str | None
    payload_base64: str | None
