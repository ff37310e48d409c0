"""Commands on a robot's page: what it offers, sending, following and cancelling, and the emergency stop."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.commands import service
from rosfit.commands.asking import ask
from rosfit.commands.models import Accepted, Command, NewCommand
from rosfit.dashboard.access import AnyRequest, record
from rosfit.dashboard.injected import Opening
from rosfit.dashboard.rendering import NO_STORE
from rosfit.fleet import service as fleet
from rosfit.kernel.errors import InvalidError
from rosfit.kernel.feed import Feed
from rosfit.kernel.paging import Page as Slice
from rosfit.kernel.work import Work

READ: dict[str, Any] = {"right": Right.DEVICES_READ}
WRITE: dict[str, Any] = {"right": Right.COMMANDS_WRITE}

RECENT = 20
OFFERS_WITHIN_S = 10.0

# It waits for a robot that is away, which then stops before anything else.
EMERGENCY_STOP = NewCommand("emergency_stop", queue=True)

T = TypeVar("T")


async def body_of(request: AnyRequest, kind: type[T]) -> T:
    """What a page's own script sends. Raises InvalidError that says which field."""
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidError(str(error)) from error


@get("/robots/{device_id:str}/offers.json", opt=WRITE)
async def robot_offers(
    device_id: FromPath[str],
    edge: NamedDependency[Opening],
    feed: NamedDependency[Feed],
    actor: NamedDependency[Actor],
) -> Response[Any]:
    """What the robot itself says it can be asked, with the fields of each request."""
    async with edge.open_work() as work:
        await fleet.check_reach(work, device_id, actor.reach)
    question = NewCommand("list_graph", {}, OFFERS_WITHIN_S)
    answer = await ask(edge.open_work, feed, device_id, question, actor.id)
    return Response(answer.result, headers=NO_STORE)


@get("/robots/{device_id:str}/commands.json", opt=READ)
async def recent_commands(
    request: AnyRequest, device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Slice[Command]]:
    """Newest first, before `cursor`."""
    await fleet.check_reach(work, device_id, actor.reach)
    page = await service.history(work, device_id, None, request.query_params.get("cursor"), RECENT)
    return Response(page, headers=NO_STORE)


@get("/robots/{device_id:str}/commands/{command_id:str}", opt=READ)
async def one_command(
    device_id: FromPath[str],
    command_id: FromPath[str],
    work: NamedDependency[Work],
    actor: NamedDependency[Actor],
) -> Response[Command]:
    """With every step."""
    await fleet.check_reach(work, device_id, actor.reach)
    return Response(await service.get(work, device_id, command_id), headers=NO_STORE)


@post("/robots/{device_id:str}/commands", opt=WRITE, status_code=202)
async def send_command(
    request: AnyRequest, device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Accepted]:
    new = await body_of(request, NewCommand)
    return await _send(request, device_id, new, work, actor)


@post("/robots/{device_id:str}/emergency-stop", opt=WRITE, status_code=202)
async def emergency_stop(
    request: AnyRequest, device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Accepted]:
    return await _send(request, device_id, EMERGENCY_STOP, work, actor)


async def _send(request: AnyRequest, device_id: str, new: NewCommand, work: Work, actor: Actor) -> Response[Accepted]:
    await fleet.check_reach(work, device_id, actor.reach)
    accepted = await service.send(work, device_id, new, actor.id)
    told = {"command_id": accepted.command_id, "command": new.command}
    await record(work, request, actor, "command.send", device_id, after=told)
    return Response(accepted, headers=NO_STORE)


@post("/robots/{device_id:str}/commands/{command_id:str}/cancel", opt=WRITE, status_code=200)
async def cancel_command(
    request: AnyRequest,
    device_id: FromPath[str],
    command_id: FromPath[str],
    work: NamedDependency[Work],
    actor: NamedDependency[Actor],
) -> Response[Command]:
    """Take it back while it waits; ask the robot to stop what is under way."""
    await fleet.check_reach(work, device_id, actor.reach)
    command = await service.cancel(work, device_id, command_id, actor.id)
    await record(work, request, actor, "command.cancel", device_id, after={"command_id": command_id})
    return Response(command, headers=NO_STORE)
