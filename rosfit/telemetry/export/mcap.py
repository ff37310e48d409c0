"""MCAP, as Foxglove and `mcap` read it: a channel of JSON messages for each stream, without a ROS installation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import cast

from mcap.writer import Writer

from rosfit.kernel.clock import EPOCH, parse_time
from rosfit.telemetry.export.rows import Row
from rosfit.telemetry.export.sink import Sink

# What a reader needs to take the payload apart; the payload says the rest.
_ANY_OBJECT = b'{"type":"object"}'
_SEQUENCE_MASK = 0xFFFF_FFFF


class McapEncoder:
    """Logged at the time of the sample, published at the time RosFit received it; both in nanoseconds."""

    def __init__(self, device_id: str) -> None:
        self._sink = Sink()
        self._device_id = device_id
        self._channels: dict[str, int] = {}
        self._writer = Writer(cast("str", self._sink))
        self._writer.start(profile="", library="rosfit")

    def page(self, rows: Sequence[Row]) -> bytes:
        for (time, stream, _), item in rows:
            self._writer.add_message(
                channel_id=self._channel(stream),
                log_time=_nanoseconds(time),
                publish_time=_nanoseconds(parse_time(item.received_at)),
                sequence=(item.seq or 0) & _SEQUENCE_MASK,
                data=bytes(item.payload),
            )
        return self._sink.take()

    def end(self) -> bytes:
        self._writer.finish()  # type: ignore[no-untyped-call]
        return self._sink.take()

    def _channel(self, stream: str) -> int:
        if stream not in self._channels:
            schema_id = self._writer.register_schema(name=stream, encoding="jsonschema", data=_ANY_OBJECT)
            self._channels[stream] = self._writer.register_channel(
                topic=f"/{stream}",
                message_encoding="json",
                schema_id=schema_id,
                metadata={"device_id": self._device_id},
            )
        return self._channels[stream]


def _nanoseconds(time: datetime) -> int:
    """Since 1970; MCAP knows no time before it."""
    return max(0, (time - EPOCH) // timedelta(microseconds=1) * 1000)
