"""Desired values for the whole fleet and for groups, under each device's own.

A change of a layer, or of who is in its group, leaves a note for every shadow it touches, in the same transaction.
`Refresher` works the notes off in batches: whatever is killed, what is left of them stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import structlog
from psycopg import sql

from rosfit.fleet import groups
from rosfit.fleet import repository as fleet
from rosfit.fleet.models import Group
from rosfit.fleet.query import EVERYTHING, Condition, QueryError, all_of, asks_shadows
from rosfit.kernel.clock import WireTime, format_time, now
from rosfit.kernel.errors import FieldError, InvalidError, UnavailableError
from rosfit.kernel.work import Work
from rosfit.shadow import layer_rows, repository
from rosfit.shadow.delta import same
from rosfit.shadow.errors import (
    DesiredRefusedError,
    LayerQueryError,
    LayerRefusedError,
    ShadowShapeError,
    ShadowTooLargeError,
    VersionConflictError,
)
from rosfit.shadow.layer_rows import LayerRow, Refresh, stacked
from rosfit.shadow.limits import check_patch, check_section
from rosfit.shadow.models import Change, Stored, Written
from rosfit.shadow.repository import Key
from rosfit.shadow.revisions import changed_values, layered, layers_changed
from rosfit.shadow.schemas import schemas_for
from rosfit.shadow.service import announce

log = structlog.get_logger(__name__)

FLEET = "fleet"
BATCH = 200
# Between batches others are served.
PREVIEW_BATCH = 200
SAMPLE = 5
PRIORITY_LIMIT = 1_000_000
PRESENT = sql.SQL("d.status <> 'decommissioned'")

OpenWork = Callable[[], AbstractAsyncContextManager[Work]]


class LayerDocument(msgspec.Struct, frozen=True):
    """`layer` is `fleet` or the group's name. Of two groups the higher priority wins, then the one made later."""

    layer: str
    group_id: str | None
    name: str
    priority: int
    version: int
    devices: int
    desired: dict[str, Any]
    metadata: dict[str, Any]
    updated_at: WireTime | None = None
    updated_by: str | None = None


class LayerChange(msgspec.Struct, frozen=True):
    change: Change
    priority: int | None = None


class Changed(msgspec.Struct, frozen=True):
    """One device's desired before and after."""

    device_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Refusal(msgspec.Struct, frozen=True):
    device_id: str
    reason: str


class Preview(msgspec.Struct, frozen=True):
    """How many devices the layer reaches, how many would change and some of them; how many cannot have it, and why."""

    devices: int
    changed: int
    sample: list[Changed]
    refused: int
    refusals: list[Refusal]


def parse_priority(text: str) -> int:
    """Raises InvalidError for what is no whole number within the limit."""
    try:
        priority = int(text or "0")
    except ValueError:
        priority = PRIORITY_LIMIT + 1
    if abs(priority) > PRIORITY_LIMIT:
        message = f"a priority is a whole number from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT}"
        raise InvalidError(message, errors=(FieldError("priority", message),))
    return priority


async def find_group(work: Work, layer: str) -> Group | None:
    """None for the fleet. Raises GroupNotFoundError."""
    return None if layer == FLEET else await groups.get(work, layer)


async def listing(work: Work) -> list[LayerDocument]:
    """From the bottom up."""
    return [
        LayerDocument(
            one.group_name or FLEET,
            one.group_id,
            one.name,
            one.priority,
            one.version,
            one.devices,
            one.desired,
            one.metadata,
            one.updated_at,
            one.updated_by,
        )
        for one in await layer_rows.list_layers(work.connection)
    ]


async def get(work: Work, group: Group | None, name: str) -> LayerDocument:
    """Version 0 and no values where there is none."""
    return pick(await listing(work), group, name)


def pick(listed: Sequence[LayerDocument], group: Group | None, name: str) -> LayerDocument:
    """One of a listing; version 0 and no values where there is none."""
    wanted = group.group_id if group else None
    for one in listed:
        if (one.group_id, one.name) == (wanted, name):
            return one
    return LayerDocument(group.name if group else FLEET, wanted, name, 0, 0, 0, {}, {})


