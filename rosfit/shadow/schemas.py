"""Schemas of what may be desired, per device type and per group. Callers own the unit of work.

Every schema for a device holds, and it holds for the whole of desired, layers laid under the device's own values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from rosfit.fleet import groups
from rosfit.fleet.models import DEVICE_TYPES, EVERYWHERE, DeviceFilter
from rosfit.kernel.errors import FieldError
from rosfit.kernel.work import Work
from rosfit.shadow import layer_rows, schema_rows
from rosfit.shadow.delta import Document
from rosfit.shadow.errors import DesiredRefusedError
from rosfit.shadow.fitting import Misfit, check_schema, misfit
from rosfit.shadow.models import DEFAULT_NAME
from rosfit.shadow.repository import Key
from rosfit.shadow.schema_rows import SchemaRow, ShadowSchema, title_of


class Target(msgspec.Struct, frozen=True):
    """Whom a schema is for: a device type, or a group."""

    id: str
    group_id: str | None = None
    group: str | None = None

    @property
    def title(self) -> str:
        return title_of(self.id, self.group)


async def find_target(work: Work, target: str) -> Target:
    """A device type, or a group by id or name. Raises GroupNotFoundError."""
    if target in DEVICE_TYPES:
        return Target(target)
    group = await groups.get(work, target)
    return Target(group.group_id, group.group_id, group.name)


async def listing(work: Work) -> list[ShadowSchema]:
    return await schema_rows.list_schemas(work.connection)


async def get(work: Work, target: Target, name: str = DEFAULT_NAME) -> ShadowSchema:
    """Version 0, which anything fits, where there is none."""
    return pick(await listing(work), target, name)


def pick(listed: Iterable[ShadowSchema], target: Target, name: str) -> ShadowSchema:
    """One of a listing; version 0 where there is none."""
    for one in listed:
        if (one.target, one.name) == (target.id, name):
            return one
    return ShadowSchema(target.id, target.group, name, 0, {})


async def put(work: Work, target: Target, name: str, schema: Any, author: str) -> ShadowSchema:
    """Raises SchemaInvalidError. What is desired already stays, and has to fit at its next change."""
    check_schema(schema)
    await schema_rows.write_schema(work.connection, target.id, target.group_id, name, schema, author)
    await _try_layers_again(work, target, name, author)
    return await get(work, target, name)


async def remove(work: Work, target: Target, name: str, author: str) -> None:
    """Nothing where there is none."""
    await schema_rows.delete_schema(work.connection, target.id, name)
    await _try_layers_again(work, target, name, author)


async def _try_layers_again(work: Work, target: Target, name: str, author: str) -> None:
    """A device that could not have its layers' values may have them now."""
    where = await groups.where(work, members_of(target), EVERYWHERE)
    reason = f"the schema of {target.title} has changed"
    await layer_rows.refresh_where(work.connection, name, where, reason, author)


def members_of(target: Target) -> DeviceFilter:
    return DeviceFilter(group=target.group_id) if target.group_id else DeviceFilter(type=target.id)


async def held_version(work: Work, target: Target, name: str) -> int:
    """The version, which nobody else can change until the end of the transaction."""
    return await schema_rows.hold_schema(work.connection, target.id, name)


class Schemas(dict[Key, list[SchemaRow]]):
    """The schemas of each shadow that has any."""

    def check(self, key: Key, desired: Document | None) -> None:
        """Raises DesiredRefusedError, which names the first place that does not fit."""
        for row in self.get(key, []) if desired is not None else []:
            if found := misfit(row.schema, desired or {}):
                raise _refusal(row, found)


def _refusal(row: SchemaRow, found: Misfit) -> DesiredRefusedError:
    detail = f"It does not fit the schema of {row.title}: {found.text}"
    return DesiredRefusedError(detail, errors=(FieldError(found.field, found.message),))


async def schemas_for(work: Work, keys: Collection[Key]) -> Schemas:
    """Those that hold for these shadows; of devices' types, and of the groups that they are in now."""
    rows = await schema_rows.schemas_of(work.connection, {name for _, name in keys})
    if not rows:
        return Schemas()
    device_ids = sorted({device_id for device_id, _ in keys})
    types = await schema_rows.types_of(work.connection, device_ids)
    within = await _groups_of(work, [row.group_id for row in rows if row.group_id], device_ids)
    return Schemas(
        {
            (device_id, name): [
                row
                for row in rows
                if row.name == name and row.target in {types.get(device_id), *within.get(device_id, ())}
            ]
            for device_id, name in keys
        }
    )


async def _groups_of(work: Work, group_ids: Collection[str], device_ids: list[str]) -> Mapping[str, Collection[str]]:
    """Device id to those of these groups that it is in."""
    if not group_ids:
        return {}
    return await groups.among(work, [await groups.get(work, one) for one in sorted(set(group_ids))], device_ids)
