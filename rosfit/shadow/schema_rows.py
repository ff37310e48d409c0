"""Schemas as they are stored: one for each device type and each group that has one, per name of a shadow."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from psycopg.types.json import Json

from rosfit.kernel.clock import WireTime
from rosfit.shadow.delta import Document
from rosfit.shadow.repository import QUERIES, Connection, fetch_all


class ShadowSchema(msgspec.Struct, frozen=True):
    """`target` is the device type, or the group's id; `group` its name."""

    target: str
    group: str | None
    name: str
    version: int
    schema: Document
    updated_at: WireTime | None = None
    updated_by: str | None = None


class SchemaRow(msgspec.Struct, frozen=True):
    target: str
    name: str
    device_type: str | None
    group_id: str | None
    group: str | None
    schema: Document

    @property
    def title(self) -> str:
        return title_of(self.target, self.group)


def title_of(target: str, group: str | None) -> str:
    return f"devices of type {target}" if group is None else f"the group {group}"


async def list_schemas(connection: Connection) -> list[ShadowSchema]:
    """Those of types, then those of groups."""
    return msgspec.convert(await fetch_all(connection, "list_schemas"), list[ShadowSchema])


async def schemas_of(connection: Connection, names: Collection[str]) -> list[SchemaRow]:
    """All for these names of shadows."""
    return msgspec.convert(await fetch_all(connection, "schemas_of", names=list(names)), list[SchemaRow])


async def hold_schema(connection: Connection, target: str, name: str) -> int:
    """The version, held until the end of the transaction; 0 where there is none."""
    rows = await fetch_all(connection, "hold_schema", target=target, name=name)
    return int(rows[0]["version"]) if rows else 0


async def write_schema(
    connection: Connection, target: str, group_id: str | None, name: str, schema: Document, author: str
) -> None:
    values = {
        "target": target,
        "device_type": None if group_id else target,
        "group_id": group_id,
        "name": name,
        "schema": Json(schema),
        "author": author,
    }
    await connection.execute(QUERIES["write_schema"], values)


async def delete_schema(connection: Connection, target: str, name: str) -> None:
    await connection.execute(QUERIES["delete_schema"], {"target": target, "name": name})


async def types_of(connection: Connection, device_ids: Collection[str]) -> dict[str, str]:
    rows = await fetch_all(connection, "types_of", device_ids=list(device_ids))
    return {row["device_id"]: row["type"] for row in rows}
