"""What operators do with deployments. Callers own the unit of work."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec

from rosfit.fleet import groups, targets
from rosfit.fleet.models import EVERYWHERE, Reach
from rosfit.fleet.query import all_of
from rosfit.fleet.targets import Target
from rosfit.kernel.clock import now
from rosfit.kernel.errors import FieldError, InvalidError
from rosfit.kernel.ids import new_id
from rosfit.kernel.work import Work
from rosfit.ota import artifacts, device_rows, progress, repository, rolling_back, targeting, viewing
from rosfit.ota.errors import DeploymentEmptyError, DeploymentStatusError, SecondPersonNeededError
from rosfit.ota.lifecycle import MAY
from rosfit.ota.models import Deployment, LeftOut, NewDeployment, Preview, Rules, UpdateError
from rosfit.ota.repository import Locked
from rosfit.ota.rollout import check_waves, check_window, tally, wave_sizes
from rosfit.ota.targeting import Found, window_of
from rosfit.ota.telling import Notice, tell_deployment

PERSON = "usr_"


async def create(work: Work, new: NewDeployment, created_by: str, *, retry_of: str | None = None) -> str:
    """A draft: nothing happens before its start. Raises InvalidError, ArtifactNotFoundError."""
    check(new)
    await targets.condition_of(work, new.target)
    await artifacts.get(work, new.artifact_id)
    deployment_id = new_id("dep")
    deployment = {
        "deployment_id": deployment_id,
        "artifact_id": new.artifact_id,
        "target": new.target,
        "rollback_of": None,
        "retry_of": retry_of,
        "url_secret": secrets.token_bytes(32),
        "created_by": created_by,
    }
    await repository.insert_deployment(work.connection, deployment, new)
    tell_deployment(work, deployment_id, "draft", 0)
    return deployment_id


def check(new: NewDeployment) -> None:
    """Raises InvalidError naming the field."""
    errors = []
    try:
        check_waves(new.waves)
    except ValueError as error:
        errors.append(FieldError("waves", str(error)))
    try:
        if window := window_of(new.window):
            check_window(window)
    except ValueError as error:
        errors.append(FieldError("window", str(error)))
    if errors:
        raise InvalidError(errors=tuple(errors))


async def preview(work: Work, new: NewDeployment, reach: Reach) -> Preview:
    """Who would be updated if it started now."""
    check(new)
    artifact = await artifacts.get(work, new.artifact_id)
    found, missing = await _find(work, new.target, reach)
    return targeting.preview(found, missing, new, artifact, now())


async def _find(work: Work, target: Target, reach: Reach) -> tuple[list[Found], list[LeftOut]]:
    """The devices of the target in their order, and ids that no device has."""
    where = all_of([await groups.visible(work, reach), await targets.condition_of(work, target)])
    found = {one.device.device_id: one for one in await device_rows.target_devices(work.connection, where)}
    if target.device_ids is None:
        return list(found.values()), []
    wanted = list(dict.fromkeys(target.device_ids))
    missing = [LeftOut(device_id, "not_found") for device_id in wanted if device_id not in found]
    return [found[device_id] for device_id in wanted if device_id in found], missing


def plan_of(deployment: Deployment) -> NewDeployment:
    """What was asked for, to ask for it again."""
    rules = {name: getattr(deployment, name) for name in Rules.__struct_fields__}
    return NewDeployment(artifact_id=deployment.artifact_id, target=deployment.target, **rules)


async def start(work: Work, deployment_id: str, actor: str, notice: Notice) -> Deployment:
    """Freeze who is meant and begin, or ask for the second person's approval."""
    locked = await _locked(work, deployment_id, "start")
    await repository.set_started(work.connection, deployment_id, actor)
    if locked.requires_approval:
        await _set_status(work, locked, "waiting_for_approval")
    else:
        await _launch(work, locked, notice)
    return await viewing.get(work, deployment_id)


async def approve(work: Work, deployment_id: str, actor: str, notice: Notice) -> Deployment:
    """Begin. Raises SecondPersonNeededError unless a person asks who neither made nor started it."""
    locked = await _locked(work, deployment_id, "approve")
    if actor in {locked.created_by, locked.started_by} or not actor.startswith(PERSON):
        raise SecondPersonNeededError("Whoever made or started it, or a program, cannot approve it")
    await repository.set_approved(work.connection, deployment_id, actor)
    await _launch(work, locked, notice)
    return await viewing.get(work, deployment_id)


