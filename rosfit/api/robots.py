"""`/robots/{id}/status` and `/devices/{id}/params`: health at a glance, and ROS parameters through the bridge."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Controller, Request, get, put

from rosfit.accounts import audit
from rosfit.accounts.rights import Right
from rosfit.api.access import actor_of, origin_of
from rosfit.api.edge import Edge
from rosfit.commands import tasks
from rosfit.commands.asking import ask
from rosfit.commands.models import NewCommand
from rosfit.fleet import glance
from rosfit.fleet import service as fleet
from rosfit.fleet.glance import RobotStatus
from rosfit.kernel.errors import NotFoundError
from rosfit.kernel.work import Work
from rosfit.protocol.numbers import read_json
from rosfit.telemetry import service as telemetry

AnyRequest = Request[Any, Any, Any]

# Parameters are asked of the robot itself, whose nodes answer one after the other.
ASK_TIMEOUT_S = 15.0


class ParameterValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: Any


class ParameterChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    node: str
    name: str
    value: Any


class ParameterChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    params: list[ParameterChange]


class RobotController(Controller):
    path = "/robots/{device_id:str}"
    tags = ("robots",)

    @get("/status", opt={"right": Right.TELEMETRY_READ})
    async def get_robot_status(self, device_id: str, work: Work, edge: Edge) -> RobotStatus:
        """Battery, pose, joints and errors, read from whatever the robot publishes."""
        device = await fleet.get(work, device_id)
        latest = await telemetry.latest(work, edge.hot, device_id)
        samples = {item.stream: read_json(item.payload) for item in latest}
        return glance.at_a_glance(device, samples, await tasks.current(work, device_id))


class ParameterController(Controller):
    path = "/devices/{device_id:str}/params"
    tags = ("robots",)

    @get(opt={"right": Right.DEVICES_READ})
    async def list_params(self, device_id: str, request: AnyRequest, edge: Edge, node: str | None = None) -> Any:
        """Parameters of the nodes that the bridge's configuration allows, by node and name."""
        wanted = {"nodes": [node]} if node else {}
        return await self._ask(edge, request, device_id, "get_parameters", wanted)

    @put(opt={"right": Right.COMMANDS_WRITE})
    async def set_params(self, device_id: str, data: ParameterChanges, request: AnyRequest, edge: Edge) -> Any:
        """Set several; the answer says of each what it was and what it is now."""
        changes = [msgspec.to_builtins(change) for change in data.params]
        return await self._ask(edge, request, device_id, "set_parameters", {"params": changes})

    @get("/{path:path}", opt={"right": Right.DEVICES_READ})
    async def get_param(self, device_id: str, path: str, request: AnyRequest, edge: Edge) -> Any:
        """`/params/{node}/{name}`; a node in a namespace keeps its slashes."""
        node, name = _node_and_name(path)
        wanted = {"nodes": [node], "names": [name]}
        return await self._ask(edge, request, device_id, "get_parameters", wanted)

    @put("/{path:path}", opt={"right": Right.COMMANDS_WRITE})
    async def set_param(self, device_id: str, path: str, data: ParameterValue, request: AnyRequest, edge: Edge) -> Any:
        """`/params/{node}/{name}` with `{"value": …}`."""
        node, name = _node_and_name(path)
        change = {"node": node, "name": name, "value": data.value}
        return await self._ask(edge, request, device_id, "set_parameters", {"params": [change]})

    @staticmethod
    async def _ask(edge: Edge, request: AnyRequest, device_id: str, command: str, data: dict[str, Any]) -> Any:
        actor = actor_of(request)
        if command == "set_parameters":
            async with edge.open_work() as work:
                await audit.record(work, actor, "params.set", device_id, after=data, origin=origin_of(request))
        new = NewCommand(command, data, ASK_TIMEOUT_S)
        return (await ask(edge.open_work, edge.feed, device_id, new, actor.id)).result


def _node_and_name(path: str) -> tuple[str, str]:
    node, _, name = path.strip("/").rpartition("/")
    if not node or not name:
        raise NotFoundError("A parameter is /params/{node}/{name}")
    return node, name