async def change(work: Work, group: Group | None, name: str, wanted: LayerChange, author: str) -> LayerDocument:
    """Raises VersionConflictError, ShadowShapeError, ShadowTooLargeError, LayerQueryError or LayerRefusedError."""
    _check_group(group)
    held = await _hold(work, group, name, author)
    after = _changed(held, wanted, _label(group), author)
    _check_refusals(await _effect(work, group, name, after))
    await layer_rows.write_layer(work.connection, after, author)
    reason = _reason(group, wanted.change.reason)
    await layer_rows.look_at_members(
        work.connection, held.layer_id, name, await _members(work, group), reason, author
    )
    await layer_rows.refresh_members(work.connection, held.layer_id, name, reason, author)
    return await get(work, group, name)


async def remove(work: Work, group: Group | None, name: str, author: str) -> None:
    """Nothing where there is none."""
    held = await layer_rows.hold_layer(work.connection, group.group_id if group else None, name)
    if held is not None:
        reason = _reason(group, "removed")
        await layer_rows.refresh_members(work.connection, held.layer_id, name, reason, author)
        await layer_rows.delete_layer(work.connection, held.layer_id)


async def held_version(work: Work, group: Group | None, name: str) -> int:
    """The version, which nobody else can change until the end of the transaction."""
    held = await layer_rows.hold_layer(work.connection, group.group_id if group else None, name)
    return held.version if held else 0


async def preview(work: Work, group: Group | None, name: str, wanted: LayerChange) -> Preview:
    """What a change would do now; changes nothing."""
    _check_group(group)
    held = await layer_rows.hold_layer(work.connection, group.group_id if group else None, name)
    return await _effect(work, group, name, _changed(held or _new(group), wanted, _label(group), "preview"))


def _check_refusals(effect: Preview) -> None:
    if effect.refused:
        first = effect.refusals[0]
        more = f" and {effect.refused - 1} more" if effect.refused > 1 else ""
        raise LayerRefusedError(f"{first.device_id}{more} of {effect.devices}: {first.reason}")


async def _effect(work: Work, group: Group | None, name: str, after: LayerRow) -> Preview:
    """On everybody whom the layer reaches now."""
    where = all_of([await _members(work, group), PRESENT])
    device_ids = await fleet.device_ids(work.connection, where)
    found = Preview(len(device_ids), 0, [], 0, [])
    for start in range(0, len(device_ids), PREVIEW_BATCH):
        keys = [(device_id, name) for device_id in device_ids[start : start + PREVIEW_BATCH]]
        found = _add(found, await _previewed(work, keys, after))
    return found


async def _previewed(work: Work, keys: list[Key], layer: LayerRow) -> Preview:
    shadows = await repository.get_shadows(work.connection, keys)
    below = await layer_rows.layers_below(work.connection, keys)
    schemas = await schemas_for(work, keys)
    changed, refusals = [], []
    for key in keys:
        stored = shadows.get(key) or Stored(format_time(now()))
        others = [row for row in below.get(key, []) if row.layer_id != layer.layer_id]
        try:
            desired = layered(stored, stacked([*others, layer])).desired
            if not same(desired, stored.desired):
                schemas.check(key, desired)
                changed.append(Changed(key[0], stored.desired, desired))
        except (ShadowTooLargeError, DesiredRefusedError) as error:
            refusals.append(Refusal(key[0], error.detail))
    return Preview(len(keys), len(changed), changed[:SAMPLE], len(refusals), refusals[:SAMPLE])


def _add(left: Preview, right: Preview) -> Preview:
    return Preview(
        left.devices,
        left.changed + right.changed,
        (left.sample + right.sample)[:SAMPLE],
        left.refused + right.refused,
        (left.refusals + right.refusals)[:SAMPLE],
    )


def _new(group: Group | None) -> LayerRow:
    return LayerRow("", group.group_id if group else None, 0, 0, {}, {}, format_time(now()))


async def _hold(work: Work, group: Group | None, name: str, author: str) -> LayerRow:
    group_id = group.group_id if group else None
    await layer_rows.make_layer(work.connection, group_id, name, author)
    held = await layer_rows.hold_layer(work.connection, group_id, name)
    assert held is not None, "it was made in this transaction"
    return held


