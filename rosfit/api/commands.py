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
from rosfit.commands import bulk, service
from rosfit.commands.bulk import BulkAccepted, BulkRequest, Preview, Progress
from rosfit.commands.lifecycle import Status
from rosfit.commands.models import Accepted, Command, Lease, NewCommand
from rosfit.fleet import service as fleet
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work

AnyRequest = Request[Any, Any, Any]

READ = {"right": Right.DEVICES_READ}
WRITE = {"right": Right.COMMANDS_WRITE}

EMERGENCY_STOP = NewCommand("emergency_stop", queue=True)


class BulkController(Controller):
    path = "/commands"
    tags = ("commands",)

    @post(opt=WRITE, status_code=202)
    async def send_bulk_command(self, data: BulkRequest, request: AnyRequest, work: Work) -> Response[BulkAccepted]:
        """One command for a list, group, tag or query; the answer says who is left out, and why."""
        actor = actor_of(request)

        async def create() -> BulkAccepted:
            sent = await bulk.send(work, data.target, _without_target(data), actor.id, actor.reach)
            told = {"command": data.command, "target": data.target, "devices": len(sent.accepted)}
            await record(work, request, "command.bulk", sent.bulk_id, after=told)
            return sent

        return await once(work, request, actor.id, 202, create)

    @post("/preview", opt=WRITE, status_code=200)
    async def preview_bulk_command(self, data: BulkRequest, request: AnyRequest, work: Work) -> Preview:
        """How many devices would get it now, and which would not."""
        return await bulk.preview(work, data.target, _without_target(data), actor_of(request).reach)

    @get("/bulk/{bulk_id:str}", opt=READ)
    async def get_bulk_progress(self, bulk_id: str, request: AnyRequest, work: Work) -> Progress:
        """How far each device has come."""
        visible = await fleet.within_reach(work, actor_of(request).reach)
        return await bulk.progress(work, bulk_id, visible)


def _without_target(data: BulkRequest) -> NewCommand:
    return NewCommand(data.command, data.data, data.timeout_s, data.expires_at, data.queue)


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
