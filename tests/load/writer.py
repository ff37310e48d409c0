"""Bytes of the samples of one device, put together from parts prepared once: under 2 µs a message."""

from __future__ import annotations

import time
from datetime import timedelta

from rosfit.kernel.clock import EPOCH, format_time
from rosfit.protocol.topics import sample_topic
from tests.load import wire
from tests.load.plan import Device, Load


class Clock:
    """The present as JSON text, formatted once per millisecond. `sent_us` is Unix microseconds."""

    def __init__(self) -> None:
        self._millisecond = 0
        self._text = b""

    def stamp(self) -> tuple[bytes, int]:
        sent_us = time.time_ns() // 1000
        if (millisecond := sent_us // 1000) != self._millisecond:
            self._millisecond = millisecond
            self._text = _rfc3339(millisecond)
        return self._text, sent_us


def _rfc3339(millisecond: int) -> bytes:
    return format_time(EPOCH + timedelta(milliseconds=millisecond)).encode()


class Writer:
    """Makes the envelopes of one device and frames them as PUBLISH packets."""

    def __init__(self, load: Load, device: Device) -> None:
        self.device = device
        self._clock = Clock()
        self._topic = wire.text(sample_topic(device.device_id, load.stream))
        self._first = bytes([wire.PUBLISH | load.qos << 1])
        self._fixed = len(self._topic) + (3 if load.qos else 1)
        self._head = f'{{"message_id":"{load.run}-'.encode()
        self._middle = f'","device_id":"{device.device_id}","type":"telemetry","timestamp":"'.encode()
        self._tail = b'","pad":"' + b"x" * 8 + b'"}}'
        unpadded = len(self.next()[1])
        self._tail = b'","pad":"' + b"x" * max(0, load.size - unpadded + 8) + b'"}}'
        device.next_seq = 0

    def next(self) -> tuple[int, bytes]:
        """The next sequence number and its envelope, with the moment of sending in `payload.sent_us`."""
        seq = self.device.next_seq
        self.device.next_seq = seq + 1
        stamp, sent_us = self._clock.stamp()
        return seq, b'%b%08d%b%b","seq":%d,"payload":{"sent_us":%d,"x":%d.5,"text":"sample%b' % (
            self._head, seq, self._middle, stamp, seq, sent_us, seq % 1000, self._tail,
        )  # fmt: skip

    def frame(self, packet_id: int, payload: bytes) -> bytes:
        """The PUBLISH packet; `packet_id` 0 stands for QoS 0."""
        length = wire.varint(self._fixed + len(payload))
        if not packet_id:
            return b"%b%b%b\0%b" % (self._first, length, self._topic, payload)
        return b"%b%b%b%c%c\0%b" % (
            self._first, length, self._topic, packet_id >> 8, packet_id & 255, payload,
        )  # fmt: skip