def _changed(held: LayerRow, wanted: LayerChange, label: str, author: str) -> LayerRow:
    patch = wanted.change.patch
    check_patch(patch)
    if patch is not None and not isinstance(patch, dict):
        raise ShadowShapeError("desired is an object, or null to remove it")
    if wanted.change.version is not None and wanted.change.version != held.version:
        raise VersionConflictError(f"The layer is at version {held.version}, not {wanted.change.version}")
    stamp = {"timestamp": held.at, "by": author, "layer": label}
    values, stamps = changed_values(held.desired, held.metadata, wanted.change, stamp)
    check_section("the layer", values)
    priority = held.priority if wanted.priority is None else wanted.priority
    return msgspec.structs.replace(
        held, version=held.version + 1, priority=priority, desired=values or {}, metadata=stamps
    )


def _label(group: Group | None) -> str:
    return group.name if group else FLEET


def _reason(group: Group | None, told: str | None) -> str:
    layer = f"values of the group {group.name}" if group else "values of the fleet"
    return f"{layer}: {told}" if told else layer


def _check_group(group: Group | None) -> None:
    """A group that asks for shadows would change with what its own values do to them."""
    if group is not None and group.query is not None and asks_shadows(group.query):
        raise LayerQueryError(f"{group.name} finds devices by their shadows; choose a group that does not")


async def _members(work: Work, group: Group | None) -> Condition:
    return EVERYTHING if group is None else await groups.membership(work, group)


class Refresher:
    """Brings layers to devices: looks who is in which, and makes anew what has to be."""

    def __init__(self, open_work: OpenWork) -> None:
        self._open_work = open_work

    async def run(self, wake_ups: AsyncIterator[None]) -> None:
        """Until cancelled."""
        async for _ in wake_ups:
            try:
                await self.look()
                while await self.refresh_batch():
                    await asyncio.sleep(0)
            except UnavailableError as error:
                log.warning("layers_wait", why=error.detail)
            except Exception:
                # A fault of ours must not end the loop: the notes stay.
                log.exception("layers_failed")

    async def look(self) -> None:
        """A transaction for each layer: whoever changes one holds it, and then its devices' notes in their order."""
        async with self._open_work() as work:
            listed = await layer_rows.list_layers(work.connection)
        for layer in listed:
            async with self._open_work() as work:
                if not await layer_rows.may_look(work.connection):
                    return
                try:
                    await _look(work, layer.group_id, layer.name)
                except QueryError as error:
                    # One group that cannot be understood must not keep the others from their values.
                    log.warning("layer_waits", group=layer.group_id, name=layer.name, why=error.detail)

    async def refresh_batch(self) -> bool:
        """False when nothing is left."""
        async with self._open_work() as work:
            notes = await layer_rows.take_refreshes(work.connection, BATCH)
            if notes:
                await _refresh(work, notes)
        return len(notes) == BATCH


async def _look(work: Work, group_id: str | None, name: str) -> None:
    held = await layer_rows.hold_layer(work.connection, group_id, name)
    if held is None:
        return
    group = await groups.get(work, group_id) if group_id else None
    where, reason = await _members(work, group), _reason(group, "who has them has changed")
    await layer_rows.look_at_members(work.connection, held.layer_id, name, where, reason, "rosfit")


async def _refresh(work: Work, notes: list[Refresh]) -> None:
    keys = [(note.device_id, note.name) for note in notes]
    shadows = await repository.hold_shadows(work.connection, keys)
    below = await layer_rows.layers_below(work.connection, keys)
    schemas = await schemas_for(work, keys)
    written, restamped = [], {}
    for note, key in zip(notes, keys, strict=True):
        before = shadows[key]
        try:
            after = layers_changed(before, below.of(key))
            if after.version != before.version:
                schemas.check(key, after.desired)
        except (ShadowTooLargeError, DesiredRefusedError) as error:
            log.warning("layers_refused", device_id=note.device_id, name=note.name, why=error.detail)
            continue
        if after.version != before.version:
            written.append(Written(note.device_id, note.name, after, "desired", note.author, note.reason))
        elif after != before:
            restamped[key] = after
    await repository.write_shadows(work.connection, written)
    await repository.update_shadows(work.connection, restamped, ())
    for one in written:
        announce(work, one.device_id, one.name, one.stored)
    for (device_id, name), after in restamped.items():
        announce(work, device_id, name, after)
