"""/rosout to `log`."""

from __future__ import annotations

import time
from typing import Any

from rcl_interfaces.msg import Log

from rosfit_bridge.config import Rosout
from rosfit_bridge.convert import cdr_read
from rosfit_bridge.convert.shape import shape_of
from rosfit_bridge.counters import Counters
from rosfit_bridge.envelope import Stream, stamp_of
from rosfit_bridge.node.feed import Send
from rosfit_bridge.throttle import TokenBucket
from rosfit_bridge.topics import LOG_SUFFIX

LEVELS = {10: "debug", 20: "info", 30: "warn", 40: "error", 50: "fatal"}
_VALUES = {name: value for value, name in LEVELS.items()}
# The level is the first byte behind the encapsulation and the stamp.
_LEVEL_AT = 12


class RosoutFeed:
    topic = "/rosout"
    cls = Log
    depth = 1000
    raw = True

    def __init__(self, wanted: Rosout, device_id: str, counters: Counters, send: Send) -> None:
        self._least = _VALUES[wanted.level]
        self._bucket = TokenBucket(wanted.rate_hz, wanted.burst)
        self._stream = Stream(device_id, LOG_SUFFIX, wanted.qos)
        self._decode = cdr_read.decoder(shape_of(Log))
        self._counters, self._send = counters, send

    def __call__(self, raw: bytes) -> None:
        if len(raw) <= _LEVEL_AT or raw[_LEVEL_AT] < self._least:
            return
        self._counters.received += 1
        if not self._bucket.take(time.monotonic()):
            self._counters.throttled += 1
            return
        try:
            message = self._decode(raw)
            self._send(self._stream.sample(self._payload(message), time.time_ns(), stamp_of(message)))
        except Exception:
            # Logging it would come back here through /rosout; the counter shows in /diagnostics.
            self._counters.failed += 1

    def _payload(self, message: dict[str, Any]) -> dict[str, Any]:
        fields = {"file": message["file"], "function": message["function"], "line": message["line"]}
        suppressed = self._bucket.suppressed()
        if suppressed:
            fields["suppressed"] = suppressed
        return {
            "level": LEVELS.get(message["level"], "info"),
            "message": message["msg"],
            "logger": message["name"],
            "fields": fields,
        }
