"""The status of a command: which steps lead where, and what a report of the device may still change.

pending → delivered → acked → in_progress → succeeded | failed | rejected
   └─ expired | cancelled          └─ timed_out (the first real result after it is taken once, marked late)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal[
    "pending",
    "delivered",
    "acked",
    "in_progress",
    "succeeded",
    "failed",
    "rejected",
    "expired",
    "cancelled",
    "timed_out",
]

# Steps in their order; a device may skip some, and only goes forward.
STEPS: tuple[Status, ...] = ("pending", "delivered", "acked", "in_progress")
FINAL: frozenset[str] = frozenset({"succeeded", "failed", "rejected", "expired", "cancelled", "timed_out"})

# What a device may say. `cancelled` answers a request to stop what is under way.
REPORTABLE: frozenset[str] = frozenset(
    {"delivered", "acked", "in_progress", "succeeded", "failed", "rejected", "cancelled"}
)

TERMINAL_STATE = "TERMINAL_STATE"


class Advance(NamedTuple):
    """The steps to record in order, the last of which is the new status; or the code of the refusal."""

    steps: tuple[Status, ...]
    late: bool = False
    refused: str | None = None


NOTHING = Advance(())


def advance(current: str, reported: Status, late: bool = False) -> Advance:
    """What a report does to a command in status `current`; `late` if its result already came late."""
    if current in FINAL:
        if current == "timed_out" and not late and reported in {"succeeded", "failed"}:
            return Advance((reported,), late=True)
        return Advance((), refused=TERMINAL_STATE)
    place = STEPS.index(current)
    if reported in FINAL:
        return Advance((*_skipped(place, reported), reported))
    target = STEPS.index(reported)
    if target == place and reported == "in_progress":
        return Advance(("in_progress",))
    return Advance(STEPS[place + 1 : target + 1])


def _skipped(place: int, final: str) -> tuple[Status, ...]:
    """`delivered` and `acked` are told before what followed them; a rejection was never acked."""
    told = ("delivered",) if final == "rejected" else ("delivered", "acked")
    return tuple(step for step in STEPS[place + 1 : 3] if step in told)


def may_cancel(current: str, handed_over: bool) -> bool:
    """Whether it can be taken back without asking the device: what the broker may have, it may deliver."""
    return current == "pending" and not handed_over
