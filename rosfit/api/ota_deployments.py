"""`/ota/deployments`: bring an artifact to devices in waves, and follow, hold or turn it back."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.params import Parameter

from rosfit.accounts.rights import Right
from rosfit.api.access import actor_of, record
from rosfit.api.edge import Edge
from rosfit.api.idempotency import once
from rosfit.api.parameters import DEFAULT_LIMIT, Cursor, Limit
from rosfit.fleet import service as fleet
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work
from rosfit.ota import service, viewing
from rosfit.ota.lifecycle import DeploymentStatus, DeviceStatus
from rosfit.ota.models import (
    Deployment,
    DeploymentCreated,
    DeviceDeployment,
    DeviceLog,
    FailureGroup,
    InstalledVersion,
    NewDeployment,
    Preview,
)

AnyRequest = Request[Any, Any, Any]

READ = {"right": Right.DEVICES_READ}
WRITE = {"right": Right.OTA_WRITE}


class FailureGroups(msgspec.Struct, frozen=True):
    items: list[FailureGroup]


class InstalledVersions(msgspec.Struct, frozen=True):
    items: list[InstalledVersion]


class DeploymentController(Controller):
    path = "/ota/deployments"
    tags = ("ota",)

    @get(opt=READ)
    async def list_deployments(
        self,
        request: AnyRequest,
        work: Work,
        status: DeploymentStatus | None = None,
        artifact_id: str | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[Deployment]:
        """Newest first."""
        visible = await fleet.within_reach(work, actor_of(request).reach)
        return await viewing.find(work, status, artifact_id, cursor, limit, visible)

    @post(opt=WRITE)
    async def create_deployment(
        self, data: NewDeployment, request: AnyRequest, work: Work
    ) -> Response[DeploymentCreated]:
        """A draft; `start` begins it."""
        actor = actor_of(request)

        async def create() -> DeploymentCreated:
            deployment_id = await service.create(work, data, actor.id)
            await record(work, request, "deployment.create", deployment_id, after=data)
            return DeploymentCreated(deployment_id, "draft")

        return await once(work, request, actor.id, 201, create)

    @post("/preview", opt=WRITE, status_code=200)
    async def preview_deployment(self, data: NewDeployment, request: AnyRequest, work: Work) -> Preview:
        """How many devices it would update now, which of them would wait, and who is left out and why."""
        return await service.preview(work, data, actor_of(request).reach)

    @get("/{deployment_id:str}", opt=READ)
    async def get_deployment(self, deployment_id: str, request: AnyRequest, work: Work) -> Deployment:
        """Counts are of all its devices, names only of those within reach."""
        visible = await fleet.within_reach(work, actor_of(request).reach)
        return await viewing.get(work, deployment_id, visible)

    @get("/{deployment_id:str}/devices", opt=READ)
    async def list_deployment_devices(
        self,
        deployment_id: str,
        request: AnyRequest,
        work: Work,
        status: DeviceStatus | None = None,
        wave: Annotated[int | None, Parameter(ge=1, le=100)] = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[DeviceDeployment]:
        """In the order of the waves, with the reason why a queued one waits."""
        visible = await fleet.within_reach(work, actor_of(request).reach)
        deployment = await viewing.get(work, deployment_id)
        return await viewing.devices(
            work, deployment, visible, status=status, wave=wave, cursor=cursor, limit=limit
        )

    @get("/{deployment_id:str}/devices/{device_id:str}", opt=READ)
    async def get_deployment_device(self, deployment_id: str, device_id: str, work: Work) -> DeviceLog:
        """One device with every step, also the reports that came too late."""
        return await viewing.device(work, deployment_id, device_id)

    @get("/{deployment_id:str}/failures", opt=READ)
    async def list_deployment_failures(self, deployment_id: str, request: AnyRequest, work: Work) -> FailureGroups:
        """Devices that failed alike, the most first."""
        visible = await fleet.within_reach(work, actor_of(request).reach)
        return FailureGroups(await viewing.failures(work, deployment_id, visible))

    @post("/{deployment_id:str}/start", opt=WRITE, status_code=200)
    async def start_deployment(self, deployment_id: str, request: AnyRequest, work: Work, edge: Edge) -> Deployment:
        """Decide who is meant and begin; or wait for approval where it is required."""
        done = service.start(work, deployment_id, actor_of(request).id, edge.update_notice)
        return await _recorded(request, work, "start", deployment_id, done)

    @post("/{deployment_id:str}/approve", opt=WRITE, status_code=200)
    async def approve_deployment(self, deployment_id: str, request: AnyRequest, work: Work, edge: Edge) -> Deployment:
        """By a person who neither made nor started it."""
        done = service.approve(work, deployment_id, actor_of(request).id, edge.update_notice)
        return await _recorded(request, work, "approve", deployment_id, done)

    @post("/{deployment_id:str}/pause", opt=WRITE, status_code=200)
    async def pause_deployment(self, deployment_id: str, request: AnyRequest, work: Work) -> Deployment:
        """Start no new device; those under way finish."""
        done = service.pause(work, deployment_id, actor_of(request).id)
        return await _recorded(request, work, "pause", deployment_id, done)

    @post("/{deployment_id:str}/resume", opt=WRITE, status_code=200)
    async def resume_deployment(self, deployment_id: str, request: AnyRequest, work: Work, edge: Edge) -> Deployment:
        """Go on; failures so far are accepted."""
        done = service.resume(work, deployment_id, edge.update_notice)
        return await _recorded(request, work, "resume", deployment_id, done)

    @post("/{deployment_id:str}/abort", opt=WRITE, status_code=200)
    async def abort_deployment(self, deployment_id: str, request: AnyRequest, work: Work) -> Deployment:
        """Cancel those that wait; those under way finish."""
        done = service.abort(work, deployment_id, actor_of(request).id)
        return await _recorded(request, work, "abort", deployment_id, done)

    @post("/{deployment_id:str}/rollback", opt=WRITE, status_code=200)
    async def roll_back_deployment(self, deployment_id: str, request: AnyRequest, work: Work) -> Deployment:
        """Send those that succeeded back to what they had, each earlier artifact as a deployment of its own."""
        done = service.rollback(work, deployment_id, actor_of(request).id)
        return await _recorded(request, work, "rollback", deployment_id, done)

    @post("/{deployment_id:str}/retry-failed", opt=WRITE)
    async def retry_failed_devices(
        self, deployment_id: str, request: AnyRequest, work: Work, edge: Edge
    ) -> Response[Deployment]:
        """A new deployment, begun at once, for those that failed."""
        actor = actor_of(request)

        async def create() -> Deployment:
            done = service.retry_failed(work, deployment_id, actor.id, edge.update_notice)
            return await _recorded(request, work, "retry-failed", deployment_id, done)

        return await once(work, request, actor.id, 201, create)


async def _recorded(
    request: AnyRequest, work: Work, action: str, deployment_id: str, done: Awaitable[Deployment]
) -> Deployment:
    deployment = await done
    told = {"deployment_id": deployment.deployment_id, "status": deployment.status, "total": deployment.total}
    await record(work, request, f"deployment.{action}", deployment_id, after=told)
    return deployment


@get("/ota/versions", opt=READ, tags=["ota"])
async def list_installed_versions(request: AnyRequest, work: Work) -> InstalledVersions:
    """How many devices have which version, as far as RosFit has brought it."""
    visible = await fleet.within_reach(work, actor_of(request).reach)
    return InstalledVersions(await viewing.installed_versions(work, visible))