async def _launch(work: Work, locked: Locked, notice: Notice) -> None:
    """Who is meant is decided here, once; what they wait for in older deployments is superseded."""
    await repository.lock_launch(work.connection)
    artifact = await artifacts.get(work, locked.artifact_id)
    found, missing = await _find(work, locked.target, EVERYWHERE)
    taking, left_out = targeting.split(found, artifact)
    if not taking:
        reasons = sorted({one.reason for one in left_out + missing})
        raise DeploymentEmptyError(f"Every device of the target is left out ({', '.join(reasons) or 'there is none'})")
    device_ids = [one.device.device_id for one in taking]
    await _supersede(work, locked.deployment_id, device_ids, notice)
    sizes = wave_sizes(len(device_ids), locked.waves)
    waves = [number for number, size in enumerate(sizes, 1) for _ in range(size)]
    await device_rows.insert_devices(work.connection, locked.deployment_id, device_ids, waves)
    await repository.set_frozen(work.connection, locked.deployment_id, len(device_ids), left_out + missing)
    await repository.set_wave(work.connection, locked.deployment_id, 1)
    await _set_status(work, locked, "running", wave=1)


async def _supersede(work: Work, deployment_id: str, device_ids: Sequence[str], notice: Notice) -> None:
    error = UpdateError("SUPERSEDED", f"{deployment_id} takes its place")
    for other in await repository.lock_deployments_of(work.connection, deployment_id, device_ids):
        await progress.drop_waiting(work, other, device_ids, error, notice)


async def pause(work: Work, deployment_id: str, actor: str) -> Deployment:
    """Start no new device; those under way finish."""
    locked = await _locked(work, deployment_id, "pause")
    await _set_status(work, locked, "paused", f"paused by {actor}")
    return await viewing.get(work, deployment_id)


async def resume(work: Work, deployment_id: str, notice: Notice) -> Deployment:
    """Go on, with the failures so far accepted: only another one counts again."""
    locked = await _locked(work, deployment_id, "resume")
    counts = await device_rows.wave_counts(work.connection, deployment_id)
    accepted = tally(counts.waves.get(locked.wave, {})).failed
    await repository.accept_failures(work.connection, deployment_id, accepted)
    await _set_status(work, locked, "running")
    resumed = await repository.lock_deployment(work.connection, deployment_id)
    assert resumed is not None, "it is locked"
    await progress.settle(work, resumed, notice)
    return await viewing.get(work, deployment_id)


async def abort(work: Work, deployment_id: str, actor: str) -> Deployment:
    """Cancel those that wait; those under way finish by themselves."""
    locked = await _locked(work, deployment_id, "abort")
    reason = f"aborted by {actor}"
    await _set_status(work, locked, "aborted", reason)
    await progress.cancel_queued(work, deployment_id, UpdateError("ABORTED", reason))
    return await viewing.get(work, deployment_id)


async def rollback(work: Work, deployment_id: str, actor: str) -> Deployment:
    """Send those that succeeded back to what they had; each earlier artifact is a deployment of its own."""
    locked = await _locked(work, deployment_id, "rollback")
    await rolling_back.begin(work, locked, f"rolled back by {actor}")
    return await viewing.get(work, deployment_id)


async def retry_failed(work: Work, deployment_id: str, actor: str, notice: Notice) -> Deployment:
    """A new deployment, begun at once, for those that failed: what is final stays so."""
    await _locked(work, deployment_id, "retry-failed")
    failed = await device_rows.failed_devices(work.connection, deployment_id)
    if not failed:
        raise DeploymentEmptyError(f"No device of {deployment_id} has failed")
    original = plan_of(await viewing.get(work, deployment_id))
    new = msgspec.structs.replace(original, target=Target(device_ids=failed))
    retry_id = await create(work, new, actor, retry_of=deployment_id)
    return await start(work, retry_id, actor, notice)


async def _locked(work: Work, deployment_id: str, action: str) -> Locked:
    """Raises DeploymentNotFoundError, and DeploymentStatusError where its status does not allow the action."""
    locked = await repository.lock_deployment(work.connection, deployment_id)
    if locked is None:
        raise viewing.not_found(deployment_id)
    if locked.status not in MAY[action]:
        allowed = " or ".join(sorted(MAY[action]))
        raise DeploymentStatusError(f"{deployment_id} is {locked.status}; {action} takes one that is {allowed}")
    return locked


async def _set_status(
    work: Work, locked: Locked, status: str, reason: str | None = None, *, wave: int | None = None
) -> None:
    await repository.set_deployment_status(work.connection, locked.deployment_id, status, reason)
    tell_deployment(work, locked.deployment_id, status, locked.wave if wave is None else wave, reason)
