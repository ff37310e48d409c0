"""`/shadow`: desired by people and programs, reported by the device, and every version of both."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post, put
from litestar.params import Parameter

from rosfit.accounts.rights import Right
from rosfit.api.access import MERGE_PATCH, actor_of, record
from rosfit.api.edge import Edge
from rosfit.api.parameters import DEFAULT_LIMIT, Cursor, Limit
from rosfit.api.responses import WireResponse
from rosfit.kernel.errors import BadRequestError, field_error_of
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work
from rosfit.shadow import service
from rosfit.shadow.errors import PreconditionFailedError
from rosfit.shadow.models import DEFAULT_NAME, Change, Shadow, Version

AnyRequest = Request[Any, Any, Any]

READ = {"right": Right.DEVICES_READ}
WRITE = {"right": Right.SHADOW_WRITE}

CONDITIONAL = {"conditional": True}

Name = Annotated[str, Parameter(query="name", description="a named shadow")]
Reason = Annotated[str, msgspec.Meta(max_length=1000)]


class DesiredBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`state` is the patch of desired (PATCH) or the whole of it (PUT); null removes the section."""

    state: Any
    version: int | None = None
    reason: Reason | None = None


class RestoreBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int


class ShadowController(Controller):
    path = "/shadow/{device_id:str}"
    tags = ("shadow",)

    @get(opt=READ)
    async def get_shadow(
        self, device_id: str, work: Work, edge: Edge, name: Name = DEFAULT_NAME
    ) -> Response[Shadow]:
        """The whole document; version 0 and an empty state where there is none."""
        return _answer(await edge.shadows.get(work, device_id, service.check_name(name)))

    @patch("/desired", opt=WRITE | CONDITIONAL | {"body": DesiredBody})
    async def patch_desired(
        self, device_id: str, request: AnyRequest, work: Work, name: Name = DEFAULT_NAME
    ) -> Response[Shadow]:
        """JSON Merge Patch: as `application/merge-patch+json` the body itself, as `application/json` its `state`."""
        return await _change(request, work, device_id, name, await _patch_of(request))

    @put("/desired", opt=WRITE | CONDITIONAL | {"body": DesiredBody})
    async def put_desired(
        self, device_id: str, request: AnyRequest, work: Work, name: Name = DEFAULT_NAME
    ) -> Response[Shadow]:
        """Replace the whole of desired."""
        body = _decode(await request.body())
        return await _change(request, work, device_id, name, Change(body.state, True, body.version, body.reason))

    @delete("/desired", opt=WRITE | CONDITIONAL, status_code=200)
    async def delete_desired(
        self, device_id: str, request: AnyRequest, work: Work, name: Name = DEFAULT_NAME
    ) -> Response[Shadow]:
        """Remove desired; reported stays and versions go on."""
        return await _change(request, work, device_id, name, Change(None, replace=True))

    @get("/history", opt=READ)
    async def list_shadow_history(
        self, device_id: str, work: Work, name: Name = DEFAULT_NAME, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> Page[Version]:
        """Every version with author, time and reason; newest first."""
        return await service.history(work, device_id, service.check_name(name), cursor, limit)

    @get("/names", opt=READ)
    async def list_shadow_names(self, device_id: str, work: Work) -> Page[str]:
        """The shadows that a device has."""
        return Page(await service.names(work, device_id))

    @post("/restore", opt=WRITE | CONDITIONAL, status_code=200)
    async def restore_shadow(
        self, device_id: str, data: RestoreBody, request: AnyRequest, work: Work, name: Name = DEFAULT_NAME
    ) -> Response[Shadow]:
        """Desired as it was in an earlier version, as a new version."""
        await _check_conditions(request, work, device_id, name)
        shadow = await service.restore(work, device_id, name, data.version, actor_of(request).id)
        await record(work, request, "shadow.restore", device_id, after={"name": name, "version": data.version})
        return _answer(shadow)


async def _patch_of(request: AnyRequest) -> Change:
    content_type, _ = request.content_type
    if content_type == MERGE_PATCH:
        try:
            return Change(msgspec.json.decode(await request.body()))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise BadRequestError(f"The body is not JSON: {error}") from error
    body = _decode(await request.body())
    return Change(body.state, False, body.version, body.reason)


def _decode(body: bytes) -> DesiredBody:
    try:
        return msgspec.json.decode(body, type=DesiredBody)
    except msgspec.ValidationError as error:
        raise BadRequestError("Send {'state': …, 'version'?, 'reason'?}", errors=(field_error_of(error),)) from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequestError(f"The body is not JSON: {error}") from error


async def _change(request: AnyRequest, work: Work, device_id: str, name: str, change: Change) -> Response[Shadow]:
    service.check_name(name)
    await _check_conditions(request, work, device_id, name)
    shadow = await service.change_desired(work, device_id, name, change, actor_of(request).id)
    told = {"name": name, "version": shadow.version, "patch": change.patch, "replace": change.replace}
    await record(work, request, "shadow.desired", device_id, after=told)
    return _answer(shadow)


async def _check_conditions(request: AnyRequest, work: Work, device_id: str, name: str) -> None:
    """`If-Match` and `If-None-Match`, judged while the shadow is held."""
    if "if-match" in request.headers or "if-none-match" in request.headers:
        check_tags(request, await service.held_version(work, device_id, name), "shadow")


def check_tags(request: AnyRequest, version: int, what: str) -> None:
    """Raises PreconditionFailedError."""
    wanted, unwanted = request.headers.get("if-match"), request.headers.get("if-none-match")
    if wanted is not None and not _matches(wanted, version):
        raise PreconditionFailedError(f"The {what} is at version {version}; If-Match asks for {wanted[:40]}")
    if unwanted is not None and _matches(unwanted, version):
        raise PreconditionFailedError(f"The {what} exists, at version {version}")


def _matches(header: str, version: int) -> bool:
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]
    return version > 0 if tags == ["*"] else str(version) in tags


def _answer(shadow: Shadow) -> Response[Shadow]:
    return WireResponse(shadow, headers={"ETag": f'"{shadow.version}"'})
