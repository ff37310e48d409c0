"""`/shadow-schemas`: JSON Schemas that what is desired has to fit, per device type and per group."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, Response, delete, get, put
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from rosfit.accounts.rights import Right
from rosfit.api.access import actor_of, record
from rosfit.api.edge import Connection, edge_of
from rosfit.api.responses import WireResponse
from rosfit.api.shadow import CONDITIONAL, check_tags
from rosfit.fleet import groups
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work
from rosfit.shadow import schemas
from rosfit.shadow.models import DEFAULT_NAME
from rosfit.shadow.schema_rows import ShadowSchema
from rosfit.shadow.schemas import Target
from rosfit.shadow.service import check_name

AnyRequest = Request[Any, Any, Any]

READ = {"right": Right.DEVICES_READ}
WRITE = {"right": Right.LAYERS_WRITE}

Name = Annotated[str, Parameter(query="name", description="a named shadow")]


async def target_can_be(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard: 404 comes before whatever is wrong with the body."""
    async with edge_of(connection).open_work() as work:
        await schemas.find_target(work, connection.path_params["target"])


class ShadowSchemaController(Controller):
    path = "/shadow-schemas"
    tags = ("shadow",)

    @get(opt=READ)
    async def list_shadow_schemas(self, request: AnyRequest, work: Work) -> Page[ShadowSchema]:
        """Those of device types, then those of the groups within reach."""
        within = await groups.in_reach(work, await groups.listing(work), actor_of(request).reach)
        ids = {group.group_id for group in within}
        return Page([one for one in await schemas.listing(work) if one.group is None or one.target in ids])

    @get("/{target:str}", opt=READ)
    async def get_shadow_schema(
        self, target: str, request: AnyRequest, work: Work, name: Name = DEFAULT_NAME
    ) -> Response[ShadowSchema]:
        """Of a device type, or of a group by id or name; version 0 where there is none."""
        found = await schemas.find_target(work, target)
        if found.group_id is not None:
            await groups.get_in_reach(work, found.group_id, actor_of(request).reach)
        return _answer(await schemas.get(work, found, check_name(name)))

    @put("/{target:str}", opt=WRITE | CONDITIONAL, guards=[target_can_be])
    async def put_shadow_schema(
        self, target: str, data: dict[str, Any], request: AnyRequest, work: Work, name: Name = DEFAULT_NAME
    ) -> Response[ShadowSchema]:
        """The body is the schema. What is desired already stays, and has to fit at its next change."""
        found = await schemas.find_target(work, target)
        await _check_conditions(request, work, found, check_name(name))
        after = await schemas.put(work, found, name, data, actor_of(request).id)
        told = {"name": name, "version": after.version, "schema": after.schema}
        await record(work, request, "shadow_schema.put", after.target, after=told)
        return _answer(after)

    @delete("/{target:str}", opt=WRITE | CONDITIONAL, guards=[target_can_be], status_code=204)
    async def delete_shadow_schema(
        self, target: str, request: AnyRequest, work: Work, name: Name = DEFAULT_NAME
    ) -> None:
        """From then on anything may be desired."""
        found = await schemas.find_target(work, target)
        await _check_conditions(request, work, found, check_name(name))
        await schemas.remove(work, found, name, actor_of(request).id)
        await record(work, request, "shadow_schema.delete", found.id, after={"name": name})


async def _check_conditions(request: AnyRequest, work: Work, target: Target, name: str) -> None:
    if "if-match" in request.headers or "if-none-match" in request.headers:
        check_tags(request, await schemas.held_version(work, target, name), "schema")


def _answer(found: ShadowSchema) -> Response[ShadowSchema]:
    return WireResponse(found, headers={"ETag": f'"{found.version}"'})
