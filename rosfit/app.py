"""The web application, and `serve`: RosFit in one loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import structlog
import uvicorn
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.exceptions import LitestarException
from litestar.handlers import HTTPRouteHandler
from litestar.types import Scope

from rosfit import dashboard
from rosfit.api.edge import Edge
from rosfit.api.errors import problem, to_rosfit_error
from rosfit.api.middleware import RequestMiddleware
from rosfit.api.openapi import openapi_document
from rosfit.api.origins import SocketOrigins, cors_config
from rosfit.api.routes import BASE, routes
from rosfit.api.slow_clients import HEADERS_LIMIT_BYTES, ImpatientProtocol
from rosfit.dashboard.errors import error_page
from rosfit.infra.oidc import make_provider
from rosfit.infra.tls import pin_for_robots, secure, server_pair
from rosfit.kernel.work import Work
from rosfit.settings import Settings
from rosfit.supervisor import Endpoints
from rosfit.wiring import Wired, wire

log = structlog.get_logger(__name__)

BODY_LIMIT_BYTES = 10 * 1024 * 1024
SOCKET_MESSAGE_LIMIT_BYTES = 256 * 1024
DRAIN_S = 2
DEMO_ROBOTS = 12


def make_app(edge: Edge, stop: asyncio.Event | None = None) -> Litestar:
    """`stop` ends the pages' open streams at once when it is set."""

    async def provide_work() -> AsyncIterator[Work]:
        async with edge.open_work() as work:
            yield work

    def provide(value: Any) -> Provide:
        return Provide(lambda: value, sync_to_thread=False)

    app = Litestar(
        route_handlers=[*routes(), *dashboard.routes()],
        dependencies={
            "work": Provide(provide_work),
            "edge": provide(edge),
            "feed": provide(edge.feed),
            "hot": provide(edge.hot),
            "settings": provide(edge.settings),
            "sso": provide(make_provider(edge.settings)),
            "broker_access": provide(edge.broker_access),
            "hash_device_token": provide(edge.hash_device_token),
            "setup_token": provide(edge.setup_token),
            "pin": provide(pin_for_robots(edge.settings)),
        },
        state=State({"edge": edge, "openapi": openapi_document, "stop": stop}),
        exception_handlers={Exception: _answer_error},
        after_exception=[_log_socket_fault],
        template_config=dashboard.template_config(),
        # The document is served by `rosfit.api.system`, behind a credential.
        openapi_config=None,
        cors_config=cors_config(edge.settings),
        request_max_body_size=BODY_LIMIT_BYTES,
        logging_config=None,
    )
    # Around the router and not in it, so that a path that nobody serves gets its id and headers, too.
    app.asgi_handler = SocketOrigins(RequestMiddleware(app.asgi_handler, edge.metrics), edge.settings)
    return app


async def _log_socket_fault(error: Exception, scope: Scope) -> None:
    """Litestar only closes the socket, with 4500; nobody would hear why."""
    if scope["type"] == ScopeType.WEBSOCKET and not isinstance(error, LitestarException):
        log.error("socket_failed", path=scope["path"], exc_info=error)


def _answer_error(request: Request[Any, Any, Any], raised: Exception) -> Response[Any]:
    error = to_rosfit_error(raised, _body_limit(request))
    wants_page = "text/html" in request.headers.get("accept", "") or "hx-request" in request.headers
    if wants_page and not request.url.path.startswith(BASE):
        return error_page(request, error)
    return problem(request, error)


def _body_limit(request: Request[Any, Any, Any]) -> int | None:
    """None for a path that nobody serves."""
    handler = request.scope.get("route_handler")
    return handler.resolve_request_max_body_size() if isinstance(handler, HTTPRouteHandler) else None


async def serve(settings: Settings, endpoints: Endpoints, *, demo: bool, stop: asyncio.Event) -> None:
    """Until `stop` is set. Prints one line with the address when everything is ready."""
    configure_logging(settings)
    async with (
        wire(settings, endpoints) as wired,
        _web_server(settings, wired.edge, stop) as serving,
        _demo_robots(settings) if demo else contextlib.nullcontext(),
    ):
        _greet(settings, wired)
        await _until_stopped(stop, serving, wired.tasks)


@contextlib.asynccontextmanager
async def _web_server(settings: Settings, edge: Edge, stop: asyncio.Event) -> AsyncIterator[set[asyncio.Task[None]]]:
    """Its task once it listens; none where the port is switched off."""
    if not settings.port:
        yield set()
        return
    server = _Server(secure(_uvicorn_config(make_app(edge, stop), settings), settings))
    serving = asyncio.create_task(server.serve())
    try:
        await server.listening.wait()
        yield {serving}
    finally:
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def _demo_robots(settings: Settings) -> AsyncIterator[None]:
    """Simulated robots in a process of their own, as real ones would be; they say goodbye at the end.

    They end with a server that is killed, or its successor's robots would take each other's connections.
    """
    command = [sys.executable, "-m", "rosfit.cli", "sim", "--robots", str(DEMO_ROBOTS), "--faults", "--while-stdin"]
    where = ["--data-dir", str(settings.data_dir)]
    environment = os.environ | {"ROSFIT_HOST": settings.host, "ROSFIT_MQTT_PORT": str(settings.mqtt_port)}
    robots = await asyncio.create_subprocess_exec(
        *command, *where, env=environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        if robots.returncode is None:
            robots.terminate()
        await robots.wait()


class _Server(uvicorn.Server):
    """Leaves signals to `rosfit serve`, and tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.listening.set()

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()


def _uvicorn_config(app: Litestar, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        http=ImpatientProtocol,
        h11_max_incomplete_event_size=HEADERS_LIMIT_BYTES,
        ws="websockets-sansio",
        ws_max_size=SOCKET_MESSAGE_LIMIT_BYTES,
        # Compression costs 28 to 60 % of the CPU per frame and saves nothing on a local network.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=DRAIN_S,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies) or None,
        lifespan="off",
    )


async def _until_stopped(
    stop: asyncio.Event, serving: set[asyncio.Task[None]], tasks: list[asyncio.Task[None]]
) -> None:
    """Wait for the signal; a loop that ends by itself is a fault that must be seen."""
    asked = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({asked, *serving, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    for task in done - {asked, *serving}:
        log.error("loop_ended", loop=task.get_name(), exc_info=task.exception())
        task.result()


def _greet(settings: Settings, wired: Wired) -> None:
    if not settings.port:
        print("RosFit is ready, with its web server switched off (port 0)", flush=True)
        return
    address = settings.public_url or f"{settings.scheme}://{settings.host}:{settings.port}"
    print(f"RosFit is ready at {address}", flush=True)
    if settings.tls:
        print(f"TLS certificate SHA-256: {server_pair(settings).fingerprint}", file=sys.stderr, flush=True)
    if token := wired.edge.setup_token.value():
        print(f"First start: create the first user at {address}/setup#token={token}", file=sys.stderr, flush=True)


def configure_logging(settings: Settings) -> None:
    """Structured lines on stderr, text on a terminal and JSON elsewhere."""
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if settings.log_format == "text"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.error").addFilter(_is_worth_a_line)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    # A text frame that is no UTF-8 closes its socket with 1007; uvicorn has a traceback for it, whoever sends them.
    return not record.getMessage().startswith("Invalid UTF-8 sequence")
