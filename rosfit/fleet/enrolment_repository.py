"""One function per query about enrolment; the caller owns the transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from rosfit.fleet.enrolment_models import Enrolment, EnrolmentStatus, EnrolmentToken, NewEnrolmentToken, Waiting
from rosfit.fleet.models import DeviceType
from rosfit.fleet.repository import QUERIES

Connection = AsyncConnection[Any]


class Used(msgspec.Struct, frozen=True):
    """What a token that was just used grants."""

    token_id: str
    device_type: DeviceType
    tags: list[str]
    approval: bool


class Locked(msgspec.Struct, frozen=True):
    """An enrolment, held until the end of the transaction."""

    device_id: str
    name: str
    claim_hash: bytes
    status: EnrolmentStatus
    device_type: DeviceType
    tags: list[str]


async def _rows(connection: Connection, query: str, **values: Any) -> list[dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    return await (await cursor.execute(QUERIES[query], values)).fetchall()


async def insert_token(
    connection: Connection,
    token_id: str,
    new: NewEnrolmentToken,
    token_hash: bytes,
    created_by: str,
    expires_at: datetime,
) -> str:
    """The expiry as it goes on the wire."""
    (row,) = await _rows(
        connection,
        "insert_enrolment_token",
        token_id=token_id,
        name=new.name,
        token_hash=token_hash,
        device_type=new.device_type,
        tags=list(new.tags),
        approval=new.approval,
        max_uses=new.max_uses,
        created_by=created_by,
        expires_at=expires_at,
    )
    return str(row["expires_at"])


async def list_tokens(connection: Connection, after: str | None, limit: int) -> list[EnrolmentToken]:
    return msgspec.convert(
        await _rows(connection, "list_enrolment_tokens", after=after, limit=limit), list[EnrolmentToken]
    )


async def revoke_token(connection: Connection, token_id: str) -> bool:
    """False when there is no such token in use."""
    return bool(await _rows(connection, "revoke_enrolment_token", token_id=token_id))


async def use_token(connection: Connection, token_hash: bytes) -> Used | None:
    """Count one use; None for a token that is unknown, used up, revoked or past its time."""
    rows = await _rows(connection, "use_enrolment_token", token_hash=token_hash)
    return msgspec.convert(rows[0], Used) if rows else None


async def insert(
    connection: Connection, waiting: Waiting, token_id: str, name: str, claim_hash: bytes, address: str | None
) -> None:
    values = {"token_id": token_id, "name": name, "claim_hash": claim_hash, "address": address}
    ids = {"enrolment_id": waiting.enrolment_id, "device_id": waiting.device_id, "status": waiting.status}
    await connection.execute(QUERIES["insert_enrolment"], values | ids)


async def list_(connection: Connection, status: str | None, after: str | None, limit: int) -> list[Enrolment]:
    rows = await _rows(connection, "list_enrolments", status=status, enrolment_id=None, after=after, limit=limit)
    return msgspec.convert(rows, list[Enrolment])


async def get(connection: Connection, enrolment_id: str) -> Enrolment:
    """One that is known to exist."""
    rows = await _rows(connection, "list_enrolments", status=None, enrolment_id=enrolment_id, after=None, limit=1)
    return msgspec.convert(rows[0], Enrolment)


async def lock(connection: Connection, enrolment_id: str) -> Locked | None:
    rows = await _rows(connection, "lock_enrolment", enrolment_id=enrolment_id)
    return Locked(**rows[0]) if rows else None


async def decide(connection: Connection, enrolment_id: str, status: EnrolmentStatus, decided_by: str | None) -> None:
    values = {"enrolment_id": enrolment_id, "status": status, "decided_by": decided_by}
    await connection.execute(QUERIES["decide_enrolment"], values)
