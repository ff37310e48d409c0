"""What reports, silence and cancellation do to a device's update, and by it to the wave and the deployment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rosfit.fleet.models import Firmware
from rosfit.kernel.work import Work
from rosfit.ota import artifact_rows, device_rows, repository, rolling_back
from rosfit.ota.device_rows import LockedDevice
from rosfit.ota.lifecycle import FAILED, FINAL, REPORTABLE, DeviceStatus, advance
from rosfit.ota.models import Report, UpdateError
from rosfit.ota.repository import Locked
from rosfit.ota.rollout import Tally, Thresholds, judge, tally
from rosfit.ota.telling import Notice, alert, tell_deployment, tell_device
from rosfit.protocol.errors import BadMessageError

SILENT = UpdateError("TIMED_OUT", "no result came within the deadline")


async def take_report(work: Work, device_id: str, payload: bytes, notice: Notice) -> None:
    """A report of the device. Raises BadMessageError for one that is of no update of this device."""
    try:
        report = msgspec.json.decode(payload, type=Report)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadMessageError("wrong_shape", str(error)) from error
    if report.status not in REPORTABLE:
        raise BadMessageError("wrong_shape", f"a device does not say {report.status}")
    locked, device = await _lock(work, report.deployment_id, device_id)
    outcome = advance(device.status, report.status, sent=device.sent)
    if outcome.refused:
        detail = _detail(report)
        await device_rows.insert_step(
            work.connection, locked.deployment_id, device_id, report.status, detail, outcome.refused
        )
        return
    for status in outcome.steps:
        await _step(work, locked, device, device_id, status, report if status == report.status else None)
    if not outcome.steps and report.status not in FINAL:
        await device_rows.set_device_status(work.connection, locked.deployment_id, device_id, report.status, report)
        tell_device(work, locked.deployment_id, device_id, report.status, device.wave, report)
    if outcome.steps and report.status in FINAL:
        await _settle_device(work, locked, device, device_id, report.status, notice)


async def _lock(work: Work, deployment_id: str, device_id: str) -> tuple[Locked, LockedDevice]:
    """The deployment before the device, as everywhere, so that nobody waits in a circle."""
    locked = await repository.lock_deployment(work.connection, deployment_id)
    device = await device_rows.lock_device(work.connection, deployment_id, device_id) if locked else None
    if locked is None or device is None:
        raise BadMessageError("unknown_deployment", f"{device_id} is not part of {deployment_id[:64]!r}")
    return locked, device


async def _step(
    work: Work, locked: Locked, device: LockedDevice, device_id: str, status: DeviceStatus, report: Report | None
) -> None:
    deployment_id = locked.deployment_id
    await device_rows.set_device_status(work.connection, deployment_id, device_id, status, report)
    await device_rows.insert_step(work.connection, deployment_id, device_id, status, _detail(report))
    tell_device(work, deployment_id, device_id, status, device.wave, report)


def _detail(report: Report | None) -> dict[str, Any] | None:
    return (device_rows.told_by(report) or None) if report else None


async def _settle_device(
    work: Work, locked: Locked, device: LockedDevice, device_id: str, status: DeviceStatus, notice: Notice
) -> None:
    """What one device's end means for the rest."""
    if status == "succeeded":
        artifact = await artifact_rows.get_artifact(work.connection, locked.artifact_id)
        assert artifact is not None, "the foreign key says so"
        await device_rows.set_firmware(work.connection, device_id, Firmware(artifact.name, artifact.version))
        if locked.status == "rolled_back":
            await rolling_back.add(work, locked, device_id)
    if status in FAILED and device.wave < locked.wave:
        await _note_earlier_wave(work, locked, device.wave, notice)
    await settle(work, locked, notice)


