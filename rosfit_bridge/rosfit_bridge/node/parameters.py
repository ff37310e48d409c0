"""ROS parameters of the nodes that the configuration names: read, set, and told when they change."""

from __future__ import annotations

import asyncio
import fnmatch
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterEvent, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.qos import qos_profile_parameter_events

from rosfit_bridge.config_down import Parameters
from rosfit_bridge.convert.parameters import FIELDS, from_json, to_json
from rosfit_bridge.down.job import Command, Job, failed, rejected
from rosfit_bridge.down.lane import Lane
from rosfit_bridge.node.calls import Presence, awaited

ANSWER_WITHIN_S = 3.0
_PRIME_EVERY_S = 0.5
_GET = {"nodes": ["string"], "names": ["string"]}
_SET = {"params": [{"node": "string", "name": "string", "value": "any"}]}
Changed = Callable[[dict[str, Any]], None]


def full_name(node: str) -> str:
    return "/" + node.strip("/")


class RemoteParameters:
    """The parameter services of one node. Raises EndError when it does not answer."""

    def __init__(self, node: Node, name: str) -> None:
        self.name = name
        self._clients = {
            cls: node.create_client(cls, f"{name}/{service}")
            for cls, service in (
                (ListParameters, "list_parameters"),
                (GetParameters, "get_parameters"),
                (DescribeParameters, "describe_parameters"),
                (SetParametersAtomically, "set_parameters_atomically"),
            )
        }
        self._presence = Presence(lambda: self.there, f"the node {name}")

    @property
    def there(self) -> bool:
        return all(client.service_is_ready() for client in self._clients.values())

    async def names(self) -> list[str]:
        return list((await self._call(ListParameters, ListParameters.Request())).result.names)

    async def read(self, names: Sequence[str]) -> dict[str, Any]:
        """JSON values by name."""
        answer = await self._call(GetParameters, GetParameters.Request(names=list(names)))
        return dict(zip(names, map(to_json, answer.values), strict=False))

    async def types(self, names: Sequence[str]) -> dict[str, int]:
        answer = await self._call(DescribeParameters, DescribeParameters.Request(names=list(names)))
        return {each.name: 0 if each.dynamic_typing else each.type for each in answer.descriptors}

    async def write(self, changes: dict[str, tuple[int, Any]]) -> str | None:
        """All or none; the node's reason for none."""
        parameters = []
        for name, (kind, value) in changes.items():
            parameters.append(Parameter(name=name, value=ParameterValue(type=kind, **{FIELDS[kind]: value})))
        answer = await self._call(SetParametersAtomically, SetParametersAtomically.Request(parameters=parameters))
        return None if answer.result.successful else answer.result.reason or "it gave no reason"

    async def _call(self, cls: type, request: Any) -> Any:
        until = time.monotonic() + ANSWER_WITHIN_S
        await self._presence.wait(until)
        client = self._clients[cls]
        future = client.call_async(request)
        try:
            return await awaited(future, until - time.monotonic())
        except TimeoutError as error:
            message = f"{self.name} did not answer within {ANSWER_WITHIN_S:g} s about its parameters"
            raise failed("TIMEOUT", message) from error
        finally:
            client.remove_pending_request(future)


