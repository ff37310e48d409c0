"""The ROS node: subscriptions, the once-a-second chores, and the loop that turns them."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future

from rosfit_bridge.config import Config, Publish
from rosfit_bridge.envelope import Stream
from rosfit_bridge.heartbeat import TAPS, Heartbeat
from rosfit_bridge.node.diagnostics import Diagnostics
from rosfit_bridge.node.feed import Feed, new_feed
from rosfit_bridge.node.rosout import RosoutFeed
from rosfit_bridge.node.tap import Tap
from rosfit_bridge.topics import HEARTBEAT_SUFFIX
from rosfit_bridge.uplink import Uplink
from rosfit_bridge.vitals import Vitals

try:
    from rclpy.experimental import EventsExecutor
except ImportError:  # Humble
    EventsExecutor = None

log = logging.getLogger(__name__)


class BridgeNode:
    def __init__(self, config: Config, uplink: Uplink, context: Context) -> None:
        self._uplink = uplink
        device_id = config.rosfit.device_id
        self.node = Node("rosfit_bridge", context=context, enable_rosout=False, start_parameter_services=False)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="picture")
        self._heartbeat = Heartbeat(Vitals(), uplink.counters)
        self._beats = Stream(device_id, HEARTBEAT_SUFFIX, 0)
        self._beat_every_s = config.bridge.heartbeat.period_s if config.bridge.heartbeat.enabled else None
        self._beat_at = 0.0
        self._config = config
        self._next: Config | None = None
        self._fed = {_key(mapping): self._tap(self._feed(mapping)) for mapping in config.bridge.publish}
        self._taps = list(self._fed.values())
        self._own_taps: list[Tap] = []
        if config.logging.rosout.enabled:
            rosout = RosoutFeed(config.logging.rosout, device_id, uplink.counters, uplink.publish)
            # What nodes logged before the bridge came is history: not asked for.
            self._own_taps.append(self._tap(rosout, latched=False))
        self._diagnostics = Diagnostics(self.node, uplink, device_id)
        # Steady: with use_sim_time and no /clock a ROS timer would never fire.
        self.node.create_timer(1.0, self._every_second, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        self.node.destroy_node()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def reconfigure(self, config: Config) -> None:
        """From any thread: the publish entries of `config` are served from the next second on."""
        self._next = config

    def _take_over(self) -> None:
        config, self._next = self._next, None
        if config is None:
            return
        wanted = {_key(mapping): mapping for mapping in config.bridge.publish}
        for key in self._fed.keys() - wanted:
            self._fed.pop(key).close()
        for key, mapping in wanted.items():
            if key not in self._fed:
                self._fed[key] = self._tap(self._feed(mapping))
        self._taps = list(self._fed.values())

    def _feed(self, mapping: Publish) -> Feed:
        return new_feed(
            mapping,
            self._config.rosfit.device_id,
            self._uplink,
            self._watch(mapping.msg_type),
            self._worker,
        )

    def _watch(self, type_name: str) -> Any:
        saw = TAPS.get(type_name)
        return None if saw is None else lambda payload: saw(self._heartbeat, payload)

    def _tap(self, feed: Any, *, latched: bool = True) -> Tap:
        return Tap(self.node, feed.cls, feed.topic, feed, depth=feed.depth, raw=feed.raw, latched=latched)

    def _every_second(self) -> None:
        for chore in (self._take_over, self._look, self._beat, self._diagnostics.publish):
            try:
                chore()
            except Exception:
                # An exception would leave spin_once and end the bridge for want of a diagnostic.
                log.exception("%s failed", chore.__name__)

    def _look(self) -> None:
        for tap in [*self._taps, *self._own_taps]:
            tap.look()

    def _beat(self) -> None:
        """On time, and at once after a connection came up."""
        if self._beat_every_s is None or not self._uplink.link.online:
            return
        now = time.monotonic()
        if now >= self._beat_at or self._uplink.link.state.since > self._beat_at - self._beat_every_s:
            self._beat_at = now + self._beat_every_s
            self._uplink.publish(self._beats.sample(self._heartbeat.payload(), time.time_ns()))


def _key(mapping: Publish) -> Publish:
    """Equal for what was only moved to another line."""
    return dataclasses.replace(mapping, line=0)


OnEnd = Callable[[BaseException | None], None]


class Spinner:
    """Turns the executor in a thread of its own, so that the main thread hears signals at once.

    `on_end` is told why, when it was not stopped: a node whose executor has ended is deaf.
    """

    def __init__(self, node: Node, context: Context, on_end: OnEnd) -> None:
        made = EventsExecutor or SingleThreadedExecutor
        self._executor = made(context=context)
        self._executor.add_node(node)
        self._on_end = on_end
        self._stop: Future = Future()
        self._thread = threading.Thread(target=self._run, name="ros", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set_result(None)
        self._executor.wake()
        self._thread.join(5.0)

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            while not self._stop.done():
                # With a timeout, as without one the EventsExecutor in the PyPI wheels takes a whole core while idle;
                # not spin_once, which costs 16 us more for every message.
                self._executor.spin_until_future_complete(self._stop, timeout_sec=1.0)
        except ExternalShutdownException:
            log.info("the ROS context was shut down")
        except BaseException as error:
            failure = error
        finally:
            self._on_end(failure)
