"""`/devices`: register, find, change, decommission; logs and newest frames."""

from __future__ import annotations

import re
from typing import Annotated, Any

from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.params import Parameter

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.api.access import actor_of, record
from rosfit.api.auth import sync_broker_after
from rosfit.api.edge import Edge
from rosfit.api.idempotency import once
from rosfit.api.parameters import DEFAULT_LIMIT, Cursor, Limit
from rosfit.fleet import service as fleet
from rosfit.fleet.errors import DeviceNotFoundError
from rosfit.fleet.models import Device, DeviceChange, DeviceFilter, DeviceType, NewDevice, Status
from rosfit.kernel.clock import format_time
from rosfit.kernel.errors import PermissionDeniedError
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work
from rosfit.telemetry import service as telemetry
from rosfit.telemetry.models import LogLine

# A device's bytes come from our own address, but must not act in its name.
SANDBOX = {"Content-Security-Policy": "sandbox; default-src 'none'"}

_WORD = r"[A-Za-z0-9!#$&^_.+-]+"
_MEDIA_TYPE = re.compile(rf"{_WORD}/{_WORD}(; ?{_WORD}={_WORD})*")

READ = {"right": Right.DEVICES_READ}
WRITE = {"right": Right.DEVICES_WRITE}


class DeviceController(Controller):
    path = "/devices"
    tags = ("devices",)

    @get(opt=READ)
    async def list_devices(
        self,
        request: Request[Any, Any, Any],
        work: Work,
        status: Annotated[list[Status] | None, Parameter(description="repeat it for several")] = None,
        type_: Annotated[DeviceType | None, Parameter(query="type")] = None,
        tag: str | None = None,
        group: Annotated[str | None, Parameter(description="id or name")] = None,
        q: Annotated[str | None, Parameter(description="part of the id or name, or a query")] = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[Device]:
        """Devices by id; only those within the reach of the credential."""
        wanted = DeviceFilter(tuple(status or ()), type_, tag, q, group)
        return await fleet.find(work, wanted, cursor, limit, actor_of(request).reach)

    @post(opt=WRITE)
    async def create_device(self, data: NewDevice, request: Request[Any, Any, Any], work: Work) -> Response[Device]:
        """Register a device. Somebody who is limited to tags must give it one of them."""
        actor = actor_of(request)

        async def create() -> Device:
            device = await fleet.register(work, data)
            await _require_reach(work, device, actor)
            await record(work, request, "device.create", device.device_id, after=device)
            return device

        return await once(work, request, actor.id, 201, create)

    @get("/{device_id:str}", opt=READ)
    async def get_device(self, device_id: str, work: Work) -> Device:
        return await fleet.get(work, device_id)

    @patch("/{device_id:str}", opt=WRITE)
    async def update_device(
        self, device_id: str, data: DeviceChange, request: Request[Any, Any, Any], work: Work
    ) -> Device:
        """Change name, tags or metadata, or begin and end maintenance."""
        before = await fleet.get(work, device_id)
        after = await fleet.change(work, device_id, data)
        await _require_reach(work, after, actor_of(request))
        await record(work, request, "device.update", device_id, before=before, after=after)
        return after

    @delete("/{device_id:str}", opt=WRITE)
    async def decommission_device(
        self, device_id: str, request: Request[Any, Any, Any], work: Work, edge: Edge
    ) -> None:
        """Decommission: final; its credentials are revoked and its data stay."""
        await fleet.decommission(work, device_id)
        await record(work, request, "device.decommission", device_id)
        sync_broker_after(work, edge)

    @get("/{device_id:str}/logs", opt={"right": Right.TELEMETRY_READ})
    async def list_logs(
        self,
        device_id: str,
        work: Work,
        level: Annotated[list[str] | None, Parameter(description="repeat it for several")] = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[LogLine]:
        """Log lines, newest first."""
        return await telemetry.logs(work, device_id, level, cursor, limit)

    @get("/{device_id:str}/blobs/{name:str}/latest", opt={"right": Right.TELEMETRY_READ})
    async def get_latest_blob(self, device_id: str, name: str, work: Work, edge: Edge) -> Response[bytes]:
        """The newest frame as the device sent it, with its content type."""
        frame = await telemetry.frame(work, edge.hot, device_id, name)
        headers = {"X-Sample-Time": format_time(frame.time), "Cache-Control": "no-store", **SANDBOX}
        return Response(frame.data, media_type=media_type_of(frame.content_type), headers=headers)


def media_type_of(told: str) -> str:
    """What the device calls its bytes, if that can stand in a header."""
    return told if len(told) <= 200 and _MEDIA_TYPE.fullmatch(told) else "application/octet-stream"


async def _require_reach(work: Work, device: Device, actor: Actor) -> None:
    """Nobody may put a device where they cannot see it themselves."""
    try:
        await fleet.check_reach(work, device.device_id, actor.reach)
    except DeviceNotFoundError as error:
        raise PermissionDeniedError("This credential is limited: keep one of its tags on the device") from error
