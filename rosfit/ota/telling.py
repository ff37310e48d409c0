"""What is told of updates: events to whoever watches, and the trigger to the device."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from rosfit.kernel.clock import format_time, now
from rosfit.kernel.feed import Event
from rosfit.kernel.work import Work
from rosfit.ota import device_rows
from rosfit.ota.models import Report, Trigger
from rosfit.protocol import envelope

# Told, within the work, of what a deployment did by itself: (work, action, deployment_id, what happened).
Notice = Callable[[Work, str, str, dict[str, Any]], Awaitable[None]]


def tell_device(
    work: Work, deployment_id: str, device_id: str, status: str, wave: int, report: Report | None = None
) -> None:
    """A step, or progress within it."""
    data: dict[str, Any] = {"deployment_id": deployment_id, "device_id": device_id, "status": status, "wave": wave}
    if report is not None:
        told = device_rows.told_by(report)
        data |= {key: msgspec.to_builtins(value) for key, value in told.items()}
    _announce(work, deployment_id, device_id, data)


def tell_deployment(work: Work, deployment_id: str, status: str, wave: int, reason: str | None = None) -> None:
    data = {"deployment_id": deployment_id, "status": status, "wave": wave, "reason": reason}
    _announce(work, deployment_id, deployment_id, data)


def alert(work: Work, deployment_id: str, name: str, message: str) -> None:
    """On the channel of alerts: a deployment did something that a person should look at."""
    at = format_time(now())
    data = {"deployment_id": deployment_id, "time": at, "name": name, "severity": "warning", "message": message}
    work.announce(Event("alerts", deployment_id, name, msgspec.json.encode(data), at))


def _announce(work: Work, deployment_id: str, name: str, data: dict[str, Any]) -> None:
    at = format_time(now())
    work.announce(Event("ota", deployment_id, name, msgspec.json.encode(data | {"at": at}), at))


def trigger_message(trigger: Trigger, url: str) -> bytes:
    """The same id at every try, so that a repetition is seen to be one."""
    payload = {
        "deployment_id": trigger.deployment_id,
        "artifact": {
            "artifact_id": trigger.artifact_id,
            "name": trigger.name,
            "version": trigger.version,
            "url": url,
            "size": trigger.size,
            "sha256": trigger.sha256,
            "signature": trigger.signature,
            "key_id": trigger.key_id,
        },
        "deadline": format_time(trigger.deadline_at),
    }
    return envelope.encode(payload, type="ota", device_id=trigger.device_id, message_id=trigger.deployment_id)
