"""One function per query of `queries.sql`; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from rosfit.fleet.models import (
    Certificate,
    CredentialInfo,
    Device,
    DeviceChange,
    Group,
    LiveCredential,
    NewDevice,
    Revoked,
    StatusChange,
    Vitals,
)
from rosfit.kernel.queries import load_queries

QUERIES = load_queries("rosfit.fleet")

Connection = AsyncConnection[Any]


async def insert_device(connection: Connection, device_id: str, new: NewDevice) -> bool:
    """False when the id is taken."""
    cursor = await connection.execute(
        QUERIES["insert_device"],
        {
            "device_id": device_id,
            "name": new.name or device_id,
            "type": new.type,
            "tags": _unique(new.tags),
            "metadata": Jsonb(new.metadata),
        },
    )
    if await cursor.fetchone() is None:
        return False
    await connection.execute(QUERIES["insert_vitals"], {"device_id": device_id})
    return True


def _unique(tags: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(tags))


def _where(name: str, where: sql.Composable) -> sql.Composed:
    return sql.SQL(QUERIES[name]).format(where=where)


async def list_devices(
    connection: Connection, where: sql.Composable, after: str | None, limit: int
) -> list[Device]:
    """By id; the names of groups are left empty."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(_where("list_devices", where), {"after": after, "limit": limit})
    return msgspec.convert(await cursor.fetchall(), list[Device])


async def count_by_status(connection: Connection, where: sql.Composable) -> dict[str, int]:
    # With an empty mapping, so that %% in conditions means the same as beside parameters.
    cursor = await connection.execute(_where("count_by_status", where), {})
    return dict(await cursor.fetchall())


async def count_devices(connection: Connection, where: sql.Composable) -> int:
    return sum((await count_by_status(connection, where)).values())


async def device_ids(connection: Connection, where: sql.Composable) -> list[str]:
    cursor = await connection.execute(_where("device_ids", where), {})
    return [device_id for (device_id,) in await cursor.fetchall()]


async def memberships(
    connection: Connection, cases: sql.Composable, device_ids: Sequence[str]
) -> dict[str, list[str]]:
    """Device id to the names of its groups; `cases` has one expression per group."""
    statement = sql.SQL(QUERIES["memberships"]).format(cases=cases)
    return dict(await (await connection.execute(statement, {"device_ids": list(device_ids)})).fetchall())


async def count_each(
    connection: Connection, conditions: Sequence[sql.Composable], where: sql.Composable
) -> list[int]:
    """How many devices of `where` satisfy each condition."""
    counts = [sql.SQL("count(*) FILTER (WHERE {})").format(condition) for condition in conditions]
    statement = sql.SQL(QUERIES["count_each"]).format(counts=sql.SQL(", ").join(counts), where=where)
    row = await (await connection.execute(statement, {})).fetchone()
    return list(row or ())


async def insert_group(connection: Connection, group_id: str, name: str, kind: str, query: str | None) -> bool:
    """False when the name is taken."""
    values = {"group_id": group_id, "name": name, "kind": kind, "query": query}
    return await (await connection.execute(QUERIES["insert_group"], values)).fetchone() is not None


async def find_group(connection: Connection, group: str) -> Group | None:
    """By id, else by name."""
    cursor = connection.cursor(row_factory=dict_row)
    row = await (await cursor.execute(QUERIES["find_group"], {"group": group})).fetchone()
    return msgspec.convert(row, Group) if row else None


async def list_groups(connection: Connection) -> list[Group]:
    cursor = connection.cursor(row_factory=dict_row)
    return msgspec.convert(await (await cursor.execute(QUERIES["list_groups"])).fetchall(), list[Group])


async def update_group(connection: Connection, group_id: str, name: str | None, query: str | None) -> bool:
    """False when the name is taken."""
    values = {"group_id": group_id, "name": name, "query": query}
    return await (await connection.execute(QUERIES["update_group"], values)).fetchone() is not None


