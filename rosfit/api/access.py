"""Who asks, and may they: judged before path, query and body are looked at."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from litestar.enums import RequestEncodingType, ScopeType
from litestar.handlers.base import BaseRouteHandler
from litestar.params import BodyKwarg

from rosfit.accounts import audit
from rosfit.accounts import service as accounts
from rosfit.accounts.audit import Origin
from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.api.edge import Connection, Edge, edge_of
from rosfit.api.errors import UnsupportedMediaTypeError
from rosfit.fleet import service as fleet
from rosfit.kernel.errors import PermissionDeniedError, RateLimitedError, UnauthenticatedError, UnavailableError
from rosfit.kernel.work import Work

MERGE_PATCH = "application/merge-patch+json"

SESSION_COOKIE = "rosfit_session"


async def require_right(connection: Connection, handler: BaseRouteHandler) -> None:
    """Guard: a credential, the right in `opt["right"]`, the rate limit, and then the device in the path.

    `opt["whole_fleet"]` refuses who is limited to some devices, where the right alone does not.
    `opt["public"]` lets anybody in; a credential that is sent all the same counts if it is valid, so that a client
    which sends its old token everywhere can still sign in, refresh and sign out.
    `opt["page"]` takes the session of the pages, too: for what a browser reads without scripts of its own.
    """
    edge = edge_of(connection)
    if handler.opt.get("public"):
        with suppress(UnauthenticatedError):
            connection.scope["actor"] = await _actor(connection, edge, handler)  # type: ignore[typeddict-unknown-key]
        check_media_type(connection, handler)
        return
    actor = await _actor(connection, edge, handler)
    connection.scope["actor"] = actor  # type: ignore[typeddict-unknown-key]
    if actor is None:
        raise UnauthenticatedError("Send `Authorization: Bearer <token>`; POST /api/v1/auth/login gives one")
    await check_rate(edge, actor.id)
    if connection.scope.get("method") == "OPTIONS":
        return  # answered by the framework, with the methods of the path
    try:
        check_right(actor, handler.opt["right"], whole_fleet=bool(handler.opt.get("whole_fleet")))
    except PermissionDeniedError:
        await _record_denial(connection, edge, actor)
        raise
    if "device_id" in connection.path_params:
        async with edge.open_work() as work:
            await fleet.check_reach(work, connection.path_params["device_id"], actor.reach)
    check_media_type(connection, handler)


def check_media_type(connection: Connection, handler: BaseRouteHandler) -> None:
    """A body that says what it is must be what the handler reads: JSON, unless its `Body(media_type=…)` says other.

    Raises UnsupportedMediaTypeError.
    """
    field = handler.parsed_data_field
    given = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (field is None and "body" not in handler.opt) or not given:
        return
    told = field.kwarg_definition if field else None
    wanted = told.media_type if isinstance(told, BodyKwarg) else RequestEncodingType.JSON
    if not (_is_json(given, connection, handler) if wanted == RequestEncodingType.JSON else given == wanted):
        expected = getattr(wanted, "value", wanted)
        raise UnsupportedMediaTypeError(f"The body is {given[:100]!r}; send {expected} and say so in Content-Type")


def _is_json(given: str, connection: Connection, handler: BaseRouteHandler) -> bool:
    """Also by another name; a merge patch only where one is merged, since elsewhere its null would be a value."""
    if given == MERGE_PATCH:
        return connection.scope.get("method") == "PATCH" and "body" in handler.opt
    return given == "application/json" or (given.startswith("application/") and given.endswith("+json"))


def check_right(actor: Actor, right: Right | None, *, whole_fleet: bool = False) -> None:
    """`None` asks for any signed-in actor. Raises PermissionDeniedError."""
    if right is not None and not actor.may(right):
        raise PermissionDeniedError(f"This needs the right {right.value}, which the role {actor.role} does not have")
    if whole_fleet and not actor.reach.is_everything:
        raise PermissionDeniedError("This credential is limited to some devices; this needs one that is not")


def actor_of(connection: Connection) -> Actor:
    """Who passed `require_right`."""
    actor: Actor = connection.scope["actor"]  # type: ignore[typeddict-item]
    return actor


def optional_actor_of(connection: Connection) -> Actor | None:
    actor: Actor | None = connection.scope.get("actor")  # type: ignore[assignment]
    return actor


async def _actor(connection: Connection, edge: Edge, handler: BaseRouteHandler) -> Actor | None:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return await edge.identities.identify(token.strip())
    session = connection.cookies.get(SESSION_COOKIE)
    if handler.opt.get("page") and session:
        async with edge.open_work() as work:
            return await accounts.session_actor(work, session)
    return None


def origin_of(connection: Connection) -> Origin:
    """Where the request came from, for the audit log."""
    client = connection.client
    return Origin(client.host if client else None, connection.scope.get("state", {}).get("request_id"))


async def record(
    work: Work, connection: Connection, action: str, target: str, *, before: Any = None, after: Any = None
) -> None:
    """An entry of the audit log about who makes this request."""
    actor = optional_actor_of(connection) or "anonymous"
    await audit.record(work, actor, action, target, before=before, after=after, origin=origin_of(connection))


async def _record_denial(connection: Connection, edge: Edge, actor: Actor) -> None:
    """Only what would have changed something: a page that looks in vain is no event."""
    method = connection.scope["method"] if connection.scope["type"] == ScopeType.HTTP else "GET"
    if method in {"GET", "HEAD", "OPTIONS"}:
        return
    async with edge.open_work() as work:
        target = f"{method} {connection.url.path}"
        await audit.record(
            work, actor, "access.denied", target, origin=origin_of(connection), result="PERMISSION_DENIED"
        )


async def check_rate(edge: Edge, credential: str) -> None:
    """Raises RateLimitedError when this credential asks too often."""
    limit = int(edge.settings.rate_limit_per_s)
    try:
        wait_s = await edge.hot.count_request(credential, limit)
    except UnavailableError:
        return  # a limit protects the server; without its counter it would only keep everybody out
    if wait_s > 0:
        raise RateLimitedError(f"At most {limit} requests a second; try again shortly", retry_after_s=wait_s)
