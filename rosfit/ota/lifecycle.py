"""The status of a device's update, and of a deployment: which steps lead where, and what a report may still change.

queued → notified → downloading → verifying → installing → rebooting → health_check
       → succeeded | failed | rolled_back | timed_out | cancelled | rejected
"""

from __future__ import annotations

from typing import Literal, NamedTuple

DeviceStatus = Literal[
    "queued",
    "notified",
    "downloading",
    "verifying",
    "installing",
    "rebooting",
    "health_check",
    "succeeded",
    "failed",
    "rolled_back",
    "timed_out",
    "cancelled",
    "rejected",
]
DeploymentStatus = Literal[
    "draft", "waiting_for_approval", "running", "paused", "aborted", "finished", "rolled_back"
]

DEVICE_STATUSES: tuple[DeviceStatus, ...] = DeviceStatus.__args__  # type: ignore[attr-defined]
DEPLOYMENT_STATUSES: tuple[DeploymentStatus, ...] = DeploymentStatus.__args__  # type: ignore[attr-defined]

# Steps in their order; a device may skip some, and only goes forward.
STEPS: tuple[DeviceStatus, ...] = (
    "queued", "notified", "downloading", "verifying", "installing", "rebooting", "health_check"
)  # fmt: skip
FINAL: frozenset[str] = frozenset({"succeeded", "failed", "rolled_back", "timed_out", "cancelled", "rejected"})
FAILED: frozenset[str] = frozenset({"failed", "rolled_back", "timed_out", "rejected"})

# `queued` is the server's alone.
REPORTABLE: frozenset[str] = frozenset(DEVICE_STATUSES) - {"queued"}

TERMINAL_STATE = "TERMINAL_STATE"
OUT_OF_ORDER = "OUT_OF_ORDER"
NOT_NOTIFIED = "NOT_NOTIFIED"


class Advance(NamedTuple):
    """The steps to record in order, the last of which is the new status; or the code of the refusal."""

    steps: tuple[DeviceStatus, ...] = ()
    refused: str | None = None


def advance(current: str, reported: DeviceStatus, *, sent: bool) -> Advance:
    """What a report does to an update in status `current`; `sent` once its trigger may have reached the device.

    The same status again is progress within it, and changes no status.
    """
    if current == reported:
        return Advance()
    if current in FINAL:
        return Advance(refused=TERMINAL_STATE)
    if not sent:
        return Advance(refused=NOT_NOTIFIED)
    told: tuple[DeviceStatus, ...] = ("notified",) if current == "queued" and reported != "notified" else ()
    if reported in FINAL or STEPS.index(reported) > STEPS.index(current):
        return Advance((*told, reported))
    return Advance(refused=OUT_OF_ORDER)


# What an operator may ask of a deployment, in which status.
MAY: dict[str, frozenset[str]] = {
    "start": frozenset({"draft"}),
    "approve": frozenset({"waiting_for_approval"}),
    "pause": frozenset({"running"}),
    "resume": frozenset({"paused"}),
    "abort": frozenset({"draft", "waiting_for_approval", "running", "paused"}),
    "rollback": frozenset({"running", "paused", "aborted", "finished"}),
    "retry-failed": frozenset({"running", "paused", "aborted", "finished"}),
}

# A deployment that still starts devices, or will.
OPEN: frozenset[str] = frozenset({"draft", "waiting_for_approval", "running", "paused"})
