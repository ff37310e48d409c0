"""Layers as they are stored: one for the fleet and one for each group that has any, per name of a shadow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.types.json import Jsonb

from rosfit.kernel.clock import WireTime
from rosfit.kernel.ids import new_id
from rosfit.shadow.overlay import Layer
from rosfit.shadow.repository import QUERIES, Key, columns_of, fetch_all

Connection = AsyncConnection[Any]


class LayerRow(msgspec.Struct, frozen=True):
    """Without a group it is the fleet's. `at`: the database's time when it was read."""

    layer_id: str
    group_id: str | None
    priority: int
    version: int
    desired: dict[str, Any]
    metadata: dict[str, Any]
    at: WireTime = ""

    @property
    def order(self) -> tuple[bool, int, str]:
        """From the bottom up: the fleet, then groups by priority."""
        return self.group_id is not None, self.priority, self.layer_id


class Listed(msgspec.Struct, frozen=True):
    layer_id: str
    name: str
    group_id: str | None
    group_name: str | None
    priority: int
    version: int
    desired: dict[str, Any]
    metadata: dict[str, Any]
    updated_at: WireTime
    updated_by: str
    devices: int


class Refresh(msgspec.Struct, frozen=True):
    """A shadow whose desired is to be made anew, and on whose account."""

    device_id: str
    name: str
    reason: str
    author: str


class Below(dict[Key, list[LayerRow]]):
    """The layers under each shadow that has any."""

    def of(self, key: Key) -> list[Layer]:
        return stacked(self.get(key, []))


def stacked(rows: Sequence[LayerRow]) -> list[Layer]:
    return [Layer(row.desired, row.metadata) for row in sorted(rows, key=lambda row: row.order)]


async def layers_below(connection: Connection, keys: Sequence[Key]) -> Below:
    found = Below()
    for row in await fetch_all(connection, "layers_below", **columns_of(keys)):
        found.setdefault((row["device_id"], row["name"]), []).append(msgspec.convert(row, LayerRow))
    return found


async def list_layers(connection: Connection) -> list[Listed]:
    """From the bottom up."""
    return msgspec.convert(await fetch_all(connection, "list_layers"), list[Listed])


async def hold_layer(connection: Connection, group_id: str | None, name: str) -> LayerRow | None:
    """Held until the end of the transaction."""
    rows = await fetch_all(connection, "hold_layer", group_id=group_id, name=name)
    return msgspec.convert(rows[0], LayerRow) if rows else None


async def make_layer(connection: Connection, group_id: str | None, name: str, author: str) -> None:
    values = {"layer_id": new_id("lay"), "group_id": group_id, "name": name, "updated_by": author}
    await connection.execute(QUERIES["make_layer"], values)


async def write_layer(connection: Connection, row: LayerRow, author: str) -> None:
    values = {
        "layer_id": row.layer_id,
        "version": row.version,
        "priority": row.priority,
        "desired": Jsonb(row.desired),
        "metadata": Jsonb(row.metadata),
        "updated_by": author,
    }
    await connection.execute(QUERIES["write_layer"], values)


async def delete_layer(connection: Connection, layer_id: str) -> None:
    await connection.execute(QUERIES["delete_layer"], {"layer_id": layer_id})


async def refresh_members(connection: Connection, layer_id: str, name: str, reason: str, author: str) -> None:
    """Every shadow that the layer is under is to be made anew."""
    values = {"layer_id": layer_id, "name": name, "reason": reason, "author": author}
    await connection.execute(QUERIES["refresh_members"], values)


async def refresh_where(
    connection: Connection, name: str, where: sql.Composable, reason: str, author: str
) -> None:
    """Every shadow of these devices that has any layer under it is to be made anew."""
    values = {"name": name, "reason": reason, "author": author}
    await connection.execute(sql.SQL(QUERIES["refresh_where"]).format(where=where), values)


async def look_at_members(
    connection: Connection, layer_id: str, name: str, where: sql.Composable, reason: str, author: str
) -> None:
    """Whom the layer reaches now; the shadows of those who came or went are to be made anew."""
    values = {"layer_id": layer_id, "name": name, "reason": reason, "author": author}
    await connection.execute(sql.SQL(QUERIES["look_at_members"]).format(where=where), values)


async def may_look(connection: Connection) -> bool:
    """One process at a time, until the end of the transaction."""
    row = await (await connection.execute(QUERIES["one_looks"])).fetchone()
    return bool(row and row[0])


async def take_refreshes(connection: Connection, limit: int) -> list[Refresh]:
    return msgspec.convert(await fetch_all(connection, "take_refreshes", limit=limit), list[Refresh])