async def _note_earlier_wave(work: Work, locked: Locked, wave: int, notice: Notice) -> None:
    """Only the running wave is judged, but that an earlier one has failed after all is not kept quiet."""
    counted = tally((await device_rows.wave_counts(work.connection, locked.deployment_id)).waves.get(wave, {}))
    if judge(counted, _thresholds(locked), counted.failed - 1) == "failure":
        told = {"wave": wave, "failed": counted.failed, "total": counted.total}
        await notice(work, "deployment.earlier_wave_failed", locked.deployment_id, told)


def _thresholds(locked: Locked) -> Thresholds:
    return Thresholds(locked.success_threshold, locked.failure_threshold, locked.min_sample)


async def settle(work: Work, locked: Locked, notice: Notice) -> None:
    """Judge the running wave: stop, go on to the next, or finish when every device has ended."""
    if locked.status not in {"running", "paused"}:
        return
    waves = (await device_rows.wave_counts(work.connection, locked.deployment_id)).waves
    wave, accepted = locked.wave, locked.accepted_failures
    while True:
        counted = tally(waves.get(wave, {}))
        verdict = judge(counted, _thresholds(locked), accepted)
        if verdict == "failure":
            await _stop(work, locked, wave, counted, notice)
            return
        if verdict == "wait" or locked.status == "paused":
            return
        if wave == len(locked.waves):
            break
        wave, accepted = wave + 1, 0
        await repository.set_wave(work.connection, locked.deployment_id, wave)
        tell_deployment(work, locked.deployment_id, "running", wave)
    if all(status in FINAL for counts in waves.values() for status in counts):
        await repository.set_deployment_status(work.connection, locked.deployment_id, "finished", None)
        tell_deployment(work, locked.deployment_id, "finished", wave)


async def _stop(work: Work, locked: Locked, wave: int, counted: Tally, notice: Notice) -> None:
    """What `on_failure` says. A deployment that is paused already stays so, with the reason."""
    share = counted.failed * 100 / counted.total
    reason = (
        f"wave {wave}: {counted.failed} of {counted.total} devices failed, "
        f"{share:.4g} % is above the failure threshold of {locked.failure_threshold:.4g} %"
    )
    deployment_id = locked.deployment_id
    if locked.on_failure == "rollback":
        await rolling_back.begin(work, locked, reason, by_failure=True)
    else:
        status = "aborted" if locked.on_failure == "abort" else "paused"
        await repository.set_deployment_status(work.connection, deployment_id, status, reason, by_failure=True)
        tell_deployment(work, deployment_id, status, wave, reason)
        if status == "aborted":
            await cancel_queued(work, deployment_id, UpdateError("ABORTED", reason))
    alert(work, deployment_id, "deployment_stopped", reason)
    told = {"on_failure": locked.on_failure, "reason": reason}
    await notice(work, "deployment.stopped", deployment_id, told)


async def cancel_queued(
    work: Work, deployment_id: str, error: UpdateError, device_ids: Sequence[str] | None = None
) -> None:
    """Those that have not been told anything will not be."""
    cancelled = await device_rows.cancel_queued(work.connection, deployment_id, device_ids, error)
    if cancelled:
        ids = [device_id for device_id, _ in cancelled]
        await device_rows.insert_steps(work.connection, deployment_id, ids, "cancelled")
    for device_id, wave in cancelled:
        tell_device(work, deployment_id, device_id, "cancelled", wave)


async def drop_waiting(
    work: Work, deployment_id: str, device_ids: Sequence[str], error: UpdateError, notice: Notice
) -> None:
    """Cancel some devices of a deployment, and judge it anew."""
    locked = await repository.lock_deployment(work.connection, deployment_id)
    if locked is not None:
        await cancel_queued(work, deployment_id, error, device_ids)
        await settle(work, locked, notice)


async def time_out(work: Work, deployment_id: str, device_id: str, notice: Notice) -> None:
    """Its deadline has passed, unless a result came just now."""
    locked, device = await _lock(work, deployment_id, device_id)
    if device.status in FINAL or device.status == "queued":
        return
    await _step(work, locked, device, device_id, "timed_out", Report(deployment_id, "timed_out", error=SILENT))
    await _settle_device(work, locked, device, device_id, "timed_out", notice)
