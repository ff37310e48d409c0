"""The update agent's eyes in the ROS graph: its gate before an update, its health check after it."""

from __future__ import annotations

import functools
import ssl
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.node import Node

from rosfit_bridge import tls
from rosfit_bridge.config import Config
from rosfit_bridge.config_ota import Gate
from rosfit_bridge.convert.shape import UnknownTypeError, load_class
from rosfit_bridge.node.bridge_node import OnEnd, Spinner
from rosfit_bridge.node.tap import Tap
from rosfit_bridge.ota.agent import Agent, Surroundings
from rosfit_bridge.ota.conditions import CommandSaysYes, Condition, ProcessRuns
from rosfit_bridge.topics import OTA_TRIGGER_SUFFIX, DeviceTopics
from rosfit_bridge.uplink import Uplink, update_folder

SERVICE_TIMEOUT_S = 10.0
# A topic on which nothing came for so long is not alive.
SILENT_AFTER_S = 5.0
DEPTH = 10


class OtaNode:
    def __init__(self, config: Config, uplink: Uplink, context: Context, on_end: OnEnd) -> None:
        self._config, self._uplink = config, uplink
        self._topic = DeviceTopics(config.rosfit.device_id).of(OTA_TRIGGER_SUFFIX)
        self.node = Node("rosfit_bridge_updates", context=context, enable_rosout=False, start_parameter_services=False)
        self._taps: list[Tap] = []
        around = Surroundings(
            gate=[self._gate(entry) for entry in config.ota.gate],
            health=self._health(),
            context_of=self._context_of,
            settle_s=max(1.0, 3 * config.bridge.spool.flush_ms / 1000),
        )
        self._agent = Agent(config.ota, update_folder(config), config.rosfit.device_id, uplink.publish, around)
        self.node.create_timer(1.0, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._spinner = Spinner(self.node, context, on_end)

    def start(self) -> None:
        """Before the link, which is then subscribed with its first connection."""
        self._spinner.start()
        self._agent.start()
        self._uplink.link.subscribe(self._topic, 1, self._agent.take)

    def close(self) -> None:
        self._agent.close()
        self._spinner.stop()
        self.node.destroy_node()

    def _look(self) -> None:
        for tap in list(self._taps):
            tap.look()

    def _context_of(self, url: str) -> ssl.SSLContext | None:
        """RosFit's own address is trusted as its broker is, with CA or pin; an object store as the system says."""
        own = {self._config.connection.host, urlsplit(self._config.rosfit.url or "").hostname}
        known = self._config.connection.tls.enabled and urlsplit(url).hostname in own
        return tls.context(self._config.connection.tls) if known else None

    def _gate(self, entry: Gate) -> Condition:
        if entry.command:
            return CommandSaysYes(entry.command)
        if entry.ros_service is not None:
            return ServiceSaysYes(self.node, entry.ros_service)
        return TopicSaysYes(self.node, entry, self._taps)

    def _health(self) -> list[Condition]:
        health = self._config.ota.health
        found: list[Condition] = [ProcessRuns(name) for name in health.processes]
        found += [NodeIsThere(self.node, name) for name in health.nodes]
        found += [TopicIsAlive(self.node, name, self._taps) for name in health.topics]
        return [*found, CommandSaysYes(health.command)] if health.command else found


class TopicSaysYes:
    """The newest message's field is as it should be."""

    def __init__(self, node: Node, entry: Gate, taps: list[Tap]) -> None:
        assert entry.ros_topic is not None
        assert entry.msg_type is not None
        assert entry.field is not None
        self._entry, self._path = entry, entry.field.split(".")
        self._message: Any = None
        taps.append(Tap(node, load_class(entry.msg_type), entry.ros_topic, self._hear, depth=1, raw=False))

    def unmet(self) -> str | None:
        if self._message is None:
            return f"nothing heard on {self._entry.ros_topic} yet"
        try:
            value = functools.reduce(_member, self._path, self._message)
        except (AttributeError, IndexError, ValueError):
            return f"{self._entry.ros_topic} has no field {self._entry.field}"
        return self._judge(ord(value) if isinstance(value, bytes) else value)  # a `byte`, as rclpy holds it

    def _hear(self, message: Any) -> None:
        self._message = message

    def _judge(self, value: Any) -> str | None:
        entry, what = self._entry, f"{self._entry.ros_topic} {self._entry.field} is {value}"
        if entry.equals is not None and not _same(value, entry.equals):
            return f"{what}, not {entry.equals}"
        if entry.at_least is not None and not value >= entry.at_least:
            return f"{what}, below {entry.at_least:g}"
        if entry.at_most is not None and not value <= entry.at_most:
            return f"{what}, above {entry.at_most:g}"
        return None


def _same(value: Any, wanted: Any) -> bool:
    """In Python 1 == True; on a robot they are not the same."""
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _member(value: Any, name: str) -> Any:
    return value[int(name)] if name.isdigit() else getattr(value, name)


class ServiceSaysYes:
    """A `std_srvs/Trigger` that answers with success."""

    def __init__(self, node: Node, name: str) -> None:
        self._name = name
        self._client = node.create_client(load_class("std_srvs/srv/Trigger"), name)

    def unmet(self) -> str | None:
        if not self._client.service_is_ready():
            return f"the service {self._name} is not there"
        answered = threading.Event()
        future = self._client.call_async(self._client.srv_type.Request())
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(SERVICE_TIMEOUT_S):
            self._client.remove_pending_request(future)
            return f"{self._name} gave no answer within {SERVICE_TIMEOUT_S:g} s"
        answer = future.result()
        return None if answer.success else f"{self._name} says no: {answer.message}"


class NodeIsThere:
    def __init__(self, node: Node, name: str) -> None:
        self._node, self._name = node, name if name.startswith("/") else f"/{name}"

    def unmet(self) -> str | None:
        found = (f"{space.rstrip('/')}/{name}" for name, space in self._node.get_node_names_and_namespaces())
        return None if self._name in found else f"the node {self._name} is not there"


class TopicIsAlive:
    """Somebody publishes, and something has come lately. Its type is taken from whoever publishes."""

    def __init__(self, node: Node, name: str, taps: list[Tap]) -> None:
        self._node, self._name, self._taps = node, name, taps
        self._tap: Tap | None = None
        self._heard_at = 0.0

    def unmet(self) -> str | None:
        publishers = self._node.get_publishers_info_by_topic(self._name)
        if not publishers:
            return f"nobody publishes {self._name}"
        if self._tap is None:
            return self._listen(publishers[0].topic_type)
        silent_s = time.monotonic() - self._heard_at
        return None if silent_s < SILENT_AFTER_S else f"nothing comes on {self._name}"

    def _listen(self, type_name: str) -> str | None:
        try:
            cls = load_class(type_name)
        except UnknownTypeError:
            return None  # it cannot be heard here; that somebody publishes it has to do
        self._tap = Tap(self._node, cls, self._name, self._hear, depth=DEPTH)
        self._taps.append(self._tap)
        return f"nothing heard on {self._name} yet"

    def _hear(self, _message: Any) -> None:
        self._heard_at = time.monotonic()
