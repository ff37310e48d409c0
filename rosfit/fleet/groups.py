"""Groups of devices: lists that people keep, and saved queries; and what a limited actor may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from psycopg import sql
from psycopg.errors import ForeignKeyViolation

from rosfit.fleet import query, repository
from rosfit.fleet.errors import DeviceNotFoundError, GroupExistsError, GroupInUseError, GroupNotFoundError
from rosfit.fleet.models import Device, DeviceFilter, DeviceId, Group, Reach
from rosfit.fleet.query import Condition, QueryError
from rosfit.kernel.errors import FieldError, InvalidError
from rosfit.kernel.ids import new_id
from rosfit.kernel.work import Work

SAMPLE = 5

GroupName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,99}$(?!\n)")]


class NewGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A static list has `device_ids`, a saved query has `query`; `kind` may say the same."""

    name: GroupName
    kind: Literal["static", "query"] | None = None
    device_ids: list[DeviceId] = []
    query: str | None = None


class GroupChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`device_ids` replaces the whole list; `add` and `remove` change it."""

    name: GroupName | msgspec.UnsetType = msgspec.UNSET
    query: str | msgspec.UnsetType = msgspec.UNSET
    device_ids: list[DeviceId] | msgspec.UnsetType = msgspec.UNSET
    add: list[DeviceId] = []
    remove: list[DeviceId] = []


class Preview(msgspec.Struct, frozen=True):
    """How many devices a query finds now, and the first few."""

    count: int
    sample: list[Device]


async def create(work: Work, new: NewGroup) -> Group:
    kind: Literal["static", "query"] = "static" if new.query is None else "query"
    if new.kind not in {None, kind} or (new.query is not None and new.device_ids):
        raise InvalidError(errors=(FieldError("query", "a saved query has `query`, a static list `device_ids`"),))
    if new.query is not None:
        await _check_saved(work, new.query)
    group_id = new_id("grp")
    if not await repository.insert_group(work.connection, group_id, new.name, kind, new.query):
        raise GroupExistsError(f"There is a group {new.name!r} already")
    await _add_members(work, group_id, new.device_ids)
    return await get(work, group_id)


async def get(work: Work, group: str) -> Group:
    """By id or name. Raises GroupNotFoundError."""
    found = await repository.find_group(work.connection, group)
    if found is None:
        raise GroupNotFoundError(f"There is no group {group[:100]!r}")
    return found


async def listing(work: Work) -> list[Group]:
    return await repository.list_groups(work.connection)


async def change(work: Work, group: str, wanted: GroupChange) -> Group:
    found = await get(work, group)
    if isinstance(wanted.name, str) and wanted.name.lower() != found.name.lower():
        await _check_not_asked_for(work, found, {found.name.lower()})
    members_change = wanted.device_ids is not msgspec.UNSET or wanted.add or wanted.remove
    if (found.kind == "query" and members_change) or (found.kind == "static" and wanted.query is not msgspec.UNSET):
        raise InvalidError(errors=(FieldError("kind", f"{found.name} is a {found.kind} group"),))
    if isinstance(wanted.query, str):
        await _check_saved(work, wanted.query)
        await _check_layers(work, found, wanted.query)
    if not await repository.update_group(
        work.connection,
        found.group_id,
        wanted.name if isinstance(wanted.name, str) else None,
        wanted.query if isinstance(wanted.query, str) else None,
    ):
        raise GroupExistsError(f"There is a group {wanted.name!r} already")
    if isinstance(wanted.device_ids, list):
        await repository.clear_members(work.connection, found.group_id)
        await _add_members(work, found.group_id, wanted.device_ids)
    await _add_members(work, found.group_id, wanted.add)
    if wanted.remove:
        await repository.remove_members(work.connection, found.group_id, wanted.remove)
    return await get(work, found.group_id)


async def remove(work: Work, group: str) -> Group:
    """Raises GroupInUseError while it has a shadow layer, or rights are limited to it: they would see more."""
    found = await get(work, group)
    await _check_not_asked_for(work, found, {found.name.lower(), found.group_id})
    if users := await repository.users_of_group(work.connection, found.group_id):
        raise GroupInUseError(f"{found.name} limits {', '.join(users[:5])}; change those first")
    try:
        async with work.part():
            await repository.delete_group(work.connection, found.group_id)
    except ForeignKeyViolation as error:
        raise GroupInUseError(f"{found.name} has desired values of its own; remove those first") from error
    return found


async def _add_members(work: Work, group_id: str, device_ids: Sequence[str]) -> None:
    if not device_ids:
        return
    known = await repository.statuses(work.connection, list(device_ids))
    if unknown := [device_id for device_id in device_ids if device_id not in known]:
        raise DeviceNotFoundError(f"Not registered: {', '.join(unknown[:10])}")
    await repository.add_members(work.connection, group_id, list(device_ids))


async def _check_saved(work: Work, text: str) -> None:
    terms = query.parse_query(text)
    if not terms:
        raise QueryError("An empty query would mean every device; write what you mean, as in -status:decommissioned")
    await condition_of(work, text, within_group=True)


async def _check_not_asked_for(work: Work, group: Group, names: set[str]) -> None:
    """A saved query that asks for a group which is not there any more could not be understood."""
    for other in await listing(work):
        if other.query is not None and names & {name.lower() for name in _groups_in(other.query)}:
            raise GroupInUseError(f"The saved query {other.name} asks for {group.name}; change that first")


def _groups_in(text: str) -> list[str]:
    try:
        return query.groups_in(query.parse_query(text))
    except QueryError:
        return []


async def _check_layers(work: Work, group: Group, text: str) -> None:
    """Its own desired values would change who is in it, and so on for ever."""
    if query.asks_shadows(text) and await repository.has_layer(work.connection, group.group_id):
        raise QueryError(f"{group.name} has desired values of its own, so it cannot find devices by their shadows")


async def preview(work: Work, text: str, reach: Reach) -> Preview:
    """What a query finds, before it is saved."""
    where = query.all_of([await visible(work, reach), await condition_of(work, text, within_group=True)])
    devices = await repository.list_devices(work.connection, where, None, SAMPLE)
    return Preview(await repository.count_devices(work.connection, where), devices)


async def counts(work: Work, listed: Sequence[Group], reach: Reach) -> dict[str, int]:
    """How many devices within reach each group holds now, by group id."""
    if not listed:
        return {}
    conditions = [await _shown_members(work, group) for group in listed]
    found = await repository.count_each(work.connection, conditions, await visible(work, reach))
    return {group.group_id: count for group, count in zip(listed, found, strict=True)}


async def in_reach(work: Work, listed: Sequence[Group], reach: Reach) -> list[Group]:
    """Those that hold something within reach, or are the limit itself; static lists count what is within reach."""
    if reach.is_everything:
        return list(listed)
    found = await counts(work, listed, reach)
    return [
        msgspec.structs.replace(group, count=None if group.count is None else found[group.group_id])
        for group in listed
        if shown(group, found, reach)
    ]


def shown(group: Group, counts: Mapping[str, int], reach: Reach) -> bool:
    """Whether somebody with this reach may know of the group."""
    return reach.is_everything or group.group_id in reach.groups or counts[group.group_id] > 0


async def get_in_reach(work: Work, group: str, reach: Reach) -> Group:
    """Raises GroupNotFoundError, also for a group that holds nothing within reach."""
    if shown := await in_reach(work, [await get(work, group)], reach):
        return shown[0]
    raise GroupNotFoundError(f"There is no group {group[:100]!r}")


async def condition_of(work: Work, text: str, *, within_group: bool = False) -> Condition:
    """A query as a condition. Within a group it may ask for static groups only, so that none contains itself."""
    terms = query.parse_query(text)
    conditions = {name: await _named(work, name, within_group) for name in query.groups_in(terms)}
    return query.to_sql(terms, conditions)


async def _named(work: Work, name: str, within_group: bool) -> Condition:
    group = await repository.find_group(work.connection, name)
    if group is None:
        raise QueryError(f"There is no group {name!r}")
    if within_group and group.kind == "query":
        raise QueryError(f"{name!r} is a saved query; a saved query may ask for static groups only")
    return await membership(work, group)


async def membership(work: Work, group: Group) -> Condition:
    """The condition under which a device is in the group."""
    if group.query is not None:
        return await condition_of(work, group.query, within_group=True)
    return sql.SQL(
        "EXISTS (SELECT FROM group_members m WHERE m.device_id = d.device_id AND m.group_id = {})"
    ).format(query.literal(group.group_id))


async def _shown_members(work: Work, group: Group) -> Condition:
    """As `membership`; a query that an older version saved and this one cannot understand shows nobody."""
    try:
        return await membership(work, group)
    except QueryError:
        return query.NOTHING


async def visible(work: Work, reach: Reach) -> Condition:
    """The condition under which somebody with this reach may see a device."""
    if reach.is_everything:
        return query.EVERYTHING
    conditions: list[Condition] = []
    if reach.tags:
        conditions.append(sql.SQL("d.tags && {}::text[]").format(query.literal(list(reach.tags))))
    for group_id in reach.groups:
        if group := await repository.find_group(work.connection, group_id):
            conditions.append(await membership(work, group))
    return query.any_of(conditions)


async def where(work: Work, wanted: DeviceFilter, reach: Reach, *, with_status: bool = True) -> Condition:
    """Everything a list is filtered by, as one condition."""
    conditions = [await visible(work, reach)]
    if wanted.status and with_status:
        conditions.append(sql.SQL("d.status = ANY({}::text[])").format(query.literal(list(wanted.status))))
    if wanted.type:
        conditions.append(sql.SQL("d.type = {}").format(query.literal(wanted.type)))
    if wanted.tag:
        conditions.append(sql.SQL("d.tags @> ARRAY[{}]::text[]").format(query.literal(wanted.tag)))
    if wanted.group:
        conditions.append(await membership(work, await get(work, wanted.group)))
    if wanted.q:
        conditions.append(await condition_of(work, wanted.q))
    return query.all_of(conditions)


async def with_groups(work: Work, devices: list[Device]) -> list[Device]:
    """The same devices with the names of the groups they are in."""
    groups = await repository.list_groups(work.connection)
    if not groups or not devices:
        return devices
    conditions = {group.name: await _shown_members(work, group) for group in groups}
    names = await _memberships(work, conditions, [device.device_id for device in devices])
    return [msgspec.structs.replace(device, groups=names.get(device.device_id, [])) for device in devices]


async def among(work: Work, wanted: Sequence[Group], device_ids: Sequence[str]) -> dict[str, list[str]]:
    """Device id to the ids of those of the wanted groups that it is in now."""
    return await _memberships(work, {group.group_id: await membership(work, group) for group in wanted}, device_ids)


async def _memberships(
    work: Work, conditions: Mapping[str, Condition], device_ids: Sequence[str]
) -> dict[str, list[str]]:
    cases = [
        sql.SQL("CASE WHEN {} THEN {} END").format(condition, query.literal(name))
        for name, condition in conditions.items()
    ]
    return await repository.memberships(work.connection, sql.SQL(", ").join(cases), device_ids)
