"""What can be done with shadows. Callers own the unit of work."""

from __future__ import annotations

from typing import Any

import msgspec

from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import BadRequestError, RosfitError
from rosfit.kernel.feed import Event
from rosfit.kernel.paging import Page, decode_cursor, page_of
from rosfit.kernel.work import Work
from rosfit.protocol.envelope import payload_digest
from rosfit.protocol.errors import BadMessageError
from rosfit.shadow import repository
from rosfit.shadow.delta import delta, merge, merge_stamps
from rosfit.shadow.errors import (
    ShadowShapeError,
    ShadowVersionNotFoundError,
    StaleReportError,
    VersionConflictError,
)
from rosfit.shadow.limits import check_patch, check_section
from rosfit.shadow.models import DEFAULT_NAME, Change, Drift, Due, Report, Section, Shadow, ShadowName, Stored, Version

# Versions kept of each shadow; older ones are dropped once an hour.
HISTORY_KEEP = 1_000

_EMPTY = Stored(0, None, None, {}, {}, None, "", None)


async def get(work: Work, device_id: str, name: str = DEFAULT_NAME) -> Shadow:
    """Version 0 and an empty state where there is none."""
    stored = await repository.get_shadow(work.connection, device_id, name)
    return document(device_id, name, stored or _EMPTY)


def document(device_id: str, name: str, stored: Stored) -> Shadow:
    state: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    if stored.desired is not None:
        state["desired"], metadata["desired"] = stored.desired, stored.desired_metadata
    if stored.reported is not None:
        state["reported"], metadata["reported"] = stored.reported, stored.reported_metadata
    if differing := delta(stored.desired or {}, stored.reported or {}):
        state["delta"] = differing
    timestamp = stored.updated_at or format_time(now())
    return Shadow(device_id, name, stored.version, timestamp, state, metadata, stored.pending_since)


async def change_desired(work: Work, device_id: str, name: str, change: Change, author: str) -> Shadow:
    """Raises VersionConflictError, ShadowShapeError or ShadowTooLargeError; then nothing has changed."""
    check_patch(change.patch)
    if change.patch is not None and not isinstance(change.patch, dict):
        raise ShadowShapeError("desired is an object, or null to remove it")
    stored = await repository.lock_shadow(work.connection, device_id, name)
    check_version(stored, change.version)
    base = None if change.replace else stored.desired
    stamps = {} if change.replace else stored.desired_metadata
    stamp = {"timestamp": format_time(now()), "by": author}
    desired = None if change.patch is None else merge(base or {}, change.patch)
    check_section("desired", desired)
    after = msgspec.structs.replace(
        stored,
        version=stored.version + 1,
        desired=desired,
        desired_metadata={} if change.patch is None else merge_stamps(stamps, change.patch, stamp),
    )
    return await _write(work, device_id, name, after, "desired", author, change.reason)


async def held_version(work: Work, device_id: str, name: str) -> int:
    """The version, which nobody else can change until the end of the transaction."""
    return (await repository.lock_shadow(work.connection, device_id, name)).version


def check_version(stored: Stored, version: int | None) -> None:
    if version is not None and version != stored.version:
        raise VersionConflictError(f"The shadow is at version {stored.version}, not {version}; read it again")


async def _write(
    work: Work, device_id: str, name: str, stored: Stored, section: Section, author: str, reason: str | None
) -> Shadow:
    differs = bool(delta(stored.desired or {}, stored.reported or {}))
    await repository.write_shadow(
        work.connection,
        device_id,
        name,
        stored,
        differs=differs,
        told=section == "desired",
        section=section,
        author=author,
        reason=reason,
    )
    after = await repository.get_shadow(work.connection, device_id, name)
    shadow = document(device_id, name, after or stored)
    work.announce(Event("shadow", device_id, name, msgspec.json.encode(shadow), shadow.timestamp))
    return shadow


async def take_report(work: Work, device_id: str, name: str, payload: bytes) -> tuple[bool, dict[str, Any]]:
    """A device's report: whether it was accepted, and the answer. The same client_token twice is one version."""
    report = _report(payload)
    digest = payload_digest(payload)
    if report.client_token is not None:
        known = await repository.get_answer(work.connection, device_id, name, report.client_token)
        if known is not None and known[0] == digest:
            answer = dict(known[1])
            return bool(answer.pop("accepted")), answer
    try:
        shadow = await _merge_report(work, device_id, name, report)
        accepted, answer = True, _acceptance(shadow, report)
    except RosfitError as error:
        accepted, answer = False, {"code": error.code, "message": error.detail}
    if report.client_token is not None:
        answer["client_token"] = report.client_token
        await repository.keep_answer(
            work.connection, device_id, name, report.client_token, digest, answer | {"accepted": accepted}
        )
    return accepted, answer


