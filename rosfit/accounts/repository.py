"""One function per query of `queries.sql`; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC
from typing import Any, NamedTuple

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from rosfit.accounts.models import Actor, AuditEntry, Key, NewKey, NewUser, User, UserChange
from rosfit.accounts.rights import Right
from rosfit.fleet.models import Reach
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
        only_groups=list(new.only_groups),
        only_tags=list(new.only_tags),
    )
    if row is None:
        return None
    return User(user_id, new.email, new.name, new.role, row[0], list(new.only_groups), list(new.only_tags))


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
    """Drop sessions and refresh tokens that have run out, and answers to Idempotency-Keys of yesterday."""
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


async def as_kept(connection: Connection, before: Any, after: Any) -> tuple[Any, Any]:
    """Both as they would come back: PostgreSQL writes 1e22 out, and knows no -0.0."""
    row = await _one(connection, "as_kept", before=_jsonb(before), after=_jsonb(after))
    return row or (None, None)


async def insert_audit(connection: Connection, entry: dict[str, Any], entry_hash: bytes) -> None:
    values = entry | {"before": _jsonb(entry["before"]), "after": _jsonb(entry["after"]), "hash": entry_hash}
    await connection.execute(QUERIES["insert_audit"], values)


def _jsonb(value: Any) -> Jsonb | None:
    return None if value is None else Jsonb(value)


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


async def find_user_by_email(connection: Connection, email: str) -> User | None:
    """Also a disabled one."""
    return await _user(connection, "find_user_by_email", email=email)


async def list_users(connection: Connection, after: str | None, limit: int) -> list[User]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(QUERIES["list_users"], {"after": after, "limit": limit})
    return msgspec.convert(await cursor.fetchall(), list[User])


async def update_user(connection: Connection, user_id: str, change: UserChange, password_hash: str | None) -> None:
    def given(value: Any) -> Any:
        return None if value is msgspec.UNSET else value

    await connection.execute(
        QUERIES["update_user"],
        {
            "user_id": user_id,
            "name": given(change.name),
            "role": given(change.role),
            "password_hash": password_hash,
            "only_groups": given(change.only_groups),
            "only_tags": given(change.only_tags),
            "disabled": given(change.disabled),
        },
    )


async def sign_out_everywhere(connection: Connection, user_id: str) -> None:
    """End every session, refresh token and access token of a user."""
    await connection.execute(QUERIES["sign_out_everywhere"], {"user_id": user_id})


async def delete_user(connection: Connection, user_id: str) -> None:
    await connection.execute(QUERIES["delete_user"], {"user_id": user_id})


async def other_admins(connection: Connection, user_id: str) -> int:
    """How many local admins, limited to nothing, there would be without this user."""
    row = await _one(connection, "other_admins", user_id=user_id)
    return int(row[0]) if row else 0


async def names(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The e-mail of each user and the name of each key among these ids."""
    return dict(await (await connection.execute(QUERIES["names"], {"ids": list(ids)})).fetchall())


async def user_actor(connection: Connection, user_id: str, family: str | None) -> tuple[Actor, float] | None:
    """The user as an actor, and the Unix time from which access tokens are valid. None once the family is revoked."""
    row = await _one(connection, "user_actor", user_id=user_id, family=family)
    if row is None:
        return None
    role, email, name, only_groups, only_tags, valid_from = row
    reach = Reach(tuple(only_groups), tuple(only_tags))
    return Actor(user_id, role, email, name, None, reach, family=family), valid_from


async def insert_key(
    connection: Connection, key_id: str, new: NewKey, secret_hash: bytes, created_by: str
) -> str | None:
    """The expiry as it goes on the wire."""
    row = await _one(
        connection,
        "insert_key",
        key_id=key_id,
        name=new.name,
        secret_hash=secret_hash,
        scopes=[scope.value for scope in new.scopes],
        only_groups=list(new.only_groups),
        only_tags=list(new.only_tags),
        created_by=created_by,
        expires_at=new.expires_at,
    )
    return row[0] if row else None


async def list_keys(connection: Connection, after: str | None, limit: int) -> list[Key]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(QUERIES["list_keys"], {"after": after, "limit": limit})
    return msgspec.convert(await cursor.fetchall(), list[Key])


async def revoke_key(connection: Connection, key_id: str) -> bool:
    """False when there is no such key in use."""
    return await _one(connection, "revoke_key", key_id=key_id) is not None


async def key_actor(
    connection: Connection, *, secret_hash: bytes | None = None, key_id: str | None = None
) -> Actor | None:
    """The key with this secret, or with this id."""
    row = await _one(connection, "key_actor", secret_hash=secret_hash, key_id=key_id)
    if row is None:
        return None
    found_id, name, scopes, only_groups, only_tags, expires_at = row
    known = frozenset(Right(scope) for scope in scopes if scope in set(Right))
    return Actor(found_id, "key", "", name, expires_at, Reach(tuple(only_groups), tuple(only_tags)), known)


async def note_key_use(connection: Connection, key_id: str) -> None:
    await connection.execute(QUERIES["note_key_use"], {"key_id": key_id})
