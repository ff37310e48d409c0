"""Where a part of the desired state goes, and where the truth about it comes from."""

from __future__ import annotations

import contextlib
import fnmatch
import json
from collections.abc import Callable
from typing import Any, Protocol

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from rosfit_bridge.config_shadow import Entry
from rosfit_bridge.convert import cdr_write, objects
from rosfit_bridge.convert.parameters import from_json
from rosfit_bridge.convert.shape import Struct, load_class, shape_of
from rosfit_bridge.down.job import EndError
from rosfit_bridge.node.calls import awaited, builder
from rosfit_bridge.node.parameters import RemoteParameters, full_name
from rosfit_bridge.node.tap import Tap
from rosfit_bridge.shadow.document import MISSING, Path, leaves, put

ANSWER_WITHIN_S = 10.0
PLAIN_TEXT = "std_msgs/msg/String"
Refuse = Callable[[Path, Any, str], None]


class Target(Protocol):
    entry: Entry

    @property
    def there(self) -> bool:
        """Whether something is listening that a value could be handed to."""
        ...

    async def apply(self, wanted: Any, refuse: Refuse) -> None:
        """Hand over what is desired; `refuse` is told of each leaf that is not taken. Raises EndError to try later."""
        ...

    async def actual(self) -> Any:
        """What the robot has at `entry.path`, or MISSING. Raises EndError."""
        ...


class ParameterTarget:
    """One parameter of a node, or all that an object names: its keys, with dots between them, are the names."""

    def __init__(self, node: Node, entry: Entry) -> None:
        assert entry.node is not None
        self.entry, self.node_name = entry, full_name(entry.node)
        self._remote = RemoteParameters(node, self.node_name)
        self._values: dict[str, Any] = {}
        self._read = False

    @property
    def there(self) -> bool:
        here = self._remote.there
        if not here:
            self._read = False  # who comes back may have come back with other values
        return here

    def heard(self, name: str, value: Any) -> bool:
        """A parameter has changed on the robot. False if it is not ours."""
        if not self._ours(name):
            return False
        if value is None:
            self._values.pop(name, None)
        else:
            self._values[name] = value
        return True

    async def apply(self, wanted: Any, refuse: Refuse) -> None:
        asked = self._asked(wanted, refuse)
        known = set(await self._remote.names())
        types = await self._remote.types([name for name in asked if name in known])
        for name, (path, value) in asked.items():
            if name not in known:
                refuse(path, value, f"{self.node_name} has no parameter {name}")
                continue
            try:
                typed = from_json(value, types.get(name, 0))
            except (ValueError, TypeError) as error:
                refuse(path, value, str(error))
                continue
            # One by one: a value that is refused must not take the others with it.
            reason = await self._remote.write({name: typed})
            if reason is not None:
                refuse(path, value, reason)
        self._read = False

    async def actual(self) -> Any:
        if not self._read:
            names = [name for name in await self._remote.names() if self._ours(name)]
            read = await self._remote.read(names) if names else {}
            self._values, self._read = {name: value for name, value in read.items() if value is not None}, True
        if self.entry.parameter is not None:
            return self._values.get(self.entry.parameter, MISSING)
        document: dict[str, Any] = {}
        for name, value in sorted(self._values.items()):
            put(document, name.split("."), value)
        return document or MISSING

    def _ours(self, name: str) -> bool:
        if self.entry.parameter is not None:
            return name == self.entry.parameter
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.entry.names)

    def _asked(self, wanted: Any, refuse: Refuse) -> dict[str, tuple[Path, Any]]:
        base = self.entry.path
        if self.entry.parameter is not None:
            return {self.entry.parameter: (base, wanted)}
        if not isinstance(wanted, dict):
            refuse(base, wanted, f"expected an object with the parameters of {self.node_name}")
            return {}
        asked = {}
        for path, value in leaves(wanted):
            name = ".".join(path)
            if self._ours(name):
                asked[name] = ((*base, *path), value)
            else:
                refuse((*base, *path), value, f"the bridge's configuration does not allow to set {name}")
        return asked


