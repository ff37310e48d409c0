"""ROS parameters on a robot's page, asked of the robot itself and changed there."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.commands.asking import ask
from rosfit.commands.models import NewCommand
from rosfit.dashboard.access import AnyRequest, record
from rosfit.dashboard.commands import body_of
from rosfit.dashboard.injected import Opening
from rosfit.dashboard.rendering import NO_STORE
from rosfit.fleet import service as fleet
from rosfit.kernel.feed import Feed

# The robot's nodes answer one after the other.
WITHIN_S = 15.0


class ParameterChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    node: str
    name: str
    value: Any


@get("/robots/{device_id:str}/parameters.json", opt={"right": Right.DEVICES_READ})
async def robot_parameters(
    request: AnyRequest,
    device_id: FromPath[str],
    edge: NamedDependency[Opening],
    feed: NamedDependency[Feed],
    actor: NamedDependency[Actor],
) -> Response[Any]:
    """Values by node and name; of `node` alone if it is given."""
    async with edge.open_work() as work:
        await fleet.check_reach(work, device_id, actor.reach)
    node = request.query_params.get("node")
    question = NewCommand("get_parameters", {"nodes": [node]} if node else {}, WITHIN_S)
    answer = await ask(edge.open_work, feed, device_id, question, actor.id)
    return Response(answer.result, headers=NO_STORE)


@post("/robots/{device_id:str}/parameters", opt={"right": Right.COMMANDS_WRITE}, status_code=200)
async def set_parameter(
    request: AnyRequest,
    device_id: FromPath[str],
    edge: NamedDependency[Opening],
    feed: NamedDependency[Feed],
    actor: NamedDependency[Actor],
) -> Response[Any]:
    """The answer says what it was and what it is now; a refusal by the node is 409 with its reason."""
    wanted = {"params": [msgspec.to_builtins(await body_of(request, ParameterChange))]}
    async with edge.open_work() as work:
        await fleet.check_reach(work, device_id, actor.reach)
        await record(work, request, actor, "params.set", device_id, after=wanted)
    answer = await ask(edge.open_work, feed, device_id, NewCommand("set_parameters", wanted, WITHIN_S), actor.id)
    return Response(answer.result, headers=NO_STORE)
