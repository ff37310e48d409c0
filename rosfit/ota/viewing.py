"""Deployments as they are shown: with counts, waves, devices and why each waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rosfit.kernel.clock import now
from rosfit.kernel.paging import Page, decode_cursor, page_of
from rosfit.kernel.work import Work
from rosfit.ota import device_rows, repository
from rosfit.ota.errors import DeploymentNotFoundError
from rosfit.ota.models import (
    Deployment,
    DeviceDeployment,
    DeviceLog,
    FailureGroup,
    InstalledVersion,
    WaveProgress,
)
from rosfit.ota.rollout import Candidate, tally, why_waiting
from rosfit.ota.targeting import window_of

Visible = frozenset[str] | None


async def get(work: Work, deployment_id: str, visible: Visible = None) -> Deployment:
    """Names no other devices than the `visible`; counts are of all. Raises DeploymentNotFoundError."""
    found = await repository.get_deployment(work.connection, deployment_id)
    if found is None:
        raise not_found(deployment_id)
    counts = await device_rows.counts_of(work.connection, [deployment_id])
    return _within(_counted(found, counts.get(deployment_id, {})), visible)


def not_found(deployment_id: str) -> DeploymentNotFoundError:
    return DeploymentNotFoundError(f"There is no deployment {deployment_id[:64]!r}")


def _within(deployment: Deployment, visible: Visible) -> Deployment:
    """Without the names of devices that its reader may not see."""
    if visible is None:
        return deployment
    target, ids = deployment.target, deployment.target.device_ids
    if ids is not None:
        target = msgspec.structs.replace(target, device_ids=[one for one in ids if one in visible])
    left_out = [one for one in deployment.left_out if one.device_id in visible]
    return msgspec.structs.replace(deployment, target=target, left_out=left_out)


async def find(
    work: Work,
    status: str | None,
    artifact_id: str | None,
    cursor: str | None,
    limit: int,
    visible: Visible = None,
) -> Page[Deployment]:
    """Newest first."""
    key = decode_cursor(cursor, tuple[str])
    rows = await repository.list_deployments(work.connection, status, artifact_id, key[0] if key else None, limit + 1)
    page = page_of(rows, limit, lambda one: (one.deployment_id,))
    counts = await device_rows.counts_of(work.connection, [one.deployment_id for one in page.items])
    shown = [_within(_counted(one, counts.get(one.deployment_id, {})), visible) for one in page.items]
    return Page(shown, page.next_cursor)


def _counted(deployment: Deployment, waves: Mapping[int, dict[str, int]]) -> Deployment:
    counts: dict[str, int] = {}
    shown = []
    for number in range(1, len(deployment.waves) + 1):
        told = waves.get(number, {})
        shown.append(WaveProgress(number, *tally(told), told))
        for status, count in told.items():
            counts[status] = counts.get(status, 0) + count
    return msgspec.structs.replace(deployment, counts=counts, wave_progress=shown if waves else [])


async def devices(
    work: Work,
    deployment: Deployment,
    visible: Visible,
    *,
    status: str | None = None,
    wave: int | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[DeviceDeployment]:
    """In the order of the waves; `visible` are the devices in reach, None for all."""
    key = decode_cursor(cursor, tuple[int])
    wanted = {"deployment_id": deployment.deployment_id, "status": status, "wave": wave, "visible": _ids(visible)}
    rows = await device_rows.list_devices(
        work.connection, wanted | {"after": key[0] if key else None, "limit": limit + 1}
    )
    page = page_of(rows, limit, lambda row: (row["position"],))
    return Page([_shown(row, deployment) for row in page.items], page.next_cursor)


async def device(work: Work, deployment_id: str, device_id: str) -> DeviceLog:
    """One device with every step. Raises DeploymentNotFoundError when it takes no part."""
    deployment = await get(work, deployment_id)
    wanted = {"deployment_id": deployment_id, "device_id": device_id, "limit": 1}
    rows = await device_rows.list_devices(work.connection, wanted)
    if not rows:
        raise DeploymentNotFoundError(f"{device_id} takes no part in {deployment_id}")
    steps = await device_rows.list_steps(work.connection, deployment_id, device_id)
    return DeviceLog(_shown(rows[0], deployment), steps)


def _shown(row: dict[str, Any], deployment: Deployment) -> DeviceDeployment:
    return msgspec.convert(row | {"waiting_for": _waiting_for(row, deployment)}, DeviceDeployment)


def _waiting_for(row: dict[str, Any], deployment: Deployment) -> str | None:
    """`paused`, `wave`, a word of `rollout.WAITING`, or `turn` when only a free place is missing."""
    if row["status"] != "queued" or row["claimed"]:
        return None
    if deployment.status != "running":
        return deployment.status
    if row["wave"] > deployment.wave:
        return "wave"
    candidate = Candidate(
        row["device_id"], row["device_status"], row["metadata"], row["battery"], row["busy"], row["elsewhere"]
    )
    return why_waiting(candidate, deployment.min_battery, window_of(deployment.window), now()) or "turn"


def _ids(visible: Visible) -> list[str] | None:
    return None if visible is None else list(visible)


async def failures(work: Work, deployment_id: str, visible: Visible) -> list[FailureGroup]:
    """Devices that ended alike, the most first; `visible` as for `devices`."""
    await get(work, deployment_id)
    return await device_rows.failures(work.connection, deployment_id, _ids(visible))


async def device_history(work: Work, device_id: str, limit: int = 20) -> list[dict[str, Any]]:
    """The newest updates of a device: deployment, artifact, how it ended."""
    return await device_rows.device_history(work.connection, device_id, limit)


async def installed_versions(work: Work, visible: Visible) -> list[InstalledVersion]:
    """What the fleet has installed."""
    return await device_rows.installed_versions(work.connection, _ids(visible))
