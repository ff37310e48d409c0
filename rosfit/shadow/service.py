"""What can be done with shadows. Callers own the unit of work."""

from __future__ import annotations

from typing import Any

import msgspec

from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import BadRequestError
from rosfit.kernel.feed import Event
from rosfit.kernel.paging import Page, decode_cursor, page_of
from rosfit.kernel.work import Work
from rosfit.shadow import repository
from rosfit.shadow.delta import Document, delta
from rosfit.shadow.errors import ShadowVersionNotFoundError
from rosfit.shadow.layer_rows import layers_below
from rosfit.shadow.models import DEFAULT_NAME, Change, Drift, Due, Shadow, ShadowName, Stored, Version, Written
from rosfit.shadow.overlay import overlay
from rosfit.shadow.revisions import desired_changed
from rosfit.shadow.schemas import schemas_for


async def get(work: Work, device_id: str, name: str = DEFAULT_NAME) -> Shadow:
    """Version 0 and an empty state where there is none."""
    found = await repository.get_shadows(work.connection, [(device_id, name)])
    return document(device_id, name, found.get((device_id, name)) or Stored(format_time(now())))


def document(device_id: str, name: str, stored: Stored) -> Shadow:
    state: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    if stored.desired is not None:
        state["desired"], metadata["desired"] = stored.desired, stored.desired_metadata
    if stored.reported is not None:
        state["reported"], metadata["reported"] = stored.reported, stored.reported_metadata
    if differing := delta(stored.desired or {}, stored.reported or {}):
        state["delta"] = differing
    timestamp = stored.updated_at or stored.at
    return Shadow(
        device_id, name, stored.version, timestamp, state, metadata, stored.pending_since, stored.sync_s
    )


async def change_desired(work: Work, device_id: str, name: str, change: Change, author: str) -> Shadow:
    """Raises VersionConflictError, ShadowShapeError, ShadowTooLargeError or DesiredRefusedError: nothing is changed."""
    after = await _changed(work, device_id, name, change, author)
    await repository.write_shadows(
        work.connection, [Written(device_id, name, after, "desired", author, change.reason)]
    )
    return announce(work, device_id, name, after)


async def foresee(work: Work, device_id: str, name: str, change: Change, author: str) -> Document:
    """What desired would be after a change; raises what `change_desired` does."""
    return (await _changed(work, device_id, name, change, author)).desired or {}


async def _changed(work: Work, device_id: str, name: str, change: Change, author: str) -> Stored:
    key = device_id, name
    stored = await _hold(work, device_id, name)
    after = desired_changed(stored, change, (await layers_below(work.connection, [key])).of(key), author)
    (await schemas_for(work, [key])).check(key, after.desired)
    return after


def announce(work: Work, device_id: str, name: str, stored: Stored) -> Shadow:
    shadow = document(device_id, name, stored)
    work.announce(Event("shadow", device_id, name, msgspec.json.encode(shadow), shadow.timestamp))
    return shadow


async def _hold(work: Work, device_id: str, name: str) -> Stored:
    return (await repository.hold_shadows(work.connection, [(device_id, name)]))[device_id, name]


async def held_version(work: Work, device_id: str, name: str) -> int:
    """The version, which nobody else can change until the end of the transaction."""
    return (await _hold(work, device_id, name)).version


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
    """Desired as it was in an earlier version, as a new version. Raises ShadowVersionNotFoundError.

    The device's own values become what its layers do not make so by themselves; what only they have stays.
    """
    found = await get_version(work, device_id, name, version)
    await _hold(work, device_id, name)
    below = overlay((await layers_below(work.connection, [(device_id, name)])).of((device_id, name))).document
    wanted = delta(found.desired, below) if found.desired and below else found.desired
    change = Change(wanted, replace=True, reason=f"restored from version {version}")
    return await change_desired(work, device_id, name, change, author)


async def names(work: Work, device_id: str) -> list[str]:
    return await repository.list_names(work.connection, device_id)


async def drifts(work: Work, device_ids: list[str]) -> dict[str, Drift]:
    """By device; those without a shadow are not in it."""
    found = await repository.drifts(work.connection, device_ids) if device_ids else []
    return {drift.device_id: drift for drift in found}


async def trim(work: Work, keep: int) -> None:
    """All but the last `keep` versions of each shadow, and answers of yesterday."""
    await repository.trim(work.connection, keep)


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
