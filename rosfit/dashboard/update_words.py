"""Statuses of updates in words."""

from __future__ import annotations

WORDS = {
    # of a deployment
    "waiting_for_approval": "Waits for approval",
    # of a robot in it
    "queued": "Waiting",
    "notified": "Told to update",
    "verifying": "Checking the file",
    "rebooting": "Restarting",
    "health_check": "Health check",
    "succeeded": "Updated",
    "rolled_back": "Rolled back",
    "timed_out": "No answer in time",
    "rejected": "Refused by the robot",
}


def update_word(status: str) -> str:
    return WORDS.get(status) or status.replace("_", " ").capitalize()
