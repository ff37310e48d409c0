"""`/commands`: send, follow and cancel; and the emergency stop."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.params import Parameter

from rosfit.accounts.rights import Right
from rosfit.api.access import actor_of, record
from rosfit.api.idempotency import once
from rosfit.api.parameters import DEFAULT_LIMIT, Cursor, Limit
from rosfit.commands import service
from rosfit.commands.lifecycle import Status
from rosfit.commands.models import Accepted, Command, Lease, NewCommand
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work

AnyRequest = Request[Any, Any, Any]

READ = {"right": Right.DEVICES_READ}
WRITE = {"right": Right.COMMANDS_WRITE}

EMERGENCY_STOP = NewCommand("emergency_stop", queue=True)


class Driver(msgspec.Struct, frozen=True):
    """`lease` is null while nobody drives."""

    lease: Lease | None


class CommandController(Controller):
    path = "/commands/{device_id:str}"
    tags = ("commands",)

    @post(opt=WRITE, status_code=202)
    async def send_command(
        self, device_id: str, data: NewCommand, request: AnyRequest, work: Work
    ) -> Response[Accepted]:
        """Durable when answered. 409 DEVICE_OFFLINE when the device is not there and `queue` is not set."""
        return await _send(device_id, data, request, work)

    @get(opt=READ)
    async def list_commands(
        self,
        device_id: str,
        work: Work,
        status: Annotated[Status | None, Parameter(description="only those in this status")] = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[Command]:
        """Newest first."""
        return await service.history(work, device_id, status, cursor, limit)

    @get("/{command_id:str}", opt=READ)
    async def get_command(self, device_id: str, command_id: str, work: Work) -> Command:
        """With every step it took."""
        return await service.get(work, device_id, command_id)

    @delete("/{command_id:str}", opt=WRITE, status_code=200)
    async def cancel_command(self, device_id: str, command_id: str, request: AnyRequest, work: Work) -> Command:
        """Take it back while it is pending; ask the device to stop what is under way."""
        command = await service.cancel(work, device_id, command_id, actor_of(request).id)
        await record(work, request, "command.cancel", device_id, after={"command_id": command_id})
        return command


@post("/devices/{device_id:str}/emergency-stop", opt=WRITE, status_code=202, tags=["commands"])
async def emergency_stop(device_id: str, request: AnyRequest, work: Work) -> Response[Accepted]:
    """Goes ahead of everything that waits, and waits itself for a device that is away."""
    return await _send(device_id, EMERGENCY_STOP, request, work)


@get("/devices/{device_id:str}/driver", opt=READ, tags=["commands"])
async def get_driver(device_id: str, work: Work) -> Driver:
    """Who drives the robot by hand right now."""
    return Driver(await service.lease_of(work, device_id))


async def _send(device_id: str, new: NewCommand, request: AnyRequest, work: Work) -> Response[Accepted]:
    actor = actor_of(request)

    async def create() -> Accepted:
        accepted = await service.send(work, device_id, new, actor.id)
        told = {"command_id": accepted.command_id, "command": new.command}
        await record(work, request, "command.send", device_id, after=told)
        return accepted

    return await once(work, request, actor.id, 202, create)
