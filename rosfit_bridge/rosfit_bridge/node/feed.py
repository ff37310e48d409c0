"""One line of bridge.publish at work: from ROS bytes to an MQTT message."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from rosfit_bridge import topics
from rosfit_bridge.config import Publish
from rosfit_bridge.convert import blobs, cdr_read, objects
from rosfit_bridge.convert.shape import has_wide_text, load_class, shape_of
from rosfit_bridge.envelope import Outgoing, Stream, stamp_of
from rosfit_bridge.throttle import Throttle, complaints
from rosfit_bridge.uplink import Uplink

log = logging.getLogger(__name__)

# What DDS may hold for us while Python is busy: 50 ms of 4 kHz of small messages, 10 pictures.
SMALL_DEPTH, BLOB_DEPTH = 200, 10
# JSON is never shorter than this part of the bytes in ROS: of eight bytes that are 0, "0," is left.
MOST_SHRINKING = 4
Send = Callable[[Outgoing], object]
Watch = Callable[[dict[str, Any]], None]


class Feed:
    """Publishes every message that passes the throttle. Never raises: a bad message is counted and logged."""

    raw = True
    depth = SMALL_DEPTH

    def __init__(self, mapping: Publish, device_id: str, uplink: Uplink) -> None:
        self.topic = mapping.ros_topic
        self.cls = load_class(mapping.msg_type)
        self._stream = Stream(device_id, mapping.mqtt_suffix, mapping.qos)
        self._throttle = Throttle(mapping.throttle_hz)
        self._counters, self._send, self._admits = uplink.counters, uplink.publish, uplink.admits
        self._complaints = complaints()

    def __call__(self, message: Any) -> None:
        counters = self._counters
        counters.received += 1
        if not self._throttle.ready(time.monotonic()):
            counters.throttled += 1
            return
        try:
            self._handle(message)
        except Exception as error:
            self._complain(error)

    def _handle(self, message: Any) -> None:
        raise NotImplementedError

    def _complain(self, error: Exception) -> None:
        self._counters.failed += 1
        if self._complaints.ready(time.monotonic()):
            log.error("%s: cannot convert a message: %s: %s", self.topic, type(error).__name__, error)


class JsonFeed(Feed):
    """`watch` sees the converted payload too (battery and position for the heartbeat)."""

    def __init__(self, mapping: Publish, device_id: str, uplink: Uplink, watch: Watch | None = None) -> None:
        super().__init__(mapping, device_id, uplink)
        shape = shape_of(self.cls)
        self.raw = not has_wide_text(shape)
        self._decode = cdr_read.decoder(shape) if self.raw else objects.to_plain(shape)
        self._watch = watch

    def _handle(self, message: Any) -> None:
        # A map of 4 MB takes 0.2 s to decode, in which nothing else is done, only to be too large in the end.
        if self.raw and not self._admits(self._stream.topic, len(message) // MOST_SHRINKING):
            return
        payload = self._decode(message)
        self._send(self._stream.sample(payload, time.time_ns(), stamp_of(payload)))
        if self._watch is not None:
            self._watch(payload)


class BlobFeed(Feed):
    depth = BLOB_DEPTH

    def __init__(self, mapping: Publish, device_id: str, uplink: Uplink) -> None:
        super().__init__(mapping, device_id, uplink)
        self._convert = blobs.converter(mapping.msg_type)

    def _handle(self, message: bytes) -> None:
        blob = self._convert(message)
        self._send(self._stream.blob(blob.data, blob.content_type, time.time_ns(), blob.stamp_ns))


class SlowBlobFeed(BlobFeed):
    """Converts on a worker, so that a picture holds no other topic up; a newer one replaces one that waits."""

    def __init__(self, mapping: Publish, device_id: str, uplink: Uplink, worker: Executor) -> None:
        super().__init__(mapping, device_id, uplink)
        self._worker = worker
        self._lock = threading.Lock()
        self._waiting: bytes | None = None
        self._busy = False

    def _handle(self, message: bytes) -> None:
        with self._lock:
            if self._waiting is not None:
                self._counters.throttled += 1
            self._waiting = message
            if self._busy:
                return
            self._busy = True
        self._worker.submit(self._work)

    def _work(self) -> None:
        while True:
            with self._lock:
                message, self._waiting = self._waiting, None
                self._busy = message is not None
            if message is None:
                return
            try:
                super()._handle(message)
            except Exception as error:
                self._complain(error)


def new_feed(mapping: Publish, device_id: str, uplink: Uplink, watch: Watch | None, worker: Executor) -> Feed:
    if not topics.is_blob(mapping.mqtt_suffix):
        return JsonFeed(mapping, device_id, uplink, watch)
    if blobs.is_slow(mapping.msg_type):
        return SlowBlobFeed(mapping, device_id, uplink, worker)
    return BlobFeed(mapping, device_id, uplink)
