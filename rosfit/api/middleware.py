"""Around every request: its id, security headers, and one log line without the query string."""

from __future__ import annotations

import re
import time
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from rosfit.kernel.ids import uuid7
from rosfit.kernel.metrics import Metrics

log = structlog.get_logger("rosfit.http")

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)

_HEADERS = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]

# A year, for this host only: what else runs under its domain is not ours to decide.
_OVER_TLS = [(b"strict-transport-security", b"max-age=31536000")]

# Answers HEAD by itself, without reading the file.
_KNOWS_HEAD = "/api/v1/ota/files/"

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")

_HOOK_SECRET = re.compile(r"^(/api/v1/mqtt/(?:rabbitmq/[^/]*|(?!rabbitmq/)[^/]*))/.*")

# Asked every few seconds by machines; their lines would bury the others.
_QUIET = ("/healthz", "/readyz", "/metrics", "/static/")


class RequestMiddleware:
    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        if scope["method"] == "HEAD" and not scope["path"].startswith(_KNOWS_HEAD):
            # As GET; uvicorn, which still has the other scope, sends no body.
            scope = {**scope, "method": "GET"}
        started = time.perf_counter()
        status = 500
        wanted = _HEADERS + _OVER_TLS if scope["scheme"] == "https" else _HEADERS

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", []))
                present = {name.lower() for name, _ in headers}
                headers += [pair for pair in wanted if pair[0] not in present]
                message["headers"] = [*headers, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._report(scope, request_id, status, time.perf_counter() - started)

    def _report(self, scope: Any, request_id: str, status: int, took_s: float) -> None:
        route = scope.get("path_template") or "other"
        self._metrics.requests.labels(scope["method"], route, status).observe(took_s)
        path: str = scope["path"]
        if path.startswith(_QUIET):
            return
        actor = scope.get("actor")
        log.info(
            "request",
            method=scope["method"],
            path=_shown(path),
            status=status,
            ms=round(took_s * 1000, 1),
            actor=actor.id if actor else None,
            address=(scope.get("client") or ("", 0))[0],
            request_id=request_id,
        )


def _shown(path: str) -> str:
    """Without the secret that a broker which can send no header has put last; see `rosfit.api.broker_auth`."""
    return _HOOK_SECRET.sub(r"\1/***", path)


def _request_id(scope: Scope) -> str:
    """The caller's own, where it is harmless; else a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else uuid7().hex
