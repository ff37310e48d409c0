"""Artifacts from RosFit itself, where they lie in a folder: by a link that one device got with its trigger."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, NamedTuple

from litestar import HttpMethod, Request, Response, route
from litestar.params import Parameter
from litestar.response import Stream

from rosfit.api.edge import Edge
from rosfit.api.errors import RangeNotSatisfiableError
from rosfit.kernel.clock import now
from rosfit.kernel.ports import ObjectStore
from rosfit.ota import device_rows, signing
from rosfit.ota.device_rows import Grant
from rosfit.ota.errors import DownloadRefusedError
from rosfit.ota.lifecycle import FINAL
from rosfit.ota.models import Trigger

AnyRequest = Request[Any, Any, Any]

PATH = "/ota/files"
# A link outlives the deadline by this, for a download that began just before it.
MARGIN_S = 3600

# One range: several at a time, and what is none, are answered with the whole file, as RFC 9110 allows.
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


class Span(NamedTuple):
    start: int
    length: int


@route(f"{PATH}/{{deployment_id:str}}/{{device_id:str}}", http_method=[HttpMethod.GET, HttpMethod.HEAD],
       opt={"public": True}, include_in_schema=False)  # fmt: skip
async def download_artifact(
    deployment_id: str,
    device_id: str,
    request: AnyRequest,
    edge: Edge,
    expires: Annotated[int, Parameter(query="expires")] = 0,
    token: Annotated[str, Parameter(query="token")] = "",
) -> Response[Any]:
    """The bytes, or a range of them. 403 once the link has run out or the device's update has ended."""
    async with edge.open_work() as work:
        grant = await device_rows.download_grant(work.connection, deployment_id, device_id)
    _check(grant, device_id, expires, token)
    assert grant is not None, "it was checked"
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{grant.sha256}"', "Cache-Control": "private, no-transform"}
    headers["Content-Disposition"] = f'attachment; filename="{grant.file_name}"'
    span = wanted_span(request.headers.get("range"), request.headers.get("if-range"), grant)
    if span is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.start + span.length - 1}/{grant.size}"
    whole = span or Span(0, grant.size)
    headers["Content-Length"] = str(whole.length)
    body = _nothing() if request.method == "HEAD" else edge.objects.read(grant.object_key, *whole)
    return Stream(body, status_code=206 if span else 200, headers=headers, media_type="application/octet-stream")


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _check(grant: Grant | None, device_id: str, expires: int, token: str) -> None:
    """One answer for what does not exist and what is forged."""
    if grant is None or not signing.is_link_token(grant.url_secret, device_id, expires, token):
        raise DownloadRefusedError("Use the url of the device's own ota/trigger, as it is")
    if now().timestamp() >= expires:
        raise DownloadRefusedError("The link has run out; the update's deadline has passed")
    if grant.status in FINAL:
        raise DownloadRefusedError(f"The device's update has ended: {grant.status}")


def wanted_span(asked: str | None, if_range: str | None, grant: Grant) -> Span | None:
    """None for the whole file. Raises RangeNotSatisfiableError."""
    if asked is None or (if_range is not None and if_range.strip() != f'"{grant.sha256}"'):
        return None
    found = _RANGE.fullmatch(asked.strip())
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        start, end = max(0, grant.size - int(suffix)), grant.size
    else:
        start, end = int(first), min(int(last) + 1 if last else grant.size, grant.size)
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeNotSatisfiableError(f"The file has {grant.size} bytes", size=grant.size)
    return Span(start, end - start)


def linker(objects: ObjectStore, base: str) -> Callable[[Trigger], Any]:
    """Makes the `url` of a trigger: the object store's own where it can sign one, else ours for this device."""

    async def link_to(trigger: Trigger) -> str:
        expires = int(trigger.deadline_at.timestamp()) + MARGIN_S
        left_s = max(60, expires - int(now().timestamp()))
        if (url := await objects.presign(trigger.object_key, left_s)) is not None:
            return url
        token = signing.link_token(trigger.url_secret, trigger.device_id, expires)
        path = f"/api/v1{PATH}/{trigger.deployment_id}/{trigger.device_id}"
        return f"{base}{path}?expires={expires}&token={token}"

    return link_to
