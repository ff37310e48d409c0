"""Back to what was there before: new deployments of the earlier artifacts, for those that had taken the new one."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from rosfit.fleet.targets import Target
from rosfit.kernel.ids import new_id
from rosfit.kernel.work import Work
from rosfit.ota import device_rows, repository
from rosfit.ota.models import Rules, UpdateError
from rosfit.ota.repository import Locked
from rosfit.ota.telling import tell_deployment, tell_device

AUTHOR = "rosfit"


async def begin(work: Work, locked: Locked, reason: str | None, *, by_failure: bool = False) -> None:
    """Start no more devices, and send back those that succeeded and that nothing newer has touched.

    Those under way are sent back when they succeed. A device whose earlier version RosFit does not know stays.
    """
    deployment_id = locked.deployment_id
    found = await device_rows.to_roll_back(work.connection, deployment_id)
    staying = found.pop(None, [])
    if staying:
        stay = f"{len(staying)} devices stay, since RosFit does not know what they had before: {', '.join(staying[:5])}"
        reason = f"{reason}; {stay}" if reason else stay
    await repository.set_deployment_status(
        work.connection, deployment_id, "rolled_back", reason, by_failure=by_failure
    )
    error = UpdateError("ROLLED_BACK", "the deployment was rolled back before its turn")
    cancelled = await device_rows.cancel_queued(work.connection, deployment_id, None, error)
    await device_rows.insert_steps(work.connection, deployment_id, [one for one, _ in cancelled], "cancelled")
    for device_id, wave in cancelled:
        tell_device(work, deployment_id, device_id, "cancelled", wave)
    tell_deployment(work, deployment_id, "rolled_back", locked.wave, reason)
    for artifact_id, device_ids in found.items():
        if artifact_id is not None:
            await _deploy(work, locked, artifact_id, device_ids)


async def add(work: Work, locked: Locked, device_id: str) -> None:
    """A device that has taken the new version after the decision to roll back."""
    found = await device_rows.to_roll_back(work.connection, locked.deployment_id, device_id)
    artifact_id = next(iter(found), None)
    if artifact_id is None:
        return
    rollback_id = await repository.rollback_to(work.connection, locked.deployment_id, artifact_id)
    if rollback_id is None:
        await _deploy(work, locked, artifact_id, [device_id])
        return
    await repository.lock_deployment(work.connection, rollback_id)
    position = await device_rows.next_position(work.connection, rollback_id)
    await device_rows.insert_devices(work.connection, rollback_id, [device_id], [1], position)
    await device_rows.grow_total(work.connection, rollback_id)


async def _deploy(work: Work, locked: Locked, artifact_id: str, device_ids: Sequence[str]) -> None:
    """All at once as far as `max_in_progress` goes, and without asking again: it mends what went wrong."""
    original = await repository.get_deployment(work.connection, locked.deployment_id)
    assert original is not None, "it is locked"
    rules = Rules(
        failure_threshold=100,
        max_in_progress=original.max_in_progress,
        rate_per_minute=original.rate_per_minute,
        device_deadline_s=original.device_deadline_s,
        min_battery=original.min_battery,
    )
    deployment_id = new_id("dep")
    deployment = {
        "deployment_id": deployment_id,
        "artifact_id": artifact_id,
        "target": Target(device_ids=list(device_ids)),
        "rollback_of": locked.deployment_id,
        "retry_of": None,
        "url_secret": secrets.token_bytes(32),
        "created_by": AUTHOR,
    }
    await repository.insert_deployment(work.connection, deployment, rules)
    await device_rows.insert_devices(work.connection, deployment_id, device_ids, [1] * len(device_ids))
    await repository.set_frozen(work.connection, deployment_id, len(device_ids), [])
    await repository.set_started(work.connection, deployment_id, AUTHOR)
    await repository.set_wave(work.connection, deployment_id, 1)
    await repository.set_deployment_status(work.connection, deployment_id, "running", None)
    tell_deployment(work, deployment_id, "running", 1)
