"""How desired values stand to schemas and layers now: what does not fit, and what did not reach a device."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from rosfit.fleet import groups
from rosfit.fleet import repository as fleet
from rosfit.fleet.models import Group, Reach
from rosfit.fleet.query import EVERYTHING, Condition, all_of
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.work import Work
from rosfit.shadow import repository
from rosfit.shadow.delta import Document, same
from rosfit.shadow.errors import DesiredRefusedError, ShadowTooLargeError
from rosfit.shadow.fitting import misfit
from rosfit.shadow.layer_rows import Below, layers_below
from rosfit.shadow.layers import PRESENT
from rosfit.shadow.models import Stored
from rosfit.shadow.repository import Key
from rosfit.shadow.revisions import layered
from rosfit.shadow.schema_rows import SchemaRow
from rosfit.shadow.schemas import Schemas, Target, members_of, schemas_for

# Between batches others are served.
BATCH = 200
SAMPLE = 50
# A large schema over large values may take half a second for each device.
PATIENCE_S = 2.0


class Unfit(msgspec.Struct, frozen=True):
    """A device, and why its desired does not fit, or cannot be what its layers ask for."""

    device_id: str
    reason: str


class Looked(msgspec.Struct, frozen=True):
    """What is wrong with `unfit` of `looked` devices, and the first of them; `left` would have taken too long."""

    looked: int
    unfit: int
    sample: list[Unfit]
    left: int = 0


class Standing(msgspec.Struct, frozen=True):
    """Of one shadow: the schemas that hold, why desired does not fit, and why its layers' values are not in it."""

    schemas: list[SchemaRow]
    misfit: str = ""
    refused: str = ""


Look = Callable[[Work, Sequence[Key]], Awaitable[list[Unfit]]]


async def misfits(work: Work, target: Target, name: str, schema: Document, reach: Reach) -> Looked:
    """Whose desired does not fit this schema, within reach; the schema is one that `check_schema` has taken."""

    async def look(work: Work, keys: Sequence[Key]) -> list[Unfit]:
        shadows = await repository.get_shadows(work.connection, keys)
        found = [(key[0], misfit(schema, one.desired)) for key, one in shadows.items() if one.desired is not None]
        return [Unfit(device_id, one.text) for device_id, one in found if one]

    return await _walk(work, await groups.where(work, members_of(target), reach), name, look)


async def refusals(work: Work, group: Group | None, name: str, reach: Reach) -> Looked:
    """Who is to have the values of the fleet or of a group, within reach, and cannot have what they make of desired."""

    async def look(work: Work, keys: Sequence[Key]) -> list[Unfit]:
        shadows = await repository.get_shadows(work.connection, keys)
        below = await layers_below(work.connection, keys)
        schemas = await schemas_for(work, keys)
        found = [(key[0], _refusal(schemas, key, shadows.get(key), below)) for key in keys]
        return [Unfit(device_id, why) for device_id, why in found if why]

    members = await groups.membership(work, group) if group else EVERYTHING
    return await _walk(work, all_of([members, await groups.visible(work, reach)]), name, look)


async def standing(work: Work, device_id: str, name: str) -> Standing:
    key = device_id, name
    stored = (await repository.get_shadows(work.connection, [key])).get(key)
    below = await layers_below(work.connection, [key])
    schemas = await schemas_for(work, [key])
    why = _why_not(schemas, key, stored.desired if stored else None)
    return Standing(schemas.get(key, []), why, _refusal(schemas, key, stored, below))


async def _walk(work: Work, where: Condition, name: str, look: Look) -> Looked:
    device_ids = await fleet.device_ids(work.connection, all_of([where, PRESENT]))
    until = time.monotonic() + PATIENCE_S
    unfit: list[Unfit] = []
    looked = 0
    while looked < len(device_ids) and time.monotonic() < until:
        batch = device_ids[looked : looked + BATCH]
        unfit += await look(work, [(device_id, name) for device_id in batch])
        looked += len(batch)
    return Looked(looked, len(unfit), unfit[:SAMPLE], len(device_ids) - looked)


def _refusal(schemas: Schemas, key: Key, stored: Stored | None, below: Below) -> str:
    """Why the layers' values are not in desired; nothing where they are, or are about to be."""
    stored = stored or Stored(format_time(now()))
    try:
        wanted = layered(stored, below.of(key)).desired
    except ShadowTooLargeError as error:
        return error.detail
    return "" if same(wanted, stored.desired) else _why_not(schemas, key, wanted)


def _why_not(schemas: Schemas, key: Key, desired: Document | None) -> str:
    try:
        schemas.check(key, desired)
    except DesiredRefusedError as error:
        return error.detail
    return ""
