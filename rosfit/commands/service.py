"""What can be done with commands. Callers own the unit of work."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from rosfit.commands import repository
from rosfit.commands.errors import (
    CommandExpiryError,
    CommandNotFoundError,
    CommandTooLargeError,
    DeviceNotCommandableError,
    DeviceOfflineError,
    LeaseHeldError,
    TerminalStateError,
)
from rosfit.commands.lifecycle import FINAL, REPORTABLE, Status, advance, may_cancel
from rosfit.commands.models import Accepted, Command, Lease, NewCommand, Response
from rosfit.commands.teleop import LEASE_STALE_S
from rosfit.fleet import repository as fleet
from rosfit.fleet.service import not_found
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import FieldError
from rosfit.kernel.feed import Event
from rosfit.kernel.ids import new_id, uuid7
from rosfit.kernel.paging import Page, decode_cursor, page_of
from rosfit.kernel.work import Work
from rosfit.protocol.envelope import Limits
from rosfit.protocol.errors import BadMessageError

QUEUED_FOR = timedelta(hours=24)

# Commands that go ahead of everything, on the server and on the bridge.
URGENT = frozenset({"emergency_stop"})

# The built-in with which the bridge is asked to stop what another command began.
CANCEL = "cancel"

# The wire's limit of a message, less what the envelope and the ids around `data` take.
DATA_LIMIT_BYTES = Limits().payload_bytes - 2 * 1024

REACHABLE = frozenset({"online", "error", "maintenance"})


async def send(
    work: Work, device_id: str, new: NewCommand, created_by: str, *, correlation_id: str | None = None
) -> Accepted:
    """Accept a command; it is published once this work has committed. Commands of one bulk share an id."""
    locked = await fleet.lock_device(work.connection, device_id)
    if locked is None:
        raise not_found(device_id)
    _check_device(device_id, locked[0], new.queue)
    check_size("data", new.data)
    command_id, correlation_id = new_id("cmd"), correlation_id or uuid7().hex
    expires_at = _expiry(new)
    urgent = new.command in URGENT
    await repository.insert_command(
        work.connection, command_id, device_id, correlation_id, new, expires_at, created_by, urgent
    )
    await _record(work, device_id, command_id, new.command, "pending")
    return Accepted(command_id, correlation_id, "pending")


def check_in_service(device_id: str, status: str | None) -> None:
    """Raises DeviceNotCommandableError."""
    if status == "decommissioned":
        raise DeviceNotCommandableError(f"{device_id} is decommissioned")


def _check_device(device_id: str, status: str, queue: bool) -> None:
    check_in_service(device_id, status)
    if status not in REACHABLE and not queue:
        raise DeviceOfflineError(f"{device_id} is {status}; send it with queue: true to have it wait")


def check_size(name: str, data: dict[str, Any]) -> None:
    """Raises CommandTooLargeError for what would not fit into a message to a robot."""
    size = len(msgspec.json.encode(data))
    if size > DATA_LIMIT_BYTES:
        raise CommandTooLargeError(f"{name} takes {size} bytes as JSON; a message has room for {DATA_LIMIT_BYTES}")


def _expiry(new: NewCommand) -> datetime:
    if new.expires_at is None:
        return now() + (QUEUED_FOR if new.queue else timedelta(seconds=new.timeout_s))
    if new.expires_at.tzinfo is None or new.expires_at <= now():
        raise CommandExpiryError(errors=(FieldError("expires_at", "a time in the future with an offset"),))
    return new.expires_at


async def get(work: Work, device_id: str, command_id: str) -> Command:
    """With every step. Raises CommandNotFoundError."""
    found = await repository.get_command(work.connection, device_id, command_id)
    if found is None:
        raise _no_command(device_id, command_id)
    return found


def _no_command(device_id: str, command_id: str) -> CommandNotFoundError:
    return CommandNotFoundError(f"{device_id} has no command {command_id[:64]!r}")


async def history(work: Work, device_id: str, status: str | None, cursor: str | None, limit: int) -> Page[Command]:
    """Newest first."""
    key = decode_cursor(cursor, tuple[str])
    rows = await repository.list_commands(work.connection, device_id, status, key[0] if key else None, limit + 1)
    return page_of(rows, limit, lambda command: (command.command_id,))


async def cancel(work: Work, device_id: str, command_id: str, created_by: str) -> Command:
    """Take back what nobody has seen; ask the device to stop the rest, when it is there. Raises TerminalStateError."""
    locked = await repository.lock_command(work.connection, device_id, command_id)
    if locked is None:
        raise _no_command(device_id, command_id)
    if locked.status in FINAL:
        raise TerminalStateError(f"{command_id} is {locked.status}, which is final")
    if may_cancel(locked.status, locked.handed_over):
        await _apply(work, device_id, command_id, locked.command, "cancelled")
    else:
        await send(work, device_id, NewCommand(CANCEL, {"command_id": command_id}, queue=True), created_by)
    return await get(work, device_id, command_id)


async def take_response(work: Work, device_id: str, payload: bytes) -> None:
    """A report of the device. Raises BadMessageError for one that is of no command of this device."""
    report = _report(payload)
    locked = await repository.lock_command(work.connection, device_id, report.command_id)
    if locked is None:
        raise BadMessageError("unknown_command", f"{device_id} was not sent {report.command_id[:64]!r}")
    outcome = advance(locked.status, report.status, locked.late)
    if outcome.refused:
        await repository.insert_step(
            work.connection, report.command_id, report.status, _detail(report), outcome.refused
        )
        return
    if outcome.steps == (locked.status,):
        await _progress(work, device_id, locked.command, report)
        return
    for status in outcome.steps:
        last = status == outcome.steps[-1]
        await _apply(
            work, device_id, report.command_id, locked.command, status, report if last else None, late=outcome.late
        )


def _report(payload: bytes) -> Response:
    """With `progress` within 0 and 1, whatever the device's arithmetic made of it."""
    try:
        report = msgspec.json.decode(payload, type=Response)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadMessageError("wrong_shape", str(error)) from error
    if report.status not in REPORTABLE:
        raise BadMessageError("wrong_shape", f"a device does not say {report.status}")
    if report.progress is None:
        return report
    return msgspec.structs.replace(report, progress=min(max(report.progress, 0.0), 1.0))


