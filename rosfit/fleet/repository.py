"""One function per query of `queries.sql`; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from rosfit.fleet.models import Device, DeviceChange, DeviceFilter, NewDevice, StatusChange, Vitals
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


async def get_device(connection: Connection, device_id: str) -> Device | None:
    cursor = connection.cursor(row_factory=dict_row)
    row = await (await cursor.execute(QUERIES["get_device"], {"device_id": device_id})).fetchone()
    return msgspec.convert(row, Device) if row else None


def _filter(wanted: DeviceFilter) -> dict[str, Any]:
    pattern = None
    if wanted.q:
        escaped = wanted.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        pattern = f"%{escaped}%"
    return {"status": list(wanted.status) or None, "type": wanted.type, "tag": wanted.tag, "q": pattern}


async def list_devices(connection: Connection, wanted: DeviceFilter, after: str | None, limit: int) -> list[Device]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(QUERIES["list_devices"], _filter(wanted) | {"after": after, "limit": limit})
    return msgspec.convert(await cursor.fetchall(), list[Device])


async def count_by_status(connection: Connection, wanted: DeviceFilter) -> dict[str, int]:
    cursor = await connection.execute(QUERIES["count_by_status"], _filter(wanted))
    return dict(await cursor.fetchall())


async def list_tags(connection: Connection) -> list[str]:
    cursor = await connection.execute(QUERIES["list_tags"])
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


async def silent_devices(connection: Connection, timeout_s: float) -> list[tuple[str, str]]:
    """(device_id, status) of every device not heard within `timeout_s`."""
    cursor = await connection.execute(QUERIES["silent_devices"], {"timeout_s": timeout_s})
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
            "broker_hash": broker_hash,
            "scopes": list(scopes),
            "expires_at": expires_at,
        },
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def revoke_credentials(connection: Connection, device_id: str) -> None:
    await connection.execute(QUERIES["revoke_credentials"], {"device_id": device_id})


async def broker_accounts(connection: Connection) -> dict[str, str]:
    """Username to broker hash, for every credential that is valid now."""
    cursor = await connection.execute(QUERIES["broker_accounts"])
    return dict(await cursor.fetchall())


async def next_expiry(connection: Connection) -> datetime | None:
    row = await (await connection.execute(QUERIES["next_expiry"])).fetchone()
    return row[0] if row else None
