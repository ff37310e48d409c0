"""One command for many devices: who gets it, who is left out and why, and how far each has come."""

from __future__ import annotations

from typing import Any

import msgspec

from rosfit.commands import repository, service
from rosfit.commands.errors import BulkNotFoundError
from rosfit.commands.models import NewCommand
from rosfit.commands.service import REACHABLE
from rosfit.fleet import groups
from rosfit.fleet import repository as fleet
from rosfit.fleet.models import Reach
from rosfit.fleet.query import all_of
from rosfit.fleet.targets import Target, condition_of
from rosfit.kernel.errors import FieldError, InvalidError
from rosfit.kernel.ids import new_id
from rosfit.kernel.work import Work

# One transaction writes them all; more want a deployment of their own kind.
TARGET_LIMIT = 5_000
SAMPLE = 10


class BulkRequest(NewCommand, frozen=True, kw_only=True):
    target: Target


class LeftOut(msgspec.Struct, frozen=True):
    """`reason` is a word: `not_found`, `offline`, `decommissioned` or `provisioning`."""

    device_id: str
    reason: str


class Preview(msgspec.Struct, frozen=True):
    count: int
    sample: list[str]
    left_out: list[LeftOut]


class Sent(msgspec.Struct, frozen=True):
    device_id: str
    command_id: str


class BulkAccepted(msgspec.Struct, frozen=True):
    bulk_id: str
    accepted: list[Sent]
    left_out: list[LeftOut]


class BulkRow(msgspec.Struct, frozen=True):
    device_id: str
    command_id: str
    status: str
    progress: float | None
    error: Any


class Progress(msgspec.Struct, frozen=True):
    """`counts` by status; `rows` has each device."""

    bulk_id: str
    command: str
    counts: dict[str, int]
    rows: list[BulkRow]


async def preview(work: Work, target: Target, new: NewCommand, reach: Reach) -> Preview:
    """Who would get it now."""
    meant, left_out = await _sort_out(work, target, new, reach)
    return Preview(len(meant), meant[:SAMPLE], left_out)


async def send(work: Work, target: Target, new: NewCommand, sent_by: str, reach: Reach) -> BulkAccepted:
    """Send it to everybody who can take it."""
    meant, left_out = await _sort_out(work, target, new, reach)
    bulk_id = new_id("blk")
    accepted = []
    for device_id in meant:
        sent = await service.send(work, device_id, new, sent_by, correlation_id=bulk_id)
        accepted.append(Sent(device_id, sent.command_id))
    return BulkAccepted(bulk_id, accepted, left_out)


async def progress(work: Work, bulk_id: str, visible: frozenset[str] | None) -> Progress:
    """How far each device has come. Raises BulkNotFoundError."""
    found = await repository.list_bulk(work.connection, bulk_id)
    rows = [row for row in found if visible is None or row["device_id"] in visible]
    if not rows:
        raise BulkNotFoundError(f"There is no bulk command {bulk_id[:64]!r}")
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    command = rows[0]["command"]
    for row in rows:
        del row["command"]
    return Progress(bulk_id, command, counts, msgspec.convert(rows, list[BulkRow]))


async def _sort_out(work: Work, target: Target, new: NewCommand, reach: Reach) -> tuple[list[str], list[LeftOut]]:
    where = all_of([await groups.visible(work, reach), await condition_of(work, target)])
    found = await fleet.device_ids(work.connection, where)
    if len(found) > TARGET_LIMIT:
        raise InvalidError(errors=(FieldError("target", f"{len(found)} devices; at most {TARGET_LIMIT}"),))
    statuses = await fleet.statuses(work.connection, found)
    meant, left_out = [], []
    for device_id in found:
        reason = _why_not(statuses[device_id], new.queue)
        if reason is None:
            meant.append(device_id)
        else:
            left_out.append(LeftOut(device_id, reason))
    missing = sorted(set(target.device_ids or ()) - set(found))
    return meant, left_out + [LeftOut(device_id, "not_found") for device_id in missing]


def _why_not(status: str, queue: bool) -> str | None:
    if status == "decommissioned" or (status not in REACHABLE and not queue):
        return status
    return None