class Told:
    """What a robot says on a topic about a part of its state."""

    def __init__(self, node: Node, entry: Entry) -> None:
        assert entry.report_topic is not None
        assert entry.report_type is not None
        cls: Any = load_class(entry.report_type)
        self._plain = objects.to_plain(shape_of(cls))
        self._is_text = entry.report_type == PLAIN_TEXT
        self.value: Any = MISSING
        self.tap = Tap(node, cls, entry.report_topic, self._hear, depth=1, raw=False)

    def _hear(self, message: Any) -> None:
        plain = self._plain(message)
        fields = list(plain)
        self.value = plain[fields[0]] if len(fields) == 1 else plain
        if self._is_text:
            with contextlib.suppress(ValueError, RecursionError):  # text that is just text
                self.value = json.loads(self.value)


class TopicTarget:
    """Published as a message, latched; the truth, if any, comes on `report_topic`."""

    def __init__(self, node: Node, entry: Entry, told: Told | None) -> None:
        assert entry.ros_topic is not None
        assert entry.msg_type is not None
        cls: Any = load_class(entry.msg_type)
        self.entry, self._told, self._shape = entry, told, shape_of(cls)
        self._encode = cdr_write.encoder(self._shape)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._publisher = node.create_publisher(cls, entry.ros_topic, latched)

    @property
    def there(self) -> bool:
        return True

    async def apply(self, wanted: Any, refuse: Refuse) -> None:
        try:
            self._publisher.publish(self._encode(_fields(self._shape, wanted, self.entry)))
        except (ValueError, TypeError) as error:
            refuse(self.entry.path, wanted, str(error))

    async def actual(self) -> Any:
        return MISSING if self._told is None else self._told.value


class ServiceTarget:
    """A service that takes it. Its `success` confirms the value, unless the truth comes on `report_topic`."""

    def __init__(self, node: Node, entry: Entry, told: Told | None) -> None:
        assert entry.ros_service is not None
        assert entry.srv_type is not None
        cls: Any = load_class(entry.srv_type)
        self.entry, self._told, self._shape = entry, told, shape_of(cls.Request)
        self._client = node.create_client(cls, entry.ros_service)
        self._build = builder(cls.Request)
        self._confirmed: Any = MISSING

    @property
    def there(self) -> bool:
        return bool(self._client.service_is_ready())

    async def apply(self, wanted: Any, refuse: Refuse) -> None:
        try:
            request = self._build(_fields(self._shape, wanted, self.entry))
        except EndError as error:
            return refuse(self.entry.path, wanted, str(error))
        future = self._client.call_async(request)
        try:
            response = await awaited(future, ANSWER_WITHIN_S)
        except TimeoutError:
            return refuse(self.entry.path, wanted, f"{self.entry.ros_service} gave no answer")
        finally:
            self._client.remove_pending_request(future)
        if getattr(response, "success", True):
            self._confirmed = wanted
            return None
        reason = getattr(response, "message", "") or f"{self.entry.ros_service} says no"
        return refuse(self.entry.path, wanted, reason)

    async def actual(self) -> Any:
        return self._confirmed if self._told is None else self._told.value


def _fields(shape: Struct, wanted: Any, entry: Entry) -> dict[str, Any]:
    """The message for a value: an object has its fields, anything else goes into `field` or the only one there is."""
    names = [name for name, _ in shape.fields]
    if isinstance(wanted, dict) and entry.field is None and entry.msg_type != PLAIN_TEXT:
        return wanted
    name = entry.field or (names[0] if names else "")
    if entry.msg_type == PLAIN_TEXT and not isinstance(wanted, str):
        wanted = json.dumps(wanted)
    return {name: wanted}


def make_target(node: Node, entry: Entry, taps: list[Tap]) -> Target:
    if entry.node is not None:
        return ParameterTarget(node, entry)
    told = Told(node, entry) if entry.report_topic is not None else None
    if told is not None:
        taps.append(told.tap)
    return TopicTarget(node, entry, told) if entry.ros_topic is not None else ServiceTarget(node, entry, told)


__all__ = ["ParameterTarget", "Target", "make_target"]
