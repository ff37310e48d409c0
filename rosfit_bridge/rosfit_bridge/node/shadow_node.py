"""The shadow in the ROS graph: deltas are applied, what the robot really has is reported, and what it refuses, too."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import ParameterEvent
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import qos_profile_parameter_events

from rosfit_bridge.config import Config
from rosfit_bridge.config_shadow import DEFAULT, Entry
from rosfit_bridge.convert.parameters import to_json
from rosfit_bridge.convert.values import presentable
from rosfit_bridge.down.job import EndError
from rosfit_bridge.down.lane import Lane
from rosfit_bridge.down.request import decode
from rosfit_bridge.envelope import Stream
from rosfit_bridge.node.bridge_node import OnEnd, Spinner
from rosfit_bridge.node.parameters import full_name
from rosfit_bridge.node.shadow_targets import ParameterTarget, Target, make_target
from rosfit_bridge.node.tap import Tap
from rosfit_bridge.shadow.document import MISSING, find, leaves, put
from rosfit_bridge.shadow.reporter import RESEND_AFTER_S, Refusals, Reporter
from rosfit_bridge.throttle import complaints
from rosfit_bridge.topics import DeviceTopics, shadow_suffix
from rosfit_bridge.uplink import Uplink

log = logging.getLogger(__name__)

# Several changes that belong together go out in one report.
TURN_EVERY_S = 0.1


class ShadowNode:
    def __init__(self, config: Config, uplink: Uplink, context: Context, on_end: OnEnd) -> None:
        self.node = Node("rosfit_bridge_shadow", context=context, enable_rosout=False, start_parameter_services=False)
        self._lane = Lane("shadow")
        self._taps: list[Tap] = []
        names = dict.fromkeys(entry.shadow for entry in config.shadow.map) or {DEFAULT: None}
        self._shadows = [
            Shadow(name, config.rosfit.device_id, uplink, self._targets(config.shadow.map, name)) for name in names
        ]
        self._events = self.node.create_subscription(
            ParameterEvent,
            "/parameter_events",
            lambda event: self._lane.post(self._on_event, event),
            qos_profile_parameter_events,
        )
        self.node.create_timer(1.0, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._spinner = Spinner(self.node, context, on_end)

    def start(self) -> None:
        """Before the link, which is then subscribed with its first connection."""
        self._spinner.start()
        self._lane.start()
        for shadow in self._shadows:
            shadow.listen(self._lane)
            self._lane.post(lambda shadow=shadow: self._lane.spawn(shadow.run()))

    def close(self) -> None:
        self._lane.close()
        self._spinner.stop()
        self.node.destroy_node()

    def _targets(self, entries: tuple[Entry, ...], name: str) -> list[Target]:
        return [make_target(self.node, one, self._taps) for one in entries if one.shadow == name]

    def _look(self) -> None:
        for tap in list(self._taps):
            tap.look()

    def _on_event(self, event: ParameterEvent) -> None:
        for shadow in self._shadows:
            for parameter in [*event.new_parameters, *event.changed_parameters]:
                shadow.parameter_changed(event.node, parameter.name, to_json(parameter.value))
            for parameter in event.deleted_parameters:
                shadow.parameter_changed(event.node, parameter.name, None)


class Shadow:
    """One shadow of this device. But for `listen` everything happens in the lane's thread."""

    def __init__(self, name: str, device_id: str, uplink: Uplink, targets: list[Target]) -> None:
        self._name, self._uplink, self._targets = name, uplink, targets
        self._topics = DeviceTopics(device_id)
        self._streams = {what: Stream(device_id, shadow_suffix(name, what), 1) for what in ("get", "reported")}
        self._reporter = Reporter([target.entry.path for target in targets], lambda: time.time_ns() // 1_000_000)
        self._refusals = Refusals()
        self._complaints = complaints()
        self._wanted: dict[Target, Any] = {}
        self._version = 0
        self._since = -1.0
        self._asked_at = 0.0
        # Until what changed on the robot while it was away is reported, the server cannot tell all that differs.
        self._unread, self._unsettled = set(targets), set(targets)

    def listen(self, lane: Lane) -> None:
        handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "delta": self._on_delta,
            "desired": self._on_desired,
            "get/accepted": self._on_document,
            "reported/accepted": self._on_accepted,
            "reported/rejected": self._on_rejected,
        }
        for what, handler in handlers.items():
            topic = self._topics.of(shadow_suffix(self._name, what))
            self._uplink.link.subscribe(topic, 1, self._in_lane(lane, handler), retained=True)

    @staticmethod
    def _in_lane(lane: Lane, handler: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes, Any], None]:
        def take(topic: str, payload: bytes, properties: Any) -> None:
            try:
                message = decode(payload, properties)
            except ValueError as error:
                log.error("%s was not understood: %s", topic, error)
                return
            payload = message.get("payload", message)
            if isinstance(payload, dict):
                lane.post(handler, payload)
            else:
                log.error("%s was not understood: payload: expected an object", topic)

        return take

    async def run(self) -> None:
        """Until the lane is closed."""
        while True:
            try:
                await self._turn()
            except Exception:
                # A fault with one value must not end the shadow, nor fill the log.
                if self._complaints.ready(time.monotonic()):
                    log.exception("shadow %s", self._name)
            await asyncio.sleep(TURN_EVERY_S)

    def parameter_changed(self, node: str, name: str, value: Any) -> None:
        for target in self._targets:
            if isinstance(target, ParameterTarget) and target.node_name == full_name(node):
                target.heard(name, value)

    async def _turn(self) -> None:
        self._ask_on_connection()
        ready = [target for target in self._wanted if target.there]
        await asyncio.gather(*(self._apply(target, self._wanted.pop(target)) for target in ready))
        if self._uplink.link.online and self._reporter.knows:
            report = self._reporter.due(await self._actual(), time.monotonic())
            if report is not None:
                self._send("reported", report)
            elif not self._reporter.waits:
                self._unsettled &= self._unread

    def _ask_on_connection(self) -> None:
        link, at = self._uplink.link, time.monotonic()
        if not link.online:
            return
        if link.state.since != self._since:
            self._since = link.state.since
            self._reporter.forget()
            self._version, self._asked_at = 0, 0.0
            self._unread, self._unsettled = set(self._targets), set(self._targets)
        if not self._reporter.knows and at - self._asked_at > RESEND_AFTER_S:
            self._asked_at = at
            self._send("get", {})

    async def _apply(self, target: Target, wanted: Any) -> None:
        for path, _ in leaves(wanted, target.entry.path):
            self._refusals.clear(path)
        self._refusals.clear(target.entry.path)
        try:
            await target.apply(wanted, self._refusals.refuse)
        except EndError as error:
            log.warning("%s is not applied yet: %s", ".".join(target.entry.path), error)
            self._wanted.setdefault(target, wanted)

    async def _actual(self) -> dict[str, Any]:
        """Of what cannot be asked just now the server keeps what it has."""
        actual: dict[str, Any] = {}
        # All at once: a node that does not answer takes its 3 s.
        values = await asyncio.gather(*map(self._value, self._targets))
        for target, value in zip(self._targets, values, strict=True):
            if value is not MISSING:
                put(actual, target.entry.path, value)
        shown: dict[str, Any] = presentable({**actual, **self._refusals.document})
        return shown

    async def _value(self, target: Target) -> Any:
        if target.there:
            try:
                value = await target.actual()
                self._unread.discard(target)
                return value
            except EndError as error:
                log.debug("%s: %s", ".".join(target.entry.path), error)
        return self._reporter.held(target.entry.path)

    def _on_delta(self, message: dict[str, Any]) -> None:
        version = message.get("version", 0)
        if not isinstance(version, int) or version < self._version:
            return
        self._version = version
        self._wanted.clear()
        for target in self._targets:
            value = find(message.get("state"), target.entry.path)
            if value is not MISSING:
                self._wanted[target] = value

    def _on_desired(self, message: dict[str, Any]) -> None:
        state = message.get("state")
        self._refusals.prune(state if isinstance(state, dict) else {})

    def _on_document(self, message: dict[str, Any]) -> None:
        reported = find(message, ("state", "reported"))
        self._reporter.learn(reported if isinstance(reported, dict) else {})

    def _on_accepted(self, message: dict[str, Any]) -> None:
        self._reporter.accepted(message.get("client_token"))
        if self._unsettled - self._unread:
            self._unsettled &= self._unread
            self._send("get", {})

    def _on_rejected(self, message: dict[str, Any]) -> None:
        if not self._reporter.rejected(message.get("client_token"), message.get("code")):
            log.error("the server does not take what this robot reports: %s", message.get("message"))

    def _send(self, what: str, payload: dict[str, Any]) -> None:
        self._uplink.publish(self._streams[what].sample(payload, time.time_ns()))
