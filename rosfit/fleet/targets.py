"""Which devices are meant: by id, group, tag or query."""

from __future__ import annotations

from typing import Annotated

import msgspec
from psycopg import sql

from rosfit.fleet import groups
from rosfit.fleet.models import DeviceFilter, DeviceId, Reach
from rosfit.fleet.query import Condition, literal
from rosfit.kernel.errors import FieldError, InvalidError
from rosfit.kernel.work import Work

# As many ids as a body of 10 MiB can hold, roughly.
IDS_LIMIT = 100_000


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exactly one of these says which devices are meant."""

    device_ids: Annotated[list[DeviceId], msgspec.Meta(max_length=IDS_LIMIT)] | None = None
    group: str | None = None
    tag: str | None = None
    query: str | None = None


async def condition_of(work: Work, target: Target) -> Condition:
    """Raises InvalidError unless exactly one way is given, GroupNotFoundError, QueryError."""
    given = [name for name in Target.__struct_fields__ if getattr(target, name) is not None]
    if len(given) != 1:
        raise InvalidError(errors=(FieldError("target", "give one of device_ids, group, tag and query"),))
    named = getattr(target, given[0])
    if not named or (isinstance(named, str) and not named.strip()):
        # An empty filter would mean every device, which nobody says by accident twice.
        raise InvalidError(errors=(FieldError(f"target.{given[0]}", "this names no device"),))
    if target.device_ids is not None:
        return sql.SQL("d.device_id = ANY({}::text[])").format(literal(target.device_ids))
    if target.group is not None:
        return await groups.membership(work, await groups.get(work, target.group))
    wanted = DeviceFilter(tag=target.tag, q=target.query)
    return await groups.where(work, wanted, Reach())
