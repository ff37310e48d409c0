"""Artifacts and the keys that sign them, as they are stored."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rosfit.ota.models import (
    Artifact,
    NewArtifact,
    Stored,
    UpdateKey,
)
from rosfit.ota.repository import QUERIES, Connection, fetch_all, fetch_row, fetch_rows


async def insert_artifact(
    connection: Connection, artifact_id: str, new: NewArtifact, stored: Stored, created_by: str
) -> bool:
    """False when there is an artifact of that name and version."""
    values = msgspec.to_builtins(new) | msgspec.to_builtins(stored)
    values |= {"artifact_id": artifact_id, "created_by": created_by}
    return await fetch_row(connection, "insert_artifact", values) is not None


async def get_artifact(connection: Connection, artifact_id: str) -> Artifact | None:
    rows = await fetch_all(connection, "get_artifact", {"artifact_id": artifact_id})
    return msgspec.convert(rows[0], Artifact) if rows else None


async def find_artifact(connection: Connection, name: str, version: str) -> Artifact | None:
    rows = await fetch_all(connection, "find_artifact", {"name": name, "version": version})
    return msgspec.convert(rows[0], Artifact) if rows else None


async def list_artifacts(
    connection: Connection, name: str | None, device_type: str | None, after: str | None, limit: int
) -> list[Artifact]:
    """Newest first; without deleted ones."""
    values = {"name": name, "device_type": device_type, "after": after, "limit": limit}
    return msgspec.convert(await fetch_all(connection, "list_artifacts", values), list[Artifact])


async def lock_artifact(connection: Connection, artifact_id: str) -> tuple[str, bool] | None:
    """(object_key, deleted), held until the end of the transaction."""
    row = await fetch_row(connection, "lock_artifact", {"artifact_id": artifact_id})
    return (row[0], row[1]) if row else None


async def artifact_users(connection: Connection, artifact_ids: Sequence[str]) -> dict[str, list[str]]:
    """Artifact id to the deployments that still need its bytes, newest first."""
    found: dict[str, list[str]] = {}
    for artifact_id, user in await fetch_rows(connection, "artifact_users", {"artifact_ids": list(artifact_ids)}):
        found.setdefault(artifact_id, []).append(user)
    return found


async def delete_artifact(connection: Connection, artifact_id: str) -> None:
    """For ever if it was never deployed; else its name stays for the history."""
    values = {"artifact_id": artifact_id}
    if (await connection.execute(QUERIES["delete_artifact"], values)).rowcount == 0:
        await connection.execute(QUERIES["hide_artifact"], values)


async def note_unclaimed(connection: Connection, object_key: str, after_s: float) -> None:
    """Discard this object after so many seconds unless it is claimed."""
    await connection.execute(QUERIES["note_unclaimed"], {"object_key": object_key, "after_s": after_s})


async def claim_object(connection: Connection, object_key: str) -> bool:
    """False when it was discarded meanwhile."""
    return await fetch_row(connection, "claim_object", {"object_key": object_key}) is not None


async def lock_unclaimed(connection: Connection) -> str | None:
    """An object that is to be discarded now; nobody can claim it any more."""
    row = await fetch_row(connection, "lock_unclaimed", {})
    return row[0] if row else None


# ── keys ──


async def lock_keys(connection: Connection) -> None:
    await connection.execute(QUERIES["lock_keys"])


async def signing_key(connection: Connection) -> tuple[str, bytes] | None:
    """(key_id, private key) of the key that signs now."""
    row = await fetch_row(connection, "signing_key", {})
    return (row[0], bytes(row[1])) if row else None


async def verifying_key(connection: Connection, key_id: str) -> bytes | None:
    """The public key, unless it is retired."""
    row = await fetch_row(connection, "verifying_key", {"key_id": key_id})
    return bytes(row[0]) if row else None


async def list_keys(connection: Connection) -> list[UpdateKey]:
    """Newest first."""
    return msgspec.convert(await fetch_all(connection, "list_keys", {}), list[UpdateKey])


async def insert_key(
    connection: Connection, key_id: str, name: str, public: bytes, private: bytes | None, created_by: str
) -> None:
    values = {"key_id": key_id, "name": name, "public_key": public, "private_key": private, "created_by": created_by}
    await connection.execute(QUERIES["insert_key"], values)


async def retire_own_keys(connection: Connection) -> None:
    await connection.execute(QUERIES["retire_own_keys"])


async def retire_key(connection: Connection, key_id: str) -> bool:
    """False when there is no such key."""
    return (await connection.execute(QUERIES["retire_key"], {"key_id": key_id})).rowcount > 0
