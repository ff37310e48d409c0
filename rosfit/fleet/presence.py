"""The status of a device: which transitions there are, and what a message, will or silence does."""

from __future__ import annotations

from typing import NamedTuple

MAY_BECOME: dict[str, frozenset[str]] = {
    "provisioning": frozenset({"online", "decommissioned"}),
    "online": frozenset({"offline", "error", "maintenance", "decommissioned"}),
    "offline": frozenset({"online", "maintenance", "decommissioned"}),
    "error": frozenset({"online", "offline", "maintenance", "decommissioned"}),
    "maintenance": frozenset({"online", "offline", "decommissioned"}),
    "decommissioned": frozenset(),
}

# Statuses in which a device is not expected to say anything, so that hearing it means it is back.
SILENT = frozenset({"provisioning", "offline"})


class Presence(NamedTuple):
    status: str
    reason: str | None


def after_heartbeat(status: str) -> Presence | None:
    """Any message: a device that was away is back. An error lasts until the device says otherwise."""
    return Presence("online", "heartbeat") if status in SILENT else None


def after_report(status: str, reported: str, reason: str | None) -> Presence | None:
    """The device (or its will) says what it is. Maintenance ends by an operator's hand only."""
    if status == "maintenance" or reported == status:
        return None
    if status == "provisioning" and reported != "online":
        # A first word that is no greeting still means that the device has been here.
        return None
    if status == "offline" and reported == "error":
        return None
    return Presence(reported, reason) if reported in MAY_BECOME[status] else None


def after_silence(status: str) -> Presence | None:
    """Nothing heard for longer than the heartbeat timeout."""
    return Presence("offline", "heartbeat_timeout") if status in {"online", "error"} else None