async def delete_group(connection: Connection, group_id: str) -> None:
    await connection.execute(QUERIES["delete_group"], {"group_id": group_id})


async def users_of_group(connection: Connection, group_id: str) -> list[str]:
    """People and keys whose rights are limited to it."""
    cursor = await connection.execute(QUERIES["users_of_group"], {"group_id": group_id})
    return [name for (name,) in await cursor.fetchall()]


async def has_layer(connection: Connection, group_id: str) -> bool:
    """Whether a shadow layer hangs on it."""
    row = await (await connection.execute(QUERIES["has_layer"], {"group_id": group_id})).fetchone()
    return bool(row and row[0])


async def add_members(connection: Connection, group_id: str, device_ids: Sequence[str]) -> None:
    await connection.execute(QUERIES["add_members"], {"group_id": group_id, "device_ids": list(device_ids)})


async def remove_members(connection: Connection, group_id: str, device_ids: Sequence[str]) -> None:
    await connection.execute(QUERIES["remove_members"], {"group_id": group_id, "device_ids": list(device_ids)})


async def clear_members(connection: Connection, group_id: str) -> None:
    await connection.execute(QUERIES["clear_members"], {"group_id": group_id})


async def list_tags(connection: Connection, where: sql.Composable) -> list[str]:
    cursor = await connection.execute(_where("list_tags", where), {})
    return [tag for (tag,) in await cursor.fetchall()]


async def lock_device(connection: Connection, device_id: str) -> tuple[str, str] | None:
    """(status, type), held until the end of the transaction."""
    cursor = await connection.execute(QUERIES["lock_device"], {"device_id": device_id})
    row: tuple[str, str] | None = await cursor.fetchone()
    return row


async def update_device(connection: Connection, device_id: str, change: DeviceChange) -> None:
    def given(value: Any) -> Any:
        return None if value is msgspec.UNSET else value

    metadata = given(change.metadata)
    tags = given(change.tags)
    await connection.execute(
        QUERIES["update_device"],
        {
            "device_id": device_id,
            "name": given(change.name),
            "tags": None if tags is None else _unique(tags),
            "metadata": None if metadata is None else Jsonb(metadata),
        },
    )


async def statuses(connection: Connection, device_ids: Sequence[str]) -> dict[str, str]:
    """The status of each of these that is registered."""
    cursor = await connection.execute(QUERIES["statuses"], {"device_ids": device_ids})
    return dict(await cursor.fetchall())


async def change_status(
    connection: Connection, changes: Sequence[tuple[str, str, str, str | None]]
) -> list[StatusChange]:
    """Apply (device_id, previous, status, reason) where `previous` still holds; return what changed."""
    device_ids, previous, new, reasons = (list(column) for column in zip(*changes, strict=True))
    cursor = await connection.execute(
        QUERIES["change_status"],
        {"device_ids": device_ids, "previous": previous, "statuses": new, "reasons": reasons},
    )
    return [StatusChange(*row) for row in await cursor.fetchall()]


async def silent_devices(connection: Connection, heard_before: datetime) -> list[tuple[str, str]]:
    """(device_id, status) of every device that was last heard before that."""
    cursor = await connection.execute(QUERIES["silent_devices"], {"heard_before": heard_before})
    return await cursor.fetchall()


async def write_vitals(connection: Connection, vitals: Mapping[str, Vitals]) -> None:
    # Sorted, so that two processes that write the same devices lock them in the same order.
    rows = sorted(vitals.items())
    await connection.execute(
        QUERIES["write_vitals"],
        {
            "device_ids": [device_id for device_id, _ in rows],
            "last_seen": [row.last_seen for _, row in rows],
            "battery": [row.battery for _, row in rows],
            "pose": [None if row.pose is None else msgspec.json.encode(row.pose).decode() for _, row in rows],
        },
    )


async def get_layout(connection: Connection, device_id: str) -> dict[str, str] | None:
    """The layout in which a device last spoke, with its variables."""
    row = await (await connection.execute(QUERIES["get_layout"], {"device_id": device_id})).fetchone()
    return row[0] if row else None


