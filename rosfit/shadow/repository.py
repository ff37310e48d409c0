"""One function per query of `queries.sql`; the caller owns the transaction."""

from __future__ import annotations

from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from rosfit.kernel.queries import load_queries
from rosfit.shadow.models import Drift, Due, Section, Stored, Version

QUERIES = load_queries("rosfit.shadow")

Connection = AsyncConnection[Any]


async def _all(connection: Connection, query: str, **values: Any) -> list[dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    return await (await cursor.execute(QUERIES[query], values)).fetchall()


async def lock_shadow(connection: Connection, device_id: str, name: str) -> Stored:
    """The shadow, made where there is none, held until the end of the transaction."""
    rows = await _all(connection, "lock_shadow", device_id=device_id, name=name)
    if not rows:
        await connection.execute(QUERIES["make_shadow"], {"device_id": device_id, "name": name})
        rows = await _all(connection, "lock_shadow", device_id=device_id, name=name)
    return msgspec.convert(rows[0], Stored)


async def get_shadow(connection: Connection, device_id: str, name: str) -> Stored | None:
    rows = await _all(connection, "get_shadow", device_id=device_id, name=name)
    return msgspec.convert(rows[0], Stored) if rows else None


async def list_names(connection: Connection, device_id: str) -> list[str]:
    return [row["name"] for row in await _all(connection, "list_names", device_id=device_id)]


async def drifts(connection: Connection, device_ids: list[str]) -> list[Drift]:
    return msgspec.convert(await _all(connection, "drifts", device_ids=device_ids), list[Drift])


async def write_shadow(
    connection: Connection,
    device_id: str,
    name: str,
    stored: Stored,
    *,
    differs: bool,
    told: bool,
    section: Section,
    author: str,
    reason: str | None,
) -> None:
    """A new version and its place in the history. `told`: the device is to hear of it."""

    def json(value: Any) -> Jsonb | None:
        return None if value is None else Jsonb(value)

    await connection.execute(
        QUERIES["write_shadow"],
        {
            "device_id": device_id,
            "name": name,
            "version": stored.version,
            "desired": json(stored.desired),
            "reported": json(stored.reported),
            "desired_metadata": json(stored.desired_metadata),
            "reported_metadata": json(stored.reported_metadata),
            "last_seq": stored.last_seq,
            "differs": differs,
            "told": told,
            "section": section,
            "author": author,
            "reason": reason,
        },
    )


async def ask_delta(connection: Connection, device_id: str, name: str) -> None:
    """Have the device told once more what differs, if anything does."""
    await connection.execute(QUERIES["ask_delta"], {"device_id": device_id, "name": name})


async def history(connection: Connection, device_id: str, name: str, before: int | None, limit: int) -> list[Version]:
    """Newest first."""
    rows = await _all(connection, "history", device_id=device_id, name=name, before=before, limit=limit)
    return msgspec.convert(rows, list[Version])


async def get_version(connection: Connection, device_id: str, name: str, version: int) -> Version | None:
    rows = await _all(connection, "get_version", device_id=device_id, name=name, version=version)
    return msgspec.convert(rows[0], Version) if rows else None


async def get_answer(
    connection: Connection, device_id: str, name: str, client_token: str
) -> tuple[str, dict[str, Any]] | None:
    """(digest of the report, the answer it got)."""
    rows = await _all(connection, "get_answer", device_id=device_id, name=name, client_token=client_token)
    return (rows[0]["digest"], rows[0]["answer"]) if rows else None


async def keep_answer(
    connection: Connection, device_id: str, name: str, client_token: str, digest: str, answer: dict[str, Any]
) -> None:
    values = {"device_id": device_id, "name": name, "client_token": client_token, "digest": digest}
    await connection.execute(QUERIES["keep_answer"], values | {"answer": Jsonb(answer)})


async def trim(connection: Connection, keep: int) -> None:
    """Drop answers of yesterday, and all but the last `keep` versions of each shadow."""
    await connection.execute(QUERIES["trim"], {"keep": keep})


async def lock_due(connection: Connection, limit: int) -> list[Due]:
    return msgspec.convert(await _all(connection, "lock_due", limit=limit), list[Due])


async def told(connection: Connection, device_id: str, name: str, *, connected: bool) -> None:
    await connection.execute(QUERIES["told"], {"device_id": device_id, "name": name, "connected": connected})
