"""Health, version, metrics, and the API's own description."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar import Controller, Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from rosfit import __version__
from rosfit.accounts.rights import Right
from rosfit.api.edge import Check, Edge
from rosfit.fleet import service as fleet
from rosfit.fleet.models import STATUSES, DeviceFilter
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.work import Work
from rosfit.ota import device_rows
from rosfit.ota.lifecycle import DEPLOYMENT_STATUSES, DEVICE_STATUSES

CHECK_TIMEOUT_S = 3.0

# Litestar adds a charset to text; of a header that names it twice Prometheus 3 takes nothing.
PROMETHEUS_TEXT = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")


class Readiness(msgspec.Struct, frozen=True):
    """`checks` maps each dependency to `ok` or to why it cannot be used."""

    status: str
    checks: dict[str, str]


class SystemController(Controller):
    path = "/"
    tags = ("system",)

    @get("/healthz", opt={"public": True})
    async def healthz(self) -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @get("/readyz", opt={"public": True}, responses={503: ResponseSpec(Readiness, description="Not ready")})
    async def readyz(self, edge: Edge) -> Response[Readiness]:
        """Each dependency, and why not. 503 when one is missing."""
        names = list(edge.checks)
        states = await asyncio.gather(*(_state(edge.checks[name]) for name in names))
        checks = dict(zip(names, states, strict=True))
        ready = all(state == "ok" for state in checks.values())
        return Response(Readiness("ready" if ready else "not_ready", checks), status_code=200 if ready else 503)

    @get("/version", opt={"public": True})
    async def version(self) -> dict[str, str]:
        return {"name": "rosfit", "version": __version__}

    @get("/.well-known/jwks.json", opt={"public": True})
    async def jwks(self, edge: Edge) -> dict[str, Any]:
        """Public keys of the access tokens."""
        return edge.signer.public_jwks()

    @get("/metrics", opt={"right": Right.METRICS_READ}, media_type="text/plain")
    async def metrics(self, work: Work, edge: Edge) -> Response[bytes]:
        """Prometheus text."""
        counts = await fleet.counts(work, DeviceFilter())
        for status in STATUSES:
            edge.metrics.devices.labels(status).set(counts.get(status, 0))
        await _count_updates(work, edge)
        return Response(generate_latest(edge.metrics.registry), media_type=PROMETHEUS_TEXT)

    @get("/api/v1/openapi.json", opt={"right": None, "page": True}, include_in_schema=False)
    async def openapi(self, request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        return Response(request.app.state.openapi())


async def _count_updates(work: Work, edge: Edge) -> None:
    deployments, devices, stopped = await device_rows.gauges(work.connection)
    for status in DEPLOYMENT_STATUSES:
        edge.metrics.deployments.labels(status).set(deployments.get(status, 0))
    for device_status in DEVICE_STATUSES:
        edge.metrics.updates.labels(device_status).set(devices.get(device_status, 0))
    edge.metrics.stopped_deployments.set(stopped)


async def _state(check: Check) -> str:
    try:
        await asyncio.wait_for(check(), CHECK_TIMEOUT_S)
    except UnavailableError as error:
        return error.detail
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:.0f} s"
    return "ok"
