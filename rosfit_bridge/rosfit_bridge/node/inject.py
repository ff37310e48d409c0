"""One line of bridge.subscribe at work: from MQTT into a ROS topic."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile

from rosfit_bridge.config_down import VELOCITIES, Subscribe
from rosfit_bridge.convert import cdr_write
from rosfit_bridge.convert.bounds import Bound, Bounds, bounds_of, numeric_paths
from rosfit_bridge.convert.shape import Struct, load_class, shape_of
from rosfit_bridge.counters import Counters
from rosfit_bridge.down.freshness import Freshness
from rosfit_bridge.down.request import decode, seconds_of
from rosfit_bridge.down.watchdog import Watchdog
from rosfit_bridge.throttle import Throttle

log = logging.getLogger(__name__)

# Whoever tries a message out wants to read at once why it does not fit.
_COMPLAINTS_HZ = 0.2
_FLUSH_WITHIN = Duration(seconds=0.2)


class Injector:
    """`take` may be called by any thread. Never raises: what does not fit is counted and logged with its field."""

    def __init__(self, node: Node, entry: Subscribe, counters: Counters, changed: Callable[[], None]) -> None:
        cls: Any = load_class(entry.msg_type)
        shape = shape_of(cls)
        self.entry = entry
        self.dog = Watchdog(entry.watchdog_s) if entry.watchdog_s else None
        self._node, self._counters, self._changed = node, counters, changed
        self._encode = cdr_write.encoder(shape)
        self._bounds = Bounds(_bounds(shape, entry))
        self._freshness = Freshness()
        self._stamped = "header" in dict(shape.fields)
        self._wraps = entry.msg_type == "geometry_msgs/msg/TwistStamped"
        self._publisher = node.create_publisher(cls, entry.ros_topic, QoSProfile(depth=10))
        # A zero must never be followed by the velocity that it was to end.
        self._lock = threading.Lock()
        self._complaints = Throttle(_COMPLAINTS_HZ)
        self._ended = self._closed = False

    def take(self, _topic: str, payload: bytes, properties: Any) -> None:
        at = time.monotonic()
        try:
            message = self._fresh(decode(payload, properties), at)
            if message is not None:
                self._drive(self._shaped(message), at)
        except (ValueError, TypeError) as error:
            self._counters.not_injected += 1
            if self._complaints.ready(at):
                log.error(
                    "%s: a message for %s was refused: %.300s", self.entry.mqtt_suffix, self.entry.ros_topic, error
                )

    def late(self) -> None:
        """One was left out for newer ones."""
        self._counters.stale += 1

    def tick(self, at: float) -> float:
        """Says zero if it is due; when to be called again."""
        if self.dog is None:
            return math.inf
        with self._lock:
            if self._closed:
                return math.inf
            if self.dog.due(at):
                self._zero()
            return self.dog.next_at

    def stop(self, *, hold: bool = False) -> None:
        """Zero at once: in any case with `hold`, else if somebody was driving."""
        if self.dog is None:
            return
        at = time.monotonic()
        with self._lock:
            if self._closed:
                return
            if hold:
                self.dog.hold(at)
            else:
                self.dog.stop(at)
            if self.dog.due(at):
                self._zero()
        self._changed()

    def end(self) -> None:
        """Zero now, and nothing any more after it."""
        with self._lock:
            self._ended = True
        self.stop()

    def close(self) -> None:
        """Waits for the last zero to arrive, and leaves the graph."""
        self.end()
        if self.dog is not None:
            self._publisher.wait_for_all_acked(_FLUSH_WITHIN)
        with self._lock:
            self._closed = True
            self._node.destroy_publisher(self._publisher)

    def _fresh(self, envelope: dict[str, Any], at: float) -> dict[str, Any] | None:
        """The payload; None for what came too late or out of order."""
        if "payload" not in envelope:
            return envelope
        payload, seq, sent = envelope["payload"], envelope.get("seq"), envelope.get("timestamp")
        if not isinstance(payload, dict):
            raise ValueError("payload: expected an object")
        if seq is not None and (isinstance(seq, bool) or not isinstance(seq, int)):
            raise ValueError("seq: expected a whole number")
        if self.dog is None:
            return payload
        sent_at = None if sent is None else seconds_of(sent, "timestamp")
        why = self._freshness.refusal(envelope.get("correlation_id"), seq, sent_at, at)
        if why is None:
            return payload
        self._counters.stale += 1
        log.debug("%s: dropped, %s", self.entry.mqtt_suffix, why)
        return None

    def _shaped(self, message: dict[str, Any]) -> dict[str, Any]:
        """A bare Twist fits a stamped one too, and a missing stamp is now."""
        if self._wraps and not {"twist", "header"} & message.keys():
            message = {"twist": message}
        if self._stamped:
            header = message.get("header") or {}
            if isinstance(header, dict) and "stamp" not in header:
                sec, nanosec = self._node.get_clock().now().seconds_nanoseconds()
                stamp = {"sec": sec, "nanosec": nanosec}
                message = {**message, "header": {"frame_id": self.entry.frame_id, **header, "stamp": stamp}}
        return message

    def _drive(self, message: dict[str, Any], at: float) -> None:
        with self._lock:
            bounded = self._bounds.apply(message, at)
            data = self._encode(bounded)
            if self._ended:
                return
            if self.dog is None:
                self._publisher.publish(data)
            else:
                sleeping = self.dog.next_at == math.inf
                if not self.dog.feed(at, still=self._bounds.still):
                    self._counters.stale += 1
                    return
                self._publisher.publish(data)
                if sleeping:
                    self._changed()
        self._counters.injected += 1

    def _zero(self) -> None:
        self._publisher.publish(self._encode(self._shaped({})))
        self._bounds.stopped()


def _bounds(shape: Struct, entry: Subscribe) -> list[Bound]:
    """Every number that moves something is looked at, as NaN must not reach the wheels."""
    named = bounds_of(shape, entry.limits, entry.slew)
    if entry.msg_type not in VELOCITIES and entry.watchdog_s is None:
        return named
    rest = {bound.path for bound in named}
    return named + [Bound(path, None, None) for path in numeric_paths(shape) if path not in rest]


class Motion:
    """All of bridge.subscribe, and the thread that says zero."""

    def __init__(self, counters: Counters) -> None:
        self.injectors: list[Injector] = []
        self._counters = counters
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, node: Node, entry: Subscribe) -> Injector:
        made = Injector(node, entry, self._counters, self._wake.set)
        self.injectors = [*self.injectors, made]
        return made

    def remove(self, injector: Injector) -> None:
        self.injectors = [each for each in self.injectors if each is not injector]
        injector.close()

    def stop(self) -> None:
        for injector in self.injectors:
            injector.stop()

    def hold(self) -> list[str]:
        """The ROS topics on which zero is now said; they move again when the stick has been let go of."""
        watched = [injector for injector in self.injectors if injector.dog is not None]
        for injector in watched:
            injector.stop(hold=True)
        return [injector.entry.ros_topic for injector in watched]

    def end(self) -> None:
        """Zero now, and nothing is driven any more."""
        for injector in self.injectors:
            injector.end()

    def close(self) -> None:
        self._ending = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(1.0)
        for injector in self.injectors:
            injector.close()

    def _run(self) -> None:
        while not self._ending:
            self._wake.clear()
            try:
                next_at = min((injector.tick(time.monotonic()) for injector in self.injectors), default=math.inf)
            except Exception:
                # Nothing may end this thread while wheels turn.
                log.exception("zero could not be published")
                next_at = time.monotonic() + 0.05
            self._wake.wait(None if next_at == math.inf else max(0.0, next_at - time.monotonic()))
