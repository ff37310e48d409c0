"""Which web pages of other sites may speak to this server: none, unless the settings name them."""

from __future__ import annotations

from urllib.parse import urlsplit

import structlog
from litestar.config.cors import CORSConfig
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from rosfit.settings import Settings

log = structlog.get_logger(__name__)

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def cors_config(settings: Settings) -> CORSConfig | None:
    """For scripts of the named origins. Without credentials: they send a Bearer token, never our pages' cookie."""
    if not settings.cors_origins:
        return None
    return CORSConfig(
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "If-Match",
            "If-None-Match",
            "Range",
            "X-Request-Id",
        ],
        expose_headers=["Content-Range", "ETag", "Location", "Retry-After", "X-Request-Id", "X-Sample-Time"],
        allow_credentials=False,
    )


class SocketOrigins:
    """Refuses WebSockets that a page of another site opens; browsers do not ask CORS about them.

    Programs send no Origin and are let through: they must have a token all the same.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._named = {_place(origin) for origin in settings.cors_origins}
        self._public_url = settings.public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET and not self._may_open(scope):
            log.warning("socket_refused", why="foreign origin", path=scope["path"], address=_address(scope))
            await receive()
            # Closed before it is accepted, which the client sees as HTTP 403.
            await send({"type": "websocket.close", "code": 1008, "reason": "foreign origin"})
            return
        await self._app(scope, receive, send)

    def _may_open(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not origin:
            return True
        host = headers.get(b"host", b"").decode("latin-1")
        return _place(origin) in self._named or is_own_page(origin, host, self._public_url)


def is_own_page(origin: str, host: str, public_url: str | None) -> bool:
    """Whether the page was served under the host that is asked now, or under the address that people use."""
    place = _place(origin)
    # A proxy in front may speak TLS for us, so the scheme is the page's own.
    own = {_place(f"{urlsplit(origin).scheme}://{host}"), _place(public_url or "")} if place else set()
    return place in own


def _place(origin: str) -> tuple[str, str, int | None] | None:
    """(scheme, host, port); None for what names no place, such as `null`."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS.get(parts.scheme)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""
