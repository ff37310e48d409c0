"""The steps of an update, and which of them is taken up after the bridge or the power went. Pure."""

from __future__ import annotations

from enum import Enum


class Step(str, Enum):
    """In order. Until `switching` nothing that runs has been touched."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    INSTALLING = "installing"
    SWITCHING = "switching"
    RESTARTING = "restarting"
    CHECKING = "checking"
    ROLLING_BACK = "rolling_back"
    RETURNING = "returning"
    RETURNED = "returned"
    GIVING_UP = "giving_up"


# What the server calls them (section 6 of the wire contract); the way back is still the check that failed.
WIRE = {
    Step.WAITING: "notified",
    Step.DOWNLOADING: "downloading",
    Step.VERIFYING: "verifying",
    Step.INSTALLING: "installing",
    Step.SWITCHING: "installing",
    Step.RESTARTING: "rebooting",
    Step.CHECKING: "health_check",
    Step.ROLLING_BACK: "health_check",
    Step.RETURNING: "health_check",
}
# A step that is cut short again and again is the reason for it.
MOST_INTERRUPTIONS = 2


def resumed(step: Step, interruptions: int, *, same_boot: bool) -> Step:
    """Where to go on. `interruptions` counts this one; `same_boot`: only the bridge was gone, not the machine."""
    often = interruptions > MOST_INTERRUPTIONS
    if step in (Step.WAITING, Step.DOWNLOADING, Step.VERIFYING):
        # The gate may have closed meanwhile; what was downloaded is kept.
        return Step.WAITING
    if step is Step.INSTALLING:
        return Step.GIVING_UP if often else Step.INSTALLING
    if step is Step.SWITCHING:
        return Step.ROLLING_BACK if often else Step.SWITCHING
    if step is Step.RESTARTING:
        # The restart may have been that of the whole machine: done either way, and never twice.
        return Step.CHECKING
    if step is Step.CHECKING:
        # A machine that goes down while the new version is on trial has given its verdict.
        return Step.CHECKING if same_boot and not often else Step.ROLLING_BACK
    if step is Step.RETURNING:
        return Step.RETURNED
    return step


def may_pass_deadline(step: Step) -> bool:
    """Once something was touched, the update is brought to an end, whatever the time."""
    return step not in (Step.WAITING, Step.DOWNLOADING, Step.VERIFYING)