async def remember_layouts(connection: Connection, layouts: Mapping[str, Mapping[str, str]]) -> None:
    await connection.execute(
        QUERIES["remember_layouts"],
        {
            "device_ids": list(layouts),
            "layouts": [msgspec.json.encode(layout).decode() for layout in layouts.values()],
        },
    )


async def insert_credential(
    connection: Connection,
    credential_id: str,
    device_id: str,
    username: str,
    kind: str,
    broker_hash: str,
    scopes: Sequence[str],
    expires_at: datetime | None,
) -> str | None:
    """The expiry as it goes on the wire."""
    cursor = await connection.execute(
        QUERIES["insert_credential"],
        {
            "credential_id": credential_id,
            "device_id": device_id,
            "username": username,
            "kind": kind,
            "broker_hash": broker_hash,
            "scopes": list(scopes),
            "expires_at": expires_at,
        },
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def revoke_credentials(connection: Connection, device_id: str) -> None:
    await connection.execute(QUERIES["revoke_credentials"], {"device_id": device_id})


async def revoke_username(connection: Connection, username: str) -> None:
    await connection.execute(QUERIES["revoke_username"], {"username": username})


async def revoke_credential(connection: Connection, device_id: str, credential_id: str) -> bool:
    """False when the device has no such credential in use."""
    values = {"device_id": device_id, "credential_id": credential_id}
    return await (await connection.execute(QUERIES["revoke_credential"], values)).fetchone() is not None


async def end_credentials(connection: Connection, device_id: str, expires_at: datetime) -> None:
    """No credential of the device lives on after `expires_at`."""
    await connection.execute(QUERIES["end_credentials"], {"device_id": device_id, "expires_at": expires_at})


async def list_credentials(connection: Connection, device_id: str) -> list[CredentialInfo]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(QUERIES["list_credentials"], {"device_id": device_id})
    return msgspec.convert(await cursor.fetchall(), list[CredentialInfo])


async def live_credentials(connection: Connection, device_id: str | None = None) -> list[LiveCredential]:
    """Of one device, or of all."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(QUERIES["live_credentials"], {"device_id": device_id})
    return msgspec.convert(await cursor.fetchall(), list[LiveCredential])


async def insert_certificate(
    connection: Connection, serial: str, device_id: str, fingerprint: str, expires_at: datetime
) -> None:
    values = {"serial": serial, "device_id": device_id, "fingerprint": fingerprint, "expires_at": expires_at}
    await connection.execute(QUERIES["insert_certificate"], values)


async def list_certificates(connection: Connection, device_id: str) -> list[Certificate]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(QUERIES["list_certificates"], {"device_id": device_id})
    return msgspec.convert(await cursor.fetchall(), list[Certificate])


async def revoke_certificate(connection: Connection, device_id: str, serial: str) -> bool:
    """False when the device has no such certificate in use."""
    values = {"device_id": device_id, "serial": serial}
    return await (await connection.execute(QUERIES["revoke_certificate"], values)).fetchone() is not None


async def revoke_certificates(connection: Connection, device_id: str) -> None:
    await connection.execute(QUERIES["revoke_certificates"], {"device_id": device_id})


async def certified_devices(connection: Connection, device_id: str | None = None) -> frozenset[str]:
    """Devices that hold a certificate which is neither revoked nor run out: all of them, or this one."""
    cursor = await connection.execute(QUERIES["certified_devices"], {"device_id": device_id})
    return frozenset([found for (found,) in await cursor.fetchall()])


async def revoked_certificates(connection: Connection) -> list[Revoked]:
    """Those that have not run out."""
    cursor = connection.cursor(row_factory=dict_row)
    return msgspec.convert(await (await cursor.execute(QUERIES["revoked_certificates"])).fetchall(), list[Revoked])


async def next_expiry(connection: Connection) -> datetime | None:
    row = await (await connection.execute(QUERIES["next_expiry"])).fetchone()
    return row[0] if row else None