def _report(payload: bytes) -> Report:
    """An object with the key `state` is the long form, any other object is the state itself."""
    try:
        fields = msgspec.json.decode(payload)
        if isinstance(fields, dict) and "state" not in fields:
            return Report(fields)
        return msgspec.convert(fields, Report)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadMessageError("wrong_shape", str(error)) from error


def _acceptance(shadow: Shadow, report: Report) -> dict[str, Any]:
    return {"version": shadow.version, "timestamp": shadow.timestamp, "state": {"reported": report.state}}


async def _merge_report(work: Work, device_id: str, name: str, report: Report) -> Shadow:
    check_patch(report.state)
    if report.state is not None and not isinstance(report.state, dict):
        raise ShadowShapeError("reported is an object, or null to remove it")
    stored = await repository.lock_shadow(work.connection, device_id, name)
    if report.seq is not None and stored.last_seq is not None and report.seq < stored.last_seq:
        raise StaleReportError(f"seq {report.seq} is below {stored.last_seq}, which was taken before")
    check_version(stored, report.version)
    reported = None if report.state is None else merge(stored.reported or {}, report.state)
    check_section("reported", reported)
    stamp = {"timestamp": format_time(now())}
    after = msgspec.structs.replace(
        stored,
        version=stored.version + 1,
        reported=reported,
        reported_metadata=_report_stamps(stored, report.state, stamp),
        last_seq=report.seq if report.seq is not None else stored.last_seq,
    )
    return await _write(work, device_id, name, after, "reported", f"device {device_id}", None)


def _report_stamps(stored: Stored, state: Any, stamp: dict[str, Any]) -> dict[str, Any]:
    return {} if state is None else merge_stamps(stored.reported_metadata, state, stamp)


async def ask_delta(work: Work, device_id: str, name: str) -> Shadow:
    """`shadow/get`: the document, and one current delta."""
    await repository.ask_delta(work.connection, device_id, name)
    return await get(work, device_id, name)


async def history(work: Work, device_id: str, name: str, cursor: str | None, limit: int) -> Page[Version]:
    """Newest first."""
    key = decode_cursor(cursor, tuple[int])
    rows = await repository.history(work.connection, device_id, name, key[0] if key else None, limit + 1)
    return page_of(rows, limit, lambda version: (version.version,))


async def get_version(work: Work, device_id: str, name: str, version: int) -> Version:
    """Raises ShadowVersionNotFoundError."""
    found = await repository.get_version(work.connection, device_id, name, version)
    if found is None:
        raise ShadowVersionNotFoundError(f"{device_id} has no version {version} of {name!r} any more")
    return found


async def restore(work: Work, device_id: str, name: str, version: int, author: str) -> Shadow:
    """Desired as it was in an earlier version, as a new version. Raises ShadowVersionNotFoundError."""
    found = await get_version(work, device_id, name, version)
    change = Change(found.desired, replace=True, reason=f"restored from version {version}")
    return await change_desired(work, device_id, name, change, author)


async def names(work: Work, device_id: str) -> list[str]:
    return await repository.list_names(work.connection, device_id)


async def drifts(work: Work, device_ids: list[str]) -> dict[str, Drift]:
    """By device; those without a shadow are not in it."""
    found = await repository.drifts(work.connection, device_ids) if device_ids else []
    return {drift.device_id: drift for drift in found}


async def trim(work: Work) -> None:
    await repository.trim(work.connection, HISTORY_KEEP)


def delta_message(due: Due) -> dict[str, Any] | None:
    """What is published on `shadow/delta`; None where nothing differs any more."""
    differing = delta(due.desired or {}, due.reported or {})
    if not differing:
        return None
    return {"version": due.version, "timestamp": format_time(now()), "state": differing}


def desired_message(due: Due) -> dict[str, Any]:
    """What is published on `shadow/desired`, retained."""
    return {"version": due.version, "timestamp": format_time(now()), "state": due.desired or {}}


def check_name(name: str) -> str:
    """Raises BadRequestError for what cannot be a shadow's name."""
    try:
        return msgspec.convert(name, type=ShadowName)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"name: {error}") from error
