"""`/shadow-layers`: desired values of the fleet and of groups, under each device's own."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post, put
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from rosfit.accounts.rights import Right
from rosfit.api.access import MERGE_PATCH, actor_of, record
from rosfit.api.edge import Connection, edge_of
from rosfit.api.responses import WireResponse
from rosfit.api.shadow import CONDITIONAL, Reason, check_tags
from rosfit.fleet import groups
from rosfit.fleet.models import Group
from rosfit.kernel.errors import BadRequestError
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work
from rosfit.shadow import layers
from rosfit.shadow.layers import FLEET, LayerChange, LayerDocument, Preview
from rosfit.shadow.models import DEFAULT_NAME, Change
from rosfit.shadow.service import check_name

AnyRequest = Request[Any, Any, Any]

READ = {"right": Right.DEVICES_READ}
WRITE = {"right": Right.LAYERS_WRITE}

Name = Annotated[str, Parameter(query="name", description="a named shadow")]


class LayerBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`state` is the patch of the layer's values (PATCH, preview) or the whole of them (PUT)."""

    state: Any
    version: int | None = None
    reason: Reason | None = None
    priority: Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)] | None = None

    def change(self, *, replace: bool) -> LayerChange:
        return LayerChange(Change(self.state, replace, self.version, self.reason), self.priority)


async def layer_can_be(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard: 404 comes before whatever is wrong with the body."""
    async with edge_of(connection).open_work() as work:
        await layers.find_group(work, connection.path_params["layer"])


class ShadowLayerController(Controller):
    path = "/shadow-layers"
    tags = ("shadow",)

    @get(opt=READ)
    async def list_shadow_layers(self, request: AnyRequest, work: Work) -> Page[LayerDocument]:
        """Those of the fleet and of the groups within reach, from the bottom up."""
        reach = actor_of(request).reach
        within = {group.group_id for group in await groups.in_reach(work, await groups.listing(work), reach)}
        found = await layers.listing(work)
        return Page([one for one in found if one.group_id is None or one.group_id in within])

    @get("/{layer:str}", opt=READ)
    async def get_shadow_layer(
        self, layer: str, request: AnyRequest, work: Work, name: Name = DEFAULT_NAME
    ) -> Response[LayerDocument]:
        """`fleet`, or a group by id or name; version 0 where it has no values."""
        return _answer(await layers.get(work, await _group(request, work, layer), check_name(name)))

    @patch("/{layer:str}", opt=WRITE | CONDITIONAL | {"body": LayerBody}, guards=[layer_can_be])
    async def patch_shadow_layer(
        self, layer: str, request: AnyRequest, work: Work, name: Name = DEFAULT_NAME
    ) -> Response[LayerDocument]:
        """JSON Merge Patch, as of a shadow. Every device that it changes gets a new version, soon after the answer."""
        return await _change(request, work, layer, name, await _patch_of(request))

    @put("/{layer:str}", opt=WRITE | CONDITIONAL | {"body": LayerBody}, guards=[layer_can_be])
    async def put_shadow_layer(
        self, layer: str, request: AnyRequest, work: Work, name: Name = DEFAULT_NAME
    ) -> Response[LayerDocument]:
        """Replace all values of the layer."""
        return await _change(request, work, layer, name, (await _body(request)).change(replace=True))

    @delete("/{layer:str}", opt=WRITE | CONDITIONAL, status_code=204)
    async def delete_shadow_layer(
        self, layer: str, request: AnyRequest, work: Work, name: Name = DEFAULT_NAME
    ) -> None:
        """Devices fall back to what lies below."""
        group = await _group(request, work, layer)
        await _check_conditions(request, work, group, check_name(name))
        await layers.remove(work, group, name, actor_of(request).id)
        await record(work, request, "shadow_layer.delete", layer, after={"name": name})

    @post("/{layer:str}/preview", opt=WRITE, guards=[layer_can_be], status_code=200)
    async def preview_shadow_layer(
        self, layer: str, data: LayerBody, request: AnyRequest, work: Work, name: Name = DEFAULT_NAME
    ) -> Preview:
        """How many devices a PATCH with this body would change, and what it would do to a few of them."""
        group = await _group(request, work, layer)
        return await layers.preview(work, group, check_name(name), data.change(replace=False))


async def _group(request: AnyRequest, work: Work, layer: str) -> Group | None:
    return None if layer == FLEET else await groups.get_in_reach(work, layer, actor_of(request).reach)


async def _patch_of(request: AnyRequest) -> LayerChange:
    content_type, _ = request.content_type
    if content_type != MERGE_PATCH:
        return (await _body(request)).change(replace=False)
    try:
        return LayerChange(Change(msgspec.json.decode(await request.body())))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequestError(f"The body is not JSON: {error}") from error


async def _body(request: AnyRequest) -> LayerBody:
    try:
        return msgspec.json.decode(await request.body(), type=LayerBody)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequestError(f"Send {{'state': …}}: {error}") from error


async def _change(
    request: AnyRequest, work: Work, layer: str, name: str, wanted: LayerChange
) -> Response[LayerDocument]:
    group = await _group(request, work, layer)
    await _check_conditions(request, work, group, check_name(name))
    changed = await layers.change(work, group, name, wanted, actor_of(request).id)
    told = {"name": name, "version": changed.version, "patch": wanted.change.patch, "replace": wanted.change.replace}
    await record(work, request, "shadow_layer.change", changed.layer, after=told)
    return _answer(changed)


async def _check_conditions(request: AnyRequest, work: Work, group: Group | None, name: str) -> None:
    if "if-match" in request.headers or "if-none-match" in request.headers:
        check_tags(request, await layers.held_version(work, group, name), "layer")


def _answer(document: LayerDocument) -> Response[LayerDocument]:
    return WireResponse(document, headers={"ETag": f'"{document.version}"'})