class ParameterDesk:
    """`changed` gets {node, name, old_value, new_value} for every change on the robot."""

    def __init__(self, node: Node, lane: Lane, changed: Changed) -> None:
        self._node, self._lane, self._changed = node, lane, changed
        self._entries: tuple[Parameters, ...] = ()
        self._remotes: dict[str, RemoteParameters] = {}
        self._known: dict[tuple[str, str], Any] = {}
        self._events: Any = None
        self._priming: asyncio.Task[Any] | None = None

    @property
    def nodes(self) -> list[str]:
        return list(dict.fromkeys(full_name(entry.node) for entry in self._entries))

    @property
    def commands(self) -> list[Command]:
        if not self._entries:
            return []
        return [
            Command("get_parameters", "builtin", "rosfit/get_parameters", _GET, self.get),
            Command("set_parameters", "builtin", "rosfit/set_parameters", _SET, self.set),
        ]

    def configure(self, entries: tuple[Parameters, ...]) -> None:
        """In the lane's thread."""
        self._entries = entries
        for name in self.nodes:
            if name not in self._remotes:
                self._remotes[name] = RemoteParameters(self._node, name)
        if entries and self._events is None:
            self._events = self._node.create_subscription(
                ParameterEvent,
                "/parameter_events",
                lambda event: self._lane.post(self._on_event, event),
                qos_profile_parameter_events,
            )
        if self._priming is not None:
            self._priming.cancel()
        self._priming = self._lane.spawn(self._prime())

    async def get(self, job: Job) -> dict[str, dict[str, Any]]:
        wanted = [full_name(node) for node in _texts(job.request.data, "nodes")]
        names = _texts(job.request.data, "names")
        for node in wanted:
            if node not in self.nodes:
                raise rejected("NOT_ALLOWED", f"bridge.parameters does not name the node {node}")
        if wanted:
            answers = await _together([self._read(node, names) for node in wanted])
            return dict(zip(wanted, answers, strict=True))
        there = [node for node in self.nodes if self._remotes[node].there]
        answers = await asyncio.gather(*(self._read(node, names) for node in there), return_exceptions=True)
        # One node that hangs is as one that is not there.
        return {node: read for node, read in zip(there, answers, strict=True) if not isinstance(read, BaseException)}

    async def set(self, job: Job) -> dict[str, Any]:
        changes = self._asked(job.request.data)
        job.waiting = False
        plans = await _together([self._plan(node, changes[node]) for node in changes])
        done: list[dict[str, Any]] = []
        for (node, wanted), (old, typed) in zip(changes.items(), plans, strict=True):
            reason = await self._remotes[node].write(typed)
            if reason is not None:
                raise failed("REFUSED", f"{node}: {reason}", {"params": done} if done else None)
            done += [
                {"node": node, "name": name, "old_value": old[name], "new_value": value}
                for name, (_, value) in wanted.items()
            ]
        return {"params": done}

    def _asked(self, data: dict[str, Any]) -> dict[str, dict[str, tuple[int, Any]]]:
        """node → name → (place in the list, value)."""
        given = data.get("params")
        if not isinstance(given, list) or not given:
            raise rejected("INVALID_DATA", "data: params: expected a list of {node, name, value}")
        asked: dict[str, dict[str, tuple[int, Any]]] = {}
        for place, change in enumerate(given):
            if not isinstance(change, dict) or set(change) != {"node", "name", "value"}:
                raise rejected("INVALID_DATA", f"data: params[{place}]: expected node, name and value")
            if not isinstance(change["node"], str) or not isinstance(change["name"], str):
                raise rejected("INVALID_DATA", f"data: params[{place}]: node and name are text")
            node, name = full_name(change["node"]), change["name"]
            if not self._allows(node, name, write=True):
                raise rejected("NOT_ALLOWED", f"bridge.parameters does not allow to write {name} of {node}")
            asked.setdefault(node, {})[name] = (place, change["value"])
        return asked

    async def _plan(self, node: str, wanted: dict[str, tuple[int, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Old values, and new ones with their types."""
        remote = self._remotes[node]
        known = set(await remote.names())
        for name in wanted:
            if name not in known:
                raise failed("UNKNOWN_PARAMETER", f"{node} has no parameter {name}")
        types, old = await _together([remote.types(list(wanted)), remote.read(list(wanted))])
        self._learned(node, old)
        typed = {}
        for name, (place, value) in wanted.items():
            try:
                typed[name] = from_json(value, types.get(name, 0))
            except (ValueError, TypeError) as error:
                raise rejected("INVALID_DATA", f"data: params[{place}].value: {name} of {node}: {error}") from error
        return old, typed

    async def _read(self, node: str, patterns: list[str]) -> dict[str, Any]:
        remote = self._remotes[node]
        names = [
            name
            for name in await remote.names()
            if self._allows(node, name) and (not patterns or any(fnmatch.fnmatchcase(name, p) for p in patterns))
        ]
        return self._learned(node, await remote.read(names)) if names else {}

    def _learned(self, node: str, read: dict[str, Any]) -> dict[str, Any]:
        """What was read is what a change is told against, until an event says otherwise."""
        for name, value in read.items():
            self._known.setdefault((node, name), value)
        return read

    def _allows(self, node: str, name: str, *, write: bool = False) -> bool:
        return any(
            full_name(entry.node) == node
            and (entry.writable or not write)
            and any(fnmatch.fnmatchcase(name, pattern) for pattern in entry.names)
            for entry in self._entries
        )

    async def _prime(self) -> None:
        """Learns the values there are, so that a first change can tell the old one."""
        missing = set(self.nodes)
        while missing:
            for node in [node for node in missing if self._remotes[node].there]:
                outcome = (await asyncio.gather(self._read(node, []), return_exceptions=True))[0]
                if isinstance(outcome, dict):
                    missing.discard(node)
            await asyncio.sleep(_PRIME_EVERY_S)

    def _on_event(self, event: ParameterEvent) -> None:
        node = full_name(event.node)
        if node not in self._remotes:
            return
        for parameter in event.new_parameters:
            self._told(node, parameter.name, to_json(parameter.value), declared=True)
        for parameter in event.changed_parameters:
            self._told(node, parameter.name, to_json(parameter.value))
        for parameter in event.deleted_parameters:
            self._told(node, parameter.name, None)

    def _told(self, node: str, name: str, value: Any, *, declared: bool = False) -> None:
        """A node that starts declares all it has: that is no change unless the value was another before."""
        if not self._allows(node, name):
            return
        known = (node, name) in self._known
        old = self._known.get((node, name))
        self._known[node, name] = value
        if (known or not declared) and not (known and old == value):
            self._changed({"node": node, "name": name, "old_value": old, "new_value": value})


async def _together(work: Sequence[Awaitable[Any]]) -> list[Any]:
    return list(await asyncio.gather(*work))


def _texts(data: dict[str, Any], key: str) -> list[str]:
    given = data.get(key)
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise rejected("INVALID_DATA", f"data: {key}: expected a list of text")
    return given
