"""`/groups`: static lists and saved queries."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.handlers.base import BaseRouteHandler

from rosfit.accounts.rights import Right
from rosfit.api.access import actor_of, record
from rosfit.api.edge import Connection, edge_of
from rosfit.api.idempotency import once
from rosfit.api.parameters import DEFAULT_LIMIT, Cursor, Limit
from rosfit.fleet import groups
from rosfit.fleet import service as fleet
from rosfit.fleet.groups import GroupChange, NewGroup, Preview
from rosfit.fleet.models import Device, DeviceFilter, Group
from rosfit.kernel.paging import Page, page_within
from rosfit.kernel.work import Work

AnyRequest = Request[Any, Any, Any]

READ = {"right": Right.DEVICES_READ}
WRITE = {"right": Right.GROUPS_WRITE}


class PreviewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    query: str


async def group_exists(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard: 404 comes before whatever is wrong with the body."""
    async with edge_of(connection).open_work() as work:
        await groups.get(work, connection.path_params["group"])


class GroupController(Controller):
    path = "/groups"
    tags = ("groups",)

    @get(opt=READ)
    async def list_groups(
        self, request: AnyRequest, work: Work, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> Page[Group]:
        """By name; somebody with limits sees those that hold something for them, counted within reach."""
        shown = await groups.in_reach(work, await groups.listing(work), actor_of(request).reach)
        return page_within(shown, limit, cursor, lambda group: group.name.lower())

    @post(opt=WRITE)
    async def create_group(self, data: NewGroup, request: AnyRequest, work: Work) -> Response[Group]:
        actor = actor_of(request)

        async def create() -> Group:
            group = await groups.create(work, data)
            await record(work, request, "group.create", group.group_id, after=data)
            return group

        return await once(work, request, actor.id, 201, create)

    @post("/preview", opt=READ, status_code=200)
    async def preview_group(self, data: PreviewRequest, request: AnyRequest, work: Work) -> Preview:
        """How many devices a query finds now, and the first few: to look before it is saved."""
        return await groups.preview(work, data.query, actor_of(request).reach)

    @get("/{group:str}", opt=READ)
    async def get_group(self, group: str, request: AnyRequest, work: Work) -> Group:
        """By id or name."""
        return await groups.get_in_reach(work, group, actor_of(request).reach)

    @get("/{group:str}/devices", opt=READ)
    async def list_group_devices(
        self, group: str, request: AnyRequest, work: Work, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> Page[Device]:
        reach = actor_of(request).reach
        await groups.get_in_reach(work, group, reach)
        return await fleet.find(work, DeviceFilter(group=group), cursor, limit, reach)

    @patch("/{group:str}", opt=WRITE, guards=[group_exists])
    async def update_group(self, group: str, data: GroupChange, request: AnyRequest, work: Work) -> Group:
        """Rename, change the query, or change the members of a static list."""
        before = await groups.get(work, group)
        after = await groups.change(work, group, data)
        await record(work, request, "group.update", after.group_id, before=before, after=data)
        return after

    @delete("/{group:str}", opt=WRITE)
    async def delete_group(self, group: str, request: AnyRequest, work: Work) -> None:
        before = await groups.remove(work, group)
        await record(work, request, "group.delete", before.group_id, before=before)
