"""One function per query of `queries.sql`; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from rosfit.kernel.queries import load_queries
from rosfit.shadow.models import Drift, Due, Stored, Version, Written

QUERIES = load_queries("rosfit.shadow")

Connection = AsyncConnection[Any]

# (device_id, name), and with the client_token of a report.
Key = tuple[str, str]
Token = tuple[str, str, str]


class Answer(NamedTuple):
    """What was answered to a report, and the digest by which the same report is known again."""

    digest: str
    answer: dict[str, Any]


async def fetch_all(connection: Connection, query: str, **values: Any) -> list[dict[str, Any]]:
    """The rows of one of this room's queries."""
    cursor = connection.cursor(row_factory=dict_row)
    return await (await cursor.execute(QUERIES[query], values)).fetchall()


async def hold_shadows(connection: Connection, keys: Iterable[Key]) -> dict[Key, Stored]:
    """The shadows, made where there are none, held until the end of the transaction; always in the same order."""
    wanted = sorted(set(keys))
    values = columns_of(wanted)
    rows = await fetch_all(connection, "hold_shadows", **values)
    if len(rows) < len(wanted):
        await connection.execute(QUERIES["make_shadows"], values)
        rows = await fetch_all(connection, "hold_shadows", **values)
    return {(row["device_id"], row["name"]): msgspec.convert(row, Stored) for row in rows}


async def get_shadows(connection: Connection, keys: Sequence[Key]) -> dict[Key, Stored]:
    """Those that there are."""
    rows = await fetch_all(connection, "get_shadows", **columns_of(keys))
    return {(row["device_id"], row["name"]): msgspec.convert(row, Stored) for row in rows}


def columns_of(keys: Sequence[Key]) -> dict[str, list[str]]:
    """Keys as the two arrays that queries take."""
    return {"device_ids": [device_id for device_id, _ in keys], "names": [name for _, name in keys]}


async def list_names(connection: Connection, device_id: str) -> list[str]:
    return [row["name"] for row in await fetch_all(connection, "list_names", device_id=device_id)]


async def drifts(connection: Connection, device_ids: list[str]) -> list[Drift]:
    return msgspec.convert(await fetch_all(connection, "drifts", device_ids=device_ids), list[Drift])


async def write_shadows(connection: Connection, written: Sequence[Written]) -> None:
    """New versions, several of one shadow in their order, and their places in the history."""
    if not written:
        return
    newest = {(one.device_id, one.name): one.stored for one in written}
    await update_shadows(connection, newest, {(one.device_id, one.name) for one in written if one.told})
    versions = [
        {
            "device_id": one.device_id,
            "name": one.name,
            "version": one.stored.version,
            "author": one.author,
            "reason": one.reason,
            "section": one.section,
            "desired": one.stored.desired,
            "reported": one.stored.reported,
        }
        for one in written
    ]
    await connection.execute(QUERIES["insert_history"], {"rows": _json(versions)})


async def update_shadows(connection: Connection, shadows: Mapping[Key, Stored], told: Collection[Key]) -> None:
    """As they are now, without a place in the history; devices hear of those in `told`."""
    rows = [
        {"device_id": key[0], "name": key[1], "told": key in told, **msgspec.structs.asdict(stored)}
        for key, stored in shadows.items()
    ]
    if rows:
        await connection.execute(QUERIES["write_shadows"], {"rows": _json(rows)})


def _json(rows: list[Any]) -> str:
    """Rows as one JSON parameter."""
    return msgspec.json.encode(rows).decode()


async def ask_delta(connection: Connection, device_id: str, name: str) -> None:
    """Have the device told once more what differs, if anything does."""
    await connection.execute(QUERIES["ask_delta"], {"device_id": device_id, "name": name})


async def history(connection: Connection, device_id: str, name: str, before: int | None, limit: int) -> list[Version]:
    """Newest first."""
    rows = await fetch_all(connection, "history", device_id=device_id, name=name, before=before, limit=limit)
    return msgspec.convert(rows, list[Version])


async def get_version(connection: Connection, device_id: str, name: str, version: int) -> Version | None:
    rows = await fetch_all(connection, "get_version", device_id=device_id, name=name, version=version)
    return msgspec.convert(rows[0], Version) if rows else None


async def known_answers(connection: Connection, tokens: Iterable[Token]) -> dict[Token, Answer]:
    wanted = sorted(set(tokens))
    device_ids, names, client_tokens = zip(*wanted, strict=True) if wanted else ((), (), ())
    values = {"device_ids": list(device_ids), "names": list(names), "client_tokens": list(client_tokens)}
    rows = await fetch_all(connection, "known_answers", **values) if wanted else []
    return {
        (row["device_id"], row["name"], row["client_token"]): Answer(row["digest"], row["answer"]) for row in rows
    }


async def keep_answers(connection: Connection, answers: Mapping[Token, Answer]) -> None:
    rows = [
        {"device_id": device_id, "name": name, "client_token": client_token, **answer._asdict()}
        for (device_id, name, client_token), answer in sorted(answers.items())
    ]
    if rows:
        await connection.execute(QUERIES["keep_answers"], {"rows": _json(rows)})


async def trim(connection: Connection, keep: int) -> None:
    """Drop answers of yesterday, and all but the last `keep` versions of each shadow."""
    await connection.execute(QUERIES["trim"], {"keep": keep})


async def lock_due(connection: Connection, limit: int) -> list[Due]:
    return msgspec.convert(await fetch_all(connection, "lock_due", limit=limit), list[Due])


async def told(connection: Connection, device_id: str, name: str, *, connected: bool) -> None:
    await connection.execute(QUERIES["told"], {"device_id": device_id, "name": name, "connected": connected})