async def mark_delivered(work: Work, device_id: str, command_id: str, command: str) -> None:
    """The broker has acknowledged the publish and the device is connected."""
    locked = await repository.lock_command(work.connection, device_id, command_id)
    if locked is not None and locked.status == "pending":
        await _apply(work, device_id, command_id, command, "delivered")


async def end_overdue(work: Work, limit: int) -> int:
    """Expire what was not published in time, time out what was; returns how many."""
    overdue = await repository.lock_overdue(work.connection, limit)
    for command_id, device_id, status in overdue:
        found = await get(work, device_id, command_id)
        expired = status == "pending" and found.published_at is None
        await _apply(work, device_id, command_id, found.command, "expired" if expired else "timed_out")
    return len(overdue)


async def _apply(
    work: Work,
    device_id: str,
    command_id: str,
    command: str,
    status: Status,
    report: Response | None = None,
    *,
    late: bool = False,
) -> None:
    await repository.set_status(work.connection, command_id, status, report, late=late)
    await _record(work, device_id, command_id, command, status, report, late=late)


async def _record(
    work: Work,
    device_id: str,
    command_id: str,
    command: str,
    status: Status,
    report: Response | None = None,
    *,
    late: bool = False,
) -> None:
    """Keep the step and announce it."""
    detail = _detail(report)
    await repository.insert_step(work.connection, command_id, status, detail)
    _announce(work, device_id, command_id, command, status, detail, late=late)


async def _progress(work: Work, device_id: str, command: str, report: Response) -> None:
    """No step of its own: an hour of feedback would be thousands."""
    detail = _detail(report)
    await repository.set_status(work.connection, report.command_id, report.status, report)
    await repository.update_step(work.connection, report.command_id, report.status, detail)
    _announce(work, device_id, report.command_id, command, report.status, detail, late=False)


def _announce(
    work: Work,
    device_id: str,
    command_id: str,
    command: str,
    status: Status,
    detail: dict[str, Any] | None,
    *,
    late: bool,
) -> None:
    at = format_time(now())
    data = {"command_id": command_id, "device_id": device_id, "command": command, "status": status, "at": at}
    if late:
        data["late"] = True  # type: ignore[assignment]
    work.announce(Event("commands", device_id, command_id, msgspec.json.encode(data | (detail or {})), at))


def _detail(report: Response | None) -> dict[str, Any] | None:
    """What a step keeps of a report."""
    if report is None:
        return None
    told = {"progress": report.progress, "result": report.result, "error": report.error}
    return {key: msgspec.to_builtins(value) for key, value in told.items() if value is not None} or None


async def take_lease(work: Work, device_id: str, user_id: str, user_name: str, *, take_over: bool) -> Lease:
    """The stick of a robot. Raises LeaseHeldError naming who has it, unless it is to be taken over."""
    lease = Lease(device_id, new_id("lease"), user_id, user_name, format_time(now()))
    if not await repository.take_lease(work.connection, lease, take_over=take_over, stale_s=LEASE_STALE_S):
        held = await repository.get_lease(work.connection, device_id, LEASE_STALE_S)
        who = held.user_name if held else "somebody"
        raise LeaseHeldError(f"{who} drives {device_id}; connect with take_over=true to take the stick")
    work.announce(_lease_event(device_id, lease))
    return lease


async def lease_of(work: Work, device_id: str) -> Lease | None:
    return await repository.get_lease(work.connection, device_id, LEASE_STALE_S)


async def renew_lease(work: Work, lease: Lease) -> bool:
    """False when somebody took it over."""
    return await repository.renew_lease(work.connection, lease.device_id, lease.lease_id)


async def drop_lease(work: Work, lease: Lease) -> None:
    if await repository.drop_lease(work.connection, lease.device_id, lease.lease_id):
        work.announce(_lease_event(lease.device_id, None))


def _lease_event(device_id: str, lease: Lease | None) -> Event:
    data = {"device_id": device_id, "lease": lease}
    return Event("teleop", device_id, "lease", msgspec.json.encode(data), format_time(now()))
