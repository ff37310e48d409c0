"""One function per query of `queries.sql`; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any, NamedTuple

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from rosfit.accounts.models import AuditEntry, NewUser, User
from rosfit.kernel.queries import load_queries

QUERIES = load_queries("rosfit.accounts")

Connection = AsyncConnection[Any]


class RefreshRow(NamedTuple):
    family: str
    user_id: str
    spent: bool
    expired: bool


async def _one(connection: Connection, query: str, **values: Any) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = await (await connection.execute(QUERIES[query], values)).fetchone()
    return row


async def _user(connection: Connection, query: str, **values: Any) -> User | None:
    cursor = connection.cursor(row_factory=dict_row)
    row = await (await cursor.execute(QUERIES[query], values)).fetchone()
    return msgspec.convert(row, User) if row else None


async def count_users(connection: Connection) -> int:
    row = await _one(connection, "count_users")
    return int(row[0]) if row else 0


async def lock_users(connection: Connection) -> None:
    """Hold off other registrations, so that there is only one first user."""
    await connection.execute(QUERIES["lock_users"])


async def insert_user(connection: Connection, user_id: str, new: NewUser, password_hash: str) -> User | None:
    """None when the address is taken."""
    row = await _one(
        connection,
        "insert_user",
        user_id=user_id,
        email=new.email,
        name=new.name,
        role=new.role,
        password_hash=password_hash,
    )
    return User(user_id, new.email, new.name, new.role, row[0]) if row else None


async def get_user(connection: Connection, user_id: str) -> User | None:
    return await _user(connection, "get_user", user_id=user_id)


async def get_user_by_email(connection: Connection, email: str) -> tuple[str, str] | None:
    """(user_id, password_hash)."""
    row = await _one(connection, "get_user_by_email", email=email)
    return (row[0], row[1]) if row else None


async def update_password_hash(connection: Connection, user_id: str, password_hash: str) -> None:
    await connection.execute(QUERIES["update_password_hash"], {"user_id": user_id, "password_hash": password_hash})


async def insert_refresh_token(
    connection: Connection, token_hash: bytes, family: str, user_id: str, ttl_s: float
) -> None:
    await connection.execute(
        QUERIES["insert_refresh_token"],
        {"token_hash": token_hash, "family": family, "user_id": user_id, "ttl_s": ttl_s},
    )


async def lock_refresh_token(connection: Connection, token_hash: bytes) -> RefreshRow | None:
    row = await _one(connection, "lock_refresh_token", token_hash=token_hash)
    return RefreshRow(*row) if row else None


async def spend_refresh_token(connection: Connection, token_hash: bytes) -> None:
    await connection.execute(QUERIES["spend_refresh_token"], {"token_hash": token_hash})


async def revoke_family(connection: Connection, family: str) -> None:
    await connection.execute(QUERIES["revoke_family"], {"family": family})


async def insert_session(connection: Connection, token_hash: bytes, user_id: str, ttl_s: float) -> None:
    await connection.execute(QUERIES["insert_session"], {"token_hash": token_hash, "user_id": user_id, "ttl_s": ttl_s})


async def session_user(connection: Connection, token_hash: bytes) -> User | None:
    return await _user(connection, "session_user", token_hash=token_hash)


async def delete_session(connection: Connection, token_hash: bytes) -> None:
    await connection.execute(QUERIES["delete_session"], {"token_hash": token_hash})


async def delete_expired(connection: Connection) -> None:
    """Drop sessions and refresh tokens that have run out."""
    await connection.execute(QUERIES["delete_expired"])


async def signing_keys(connection: Connection) -> list[tuple[str, dict[str, Any]]]:
    """(key_id, private JWK), newest first."""
    return await (await connection.execute(QUERIES["signing_keys"])).fetchall()


async def lock_signing_keys(connection: Connection) -> None:
    await connection.execute(QUERIES["lock_signing_keys"])


async def insert_signing_key(connection: Connection, key_id: str, private_jwk: dict[str, Any]) -> None:
    await connection.execute(QUERIES["insert_signing_key"], {"key_id": key_id, "private_jwk": Jsonb(private_jwk)})


async def lock_audit(connection: Connection) -> None:
    await connection.execute(QUERIES["lock_audit"])


async def last_audit(connection: Connection) -> tuple[int, bytes] | None:
    """(id, hash) of the newest entry."""
    row = await _one(connection, "last_audit")
    return (row[0], bytes(row[1])) if row else None


async def insert_audit(connection: Connection, entry: dict[str, Any], entry_hash: bytes) -> None:
    values = entry | {
        "before": None if entry["before"] is None else Jsonb(entry["before"]),
        "after": None if entry["after"] is None else Jsonb(entry["after"]),
        "hash": entry_hash,
    }
    await connection.execute(QUERIES["insert_audit"], values)


async def list_audit(
    connection: Connection, wanted: dict[str, str | None], before_id: int | None, limit: int
) -> list[AuditEntry]:
    cursor = connection.cursor(row_factory=dict_row)
    values = {"actor": None, "action": None, "target": None} | wanted | {"before_id": before_id, "limit": limit}
    await cursor.execute(QUERIES["list_audit"], values)
    return msgspec.convert(await cursor.fetchall(), list[AuditEntry])


async def all_audit(connection: Connection) -> AsyncIterator[tuple[dict[str, Any], bytes]]:
    """Every entry, oldest first, with its hash; streamed from the server in parts."""
    async with connection.cursor(name="audit", row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["all_audit"])
        async for row in cursor:
            stored = bytes(row.pop("hash"))
            yield row | {"at": row["at"].astimezone(UTC).isoformat()}, stored
