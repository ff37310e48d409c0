"""Who looks at a page: the session cookie, the right a page needs, and requests from other sites turned away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, urlsplit

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect

from rosfit.accounts import audit
from rosfit.accounts import service as accounts
from rosfit.accounts.audit import Origin
from rosfit.accounts.models import Actor
from rosfit.accounts.tokens import SESSION_TTL_S
from rosfit.dashboard.injected import Opening
from rosfit.kernel.errors import PermissionDeniedError, UnauthenticatedError, UnavailableError
from rosfit.kernel.work import Work

COOKIE = "rosfit_session"

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

AnyRequest = Request[Any, Any, Any]


class CrossSiteError(PermissionDeniedError):
    code = "CROSS_SITE_REQUEST"
    title = "The request came from another site"


class SignInNeededError(UnauthenticatedError):
    """`place` is where to go instead: sign-in, or set-up while there is no user."""

    def __init__(self, place: str) -> None:
        super().__init__("Sign in to see this page")
        self.place = place


async def provide_actor(request: AnyRequest, work: NamedDependency[Work], edge: NamedDependency[Opening]) -> Actor:
    """The person behind the cookie, who has the right that the handler names in its `opt`."""
    token = request.cookies.get(COOKIE)
    actor = await accounts.session_actor(work, token) if token else None
    if actor is None:
        raise SignInNeededError("/setup" if await accounts.needs_setup(work) else "/sign-in")
    # For the log of requests, which names who made each.
    request.scope["actor"] = actor  # type: ignore[typeddict-unknown-key]
    right = request.route_handler.opt["right"]
    if not actor.may(right):
        await _record_denial(request, edge, actor)
        raise PermissionDeniedError(f"This needs the right {right}, which a {actor.role} does not have; ask an admin")
    return actor


async def provide_waiting_actor(request: AnyRequest, edge: NamedDependency[Opening]) -> Actor:
    """For handlers that wait for a robot: they hold no database connection meanwhile."""
    async with edge.open_work() as work:
        return await provide_actor(request, work, edge)


def still_signed_in(request: AnyRequest, edge: Opening, actor: Actor) -> Callable[[], Awaitable[bool]]:
    """Asks whether the session holds and its rights are the same, for answers that go on for long."""

    async def look() -> bool:
        try:
            async with edge.open_work() as work:
                return await accounts.session_actor(work, request.cookies.get(COOKIE, "")) == actor
        except UnavailableError:
            return True  # a database that is away signs nobody out

    return look


async def _record_denial(request: AnyRequest, edge: Opening, actor: Actor) -> None:
    """Only what would have changed something, and in work of its own, since the request's is rolled back."""
    if request.method in _SAFE_METHODS:
        return
    target = f"{request.method} {request.url.path}"
    async with edge.open_work() as work:
        await audit.record(
            work, actor, "access.denied", target, origin=origin_of(request), result=PermissionDeniedError.code
        )


def origin_of(request: AnyRequest) -> Origin:
    """Where the request came from, for the audit log."""
    return Origin(request.client.host if request.client else None, request.scope.get("state", {}).get("request_id"))


async def record(
    work: Work, request: AnyRequest, actor: Actor, action: str, target: str, *, before: Any = None, after: Any = None
) -> None:
    """An entry of the audit log, under the same names that the API gives."""
    await audit.record(work, actor, action, target, before=before, after=after, origin=origin_of(request))


def require_everywhere(actor: Actor) -> None:
    """For what belongs to no device yet. Raises PermissionDeniedError for somebody who is limited to some."""
    if not actor.reach.is_everything:
        raise PermissionDeniedError("Your account is limited to some robots; ask somebody whose account is not")


def same_origin(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: a browser says where an unsafe request comes from; what says nothing is no browser."""
    if connection.scope.get("method") in _SAFE_METHODS:
        return
    site = connection.headers.get("sec-fetch-site")
    if site is not None:
        if site not in {"same-origin", "none"}:
            raise CrossSiteError("Open this page on its own address and try again")
        return
    origin = connection.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != connection.headers.get("host"):
        raise CrossSiteError("Open this page on its own address and try again")


def sign_in_answer(request: AnyRequest, error: SignInNeededError) -> Response[Any]:
    """A page goes to sign-in and comes back; htmx is told to go there; a script gets 401."""
    if "hx-request" in request.headers:
        current = urlsplit(request.headers.get("hx-current-url", "/"))
        place = _with_next(error.place, _path(current.path, current.query))
        return Response("", status_code=401, headers={"HX-Redirect": place})
    if "text/html" not in request.headers.get("accept", "text/html"):
        return Response({"code": error.code, "detail": error.detail}, status_code=401)
    return Redirect(_with_next(error.place, _path(request.url.path, request.url.query)))


def _path(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


def _with_next(place: str, then: str) -> str:
    return place if place == "/setup" or then in {"", "/"} else f"{place}?next={quote(then, safe='/')}"


def safe_next(then: str | None) -> str:
    """A path on this site, whatever the query string says."""
    if not then or not then.startswith("/") or then.startswith(("//", "/\\")) or any(c < " " for c in then):
        return "/"
    return then


def session_cookie(request: AnyRequest, token: str) -> Cookie:
    return Cookie(
        COOKIE,
        value=token,
        path="/",
        max_age=SESSION_TTL_S,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
