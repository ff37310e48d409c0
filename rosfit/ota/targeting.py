"""Who is meant by a deployment, who is left out and why, and who of the others waits. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatchcase

import msgspec

from rosfit.fleet.models import Device
from rosfit.ota.models import Artifact, LeftOut, NewDeployment, Preview, StartWindow, Waiting
from rosfit.ota.rollout import Candidate, Window, wave_sizes, why_waiting

SAMPLE = 50


class Found(msgspec.Struct, frozen=True):
    """A device of the target, and what else it does: `busy` with a task, or in another deployment's `update`."""

    device: Device
    busy: bool
    update: str | None


def why_left_out(found: Found, artifact: Artifact) -> str | None:
    """A word: `decommissioned`, `maintenance`, `in_another_deployment` or `incompatible`; None when it takes part."""
    device = found.device
    if device.status in {"decommissioned", "maintenance"}:
        return device.status
    if found.update is not None:
        return "in_another_deployment"
    return None if is_compatible(device, artifact) else "incompatible"


def is_compatible(device: Device, artifact: Artifact) -> bool:
    """By type, and where the artifact names versions it can replace (`1.4.*`) by the one that is installed."""
    if device.type not in artifact.device_types:
        return False
    if not artifact.from_versions:
        return True
    version = device.firmware.version if device.firmware else None
    return version is not None and any(fnmatchcase(version, pattern) for pattern in artifact.from_versions)


def split(found: Sequence[Found], artifact: Artifact) -> tuple[list[Found], list[LeftOut]]:
    """Who takes part, and who does not."""
    taking, left_out = [], []
    for one in found:
        reason = why_left_out(one, artifact)
        if reason is None:
            taking.append(one)
        else:
            left_out.append(LeftOut(one.device.device_id, reason))
    return taking, left_out


def preview(
    found: Sequence[Found], missing: list[LeftOut], new: NewDeployment, artifact: Artifact, now: datetime
) -> Preview:
    taking, left_out = split(found, artifact)
    reasons = [(one.device.device_id, _waits(one, new, now)) for one in taking]
    waiting = [Waiting(device_id, reason) for device_id, reason in reasons if reason is not None]
    return Preview(
        count=len(taking),
        waves=wave_sizes(len(taking), new.waves),
        ready=len(taking) - len(waiting),
        waiting=dict(Counter(one.reason for one in waiting)),
        waiting_devices=waiting[:SAMPLE],
        left_out=left_out + missing,
    )


def _waits(one: Found, new: NewDeployment, now: datetime) -> str | None:
    device = one.device
    candidate = Candidate(device.device_id, device.status, device.metadata, device.battery, one.busy)
    return why_waiting(candidate, new.min_battery, window_of(new.window), now)


def window_of(window: StartWindow | None) -> Window | None:
    return Window(window.cron, window.duration_s, window.timezone) if window else None
