"""The envelope around every message: who, when, which number in its stream."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rosfit_bridge import topics

# A header stamp outside this window is simulation time, a replayed bag or a wrong clock: then the sample is from now.
OLDEST_STAMP_S = 24 * 3600
NEWEST_STAMP_S = 60


# allow_nan=False: a NaN that slipped through is an error here, not invalid JSON at the other end.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode


def _stdlib_dumps(value: Any) -> bytes:
    return _encode(value).encode("ascii")


def _find_dumps() -> Callable[[Any], bytes]:
    try:
        import orjson
    except ImportError:
        return _stdlib_dumps
    return orjson.dumps


dumps = _find_dumps()


class MessageIds:
    """UUID version 7: sorts by time, unique over restarts by 62 random bits chosen once per process.

    The 12 bits behind the version count within a millisecond and spill into the next one.
    """

    def __init__(self) -> None:
        tail = int.from_bytes(os.urandom(8), "big") >> 2 | 1 << 63
        self._tail = f"{tail:016x}"
        self._last = 0

    def new(self, now_ns: int) -> str:
        ticks = (now_ns // 1_000_000) << 12
        self._last = ticks = ticks if ticks > self._last else self._last + 1
        head = f"{ticks >> 12:012x}"
        return f"{head[:8]}-{head[8:]}-7{ticks & 0xFFF:03x}-{self._tail[:4]}-{self._tail[4:]}"


class Clock:
    """RFC 3339 in UTC with milliseconds; the second's text is kept, as most calls fall into the same one."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, ns: int) -> str:
        second, rest = divmod(ns, 1_000_000_000)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._text}.{rest // 1_000_000:03d}Z"


def sample_time(stamp_ns: int | None, now_ns: int) -> int:
    """The header stamp if it is wall time of about now, else now."""
    if stamp_ns is None:
        return now_ns
    age = now_ns - stamp_ns
    return stamp_ns if -NEWEST_STAMP_S * 10**9 <= age <= OLDEST_STAMP_S * 10**9 else now_ns


def stamp_of(payload: dict[str, Any]) -> int | None:
    """Nanoseconds of `header.stamp`, or of `stamp`; None without one."""
    header = payload.get("header")
    stamp = header.get("stamp") if isinstance(header, dict) else payload.get("stamp")
    if not isinstance(stamp, dict) or "sec" not in stamp or "nanosec" not in stamp:
        return None
    return int(stamp["sec"]) * 10**9 + int(stamp["nanosec"])


@dataclass(slots=True)
class Outgoing:
    """One MQTT publish. `user` are MQTT 5 user properties."""

    topic: str
    payload: bytes
    qos: int = 0
    content_type: str | None = None
    user: tuple[tuple[str, str], ...] = ()


class Stream:
    """Everything that goes out on one suffix, numbered from 1 since the bridge started. For one thread at a time."""

    def __init__(self, device_id: str, suffix: str, qos: int) -> None:
        self.topic = topics.DeviceTopics(device_id).of(suffix)
        self.qos = qos
        self.seq = 0
        self._ids, self._clock = MessageIds(), Clock()
        self._head = f'"device_id":"{device_id}","type":"{topics.message_type(suffix)}"'

    def sample(self, payload: dict[str, Any], now_ns: int, stamp_ns: int | None = None) -> Outgoing:
        self.seq += 1
        at = self._clock.text(sample_time(stamp_ns, now_ns))
        head = f'{{"message_id":"{self._ids.new(now_ns)}",{self._head},"timestamp":"{at}","seq":{self.seq},"payload":'
        return Outgoing(self.topic, b"".join((head.encode(), dumps(payload), b"}")), self.qos)

    def blob(self, data: bytes, content_type: str, now_ns: int, stamp_ns: int | None = None) -> Outgoing:
        """Raw bytes have no room for an envelope: MQTT 5 user properties carry it."""
        self.seq += 1
        user = (
            ("message_id", self._ids.new(now_ns)),
            ("timestamp", self._clock.text(sample_time(stamp_ns, now_ns))),
            ("seq", str(self.seq)),
        )
        return Outgoing(self.topic, data, self.qos, content_type, user)
