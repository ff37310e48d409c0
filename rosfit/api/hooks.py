"""`/hooks/{source}`: signed webhooks from other systems; `/hook-sources`: who may send them."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Request, Response, delete, get, post

from rosfit.accounts import hooks
from rosfit.accounts.hooks import Accepted, Delivery, NewSource, Source, SourceSecret
from rosfit.accounts.rights import Right
from rosfit.api.access import actor_of, check_rate, record
from rosfit.api.edge import Edge
from rosfit.api.idempotency import once
from rosfit.api.parameters import DEFAULT_LIMIT, Cursor, Limit
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work

AnyRequest = Request[Any, Any, Any]

SOURCES = {"right": Right.HOOKS_WRITE}


@post(
    "/hooks/{source:str}",
    opt={"public": True},
    status_code=202,
    tags=["webhooks"],
    request_max_body_size=hooks.BODY_LIMIT_BYTES,
)
async def take_hook(source: str, request: AnyRequest, edge: Edge) -> Accepted:
    """A signed delivery: any JSON up to 64 KiB.

    `X-RosFit-Timestamp` is the time of sending; `X-RosFit-Signature` is `sha256=` and the hex HMAC-SHA256, with the
    source's secret, of the timestamp's text, a dot and the body.
    """
    # Before the database is asked, so that a slow sender holds no connection.
    body = await request.body()
    timestamp, signature = (request.headers.get(name, "") for name in ("x-rosfit-timestamp", "x-rosfit-signature"))
    async with edge.open_work() as work:
        accepted = await hooks.take(work, source, timestamp, signature, body)
        await check_rate(edge, f"hook:{source}")
        return accepted


class HookSourceController(Controller):
    path = "/hook-sources"
    tags = ("webhooks",)

    @get(opt=SOURCES)
    async def list_hook_sources(self, work: Work, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[Source]:
        """Who may send webhooks; never a secret."""
        return await hooks.list_sources(work, cursor, limit)

    @post(opt=SOURCES)
    async def create_hook_source(self, data: NewSource, request: AnyRequest, work: Work) -> Response[SourceSecret]:
        """`secret` signs its deliveries and is shown this once."""
        actor = actor_of(request)

        async def create() -> SourceSecret:
            added = await hooks.add_source(work, data, actor)
            await record(work, request, "hook_source.create", data.source)
            return added

        return await once(work, request, actor.id, 201, create)

    @post("/{source:str}/rotate", opt=SOURCES)
    async def rotate_hook_secret(self, source: str, request: AnyRequest, work: Work) -> Response[SourceSecret]:
        """A new secret; the old one is taken for another 24 hours."""

        async def create() -> SourceSecret:
            rotated = await hooks.rotate_secret(work, source)
            await record(work, request, "hook_source.rotate", source)
            return rotated

        return await once(work, request, actor_of(request).id, 201, create)

    @delete("/{source:str}", opt=SOURCES)
    async def delete_hook_source(self, source: str, request: AnyRequest, work: Work) -> None:
        """Its deliveries go with it."""
        await hooks.remove_source(work, source)
        await record(work, request, "hook_source.delete", source)

    @get("/{source:str}/deliveries", opt=SOURCES)
    async def list_hook_deliveries(
        self, source: str, work: Work, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> Page[Delivery]:
        """What it has sent, newest first; kept for 30 days, 10,000 of each source."""
        return await hooks.deliveries(work, source, cursor, limit)
