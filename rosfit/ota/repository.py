"""One function per query of `queries.sql`; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from rosfit.fleet.models import Device, Firmware
from rosfit.fleet.targets import Target
from rosfit.kernel.queries import load_queries
from rosfit.ota.lifecycle import FINAL, DeviceStatus
from rosfit.ota.models import (
    Artifact,
    CurrentUpdate,
    Deployment,
    FailureGroup,
    Follower,
    InstalledVersion,
    NewArtifact,
    Report,
    Rules,
    StartWindow,
    Stored,
    Trigger,
    UpdateError,
    UpdateKey,
    UpdateStep,
)
from rosfit.ota.rollout import Candidate
from rosfit.ota.targeting import Found

QUERIES = load_queries("rosfit.ota")

Connection = AsyncConnection[Any]
Values = dict[str, Any]


class Locked(msgspec.Struct, frozen=True):
    """A deployment held until the end of the transaction: what its rules need."""

    deployment_id: str
    artifact_id: str
    status: str
    wave: int
    waves: list[float]
    success_threshold: float
    failure_threshold: float
    min_sample: int
    max_in_progress: int
    rate_per_minute: int | None
    on_failure: str
    window: StartWindow | None
    min_battery: float
    accepted_failures: int
    created_by: str
    started_by: str | None
    requires_approval: bool
    rollback_of: str | None
    target: Target


class LockedDevice(NamedTuple):
    """`sent` once its trigger may have reached it."""

    status: str
    wave: int
    sent: bool


class Counts(NamedTuple):
    """Devices by status for each wave, and how many of the queued ones have their place already."""

    waves: dict[int, dict[str, int]]
    claimed: int


class Grant(NamedTuple):
    """What a device may download, and how far its update has come."""

    url_secret: bytes
    object_key: str
    size: int
    sha256: str
    file_name: str
    status: str


async def _all(connection: Connection, query: str, values: Values) -> list[Values]:
    cursor = connection.cursor(row_factory=dict_row)
    return await (await cursor.execute(QUERIES[query], values)).fetchall()


async def _row(connection: Connection, query: str, values: Values) -> tuple[Any, ...] | None:
    return await (await connection.execute(QUERIES[query], values)).fetchone()


async def _rows(connection: Connection, query: str, values: Values) -> list[tuple[Any, ...]]:
    return await (await connection.execute(QUERIES[query], values)).fetchall()


def _json(value: Any) -> Jsonb | None:
    return None if value is None else Jsonb(msgspec.to_builtins(value))


# ── keys ──


async def lock_keys(connection: Connection) -> None:
    await connection.execute(QUERIES["lock_keys"])


async def signing_key(connection: Connection) -> tuple[str, bytes] | None:
    """(key_id, private key) of the key that signs now."""
    row = await _row(connection, "signing_key", {})
    return (row[0], bytes(row[1])) if row else None


async def verifying_key(connection: Connection, key_id: str) -> bytes | None:
    """The public key, unless it is retired."""
    row = await _row(connection, "verifying_key", {"key_id": key_id})
    return bytes(row[0]) if row else None


async def list_keys(connection: Connection) -> list[UpdateKey]:
    """Newest first."""
    return msgspec.convert(await _all(connection, "list_keys", {}), list[UpdateKey])


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


# ── artifacts ──


async def insert_artifact(
    connection: Connection, artifact_id: str, new: NewArtifact, stored: Stored, created_by: str
) -> bool:
    """False when there is an artifact of that name and version."""
    values = msgspec.to_builtins(new) | msgspec.to_builtins(stored)
    values |= {"artifact_id": artifact_id, "created_by": created_by}
    return await _row(connection, "insert_artifact", values) is not None


async def get_artifact(connection: Connection, artifact_id: str) -> Artifact | None:
    rows = await _all(connection, "get_artifact", {"artifact_id": artifact_id})
    return msgspec.convert(rows[0], Artifact) if rows else None


async def find_artifact(connection: Connection, name: str, version: str) -> Artifact | None:
    rows = await _all(connection, "find_artifact", {"name": name, "version": version})
    return msgspec.convert(rows[0], Artifact) if rows else None


async def list_artifacts(
    connection: Connection, name: str | None, device_type: str | None, after: str | None, limit: int
) -> list[Artifact]:
    """Newest first; without deleted ones."""
    values = {"name": name, "device_type": device_type, "after": after, "limit": limit}
    return msgspec.convert(await _all(connection, "list_artifacts", values), list[Artifact])


async def lock_artifact(connection: Connection, artifact_id: str) -> tuple[str, bool] | None:
    """(object_key, deleted), held until the end of the transaction."""
    row = await _row(connection, "lock_artifact", {"artifact_id": artifact_id})
    return (row[0], row[1]) if row else None


async def artifact_users(connection: Connection, artifact_ids: Sequence[str]) -> dict[str, list[str]]:
    """Artifact id to the deployments that still need its bytes, newest first."""
    found: dict[str, list[str]] = {}
    for artifact_id, user in await _rows(connection, "artifact_users", {"artifact_ids": list(artifact_ids)}):
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
    return await _row(connection, "claim_object", {"object_key": object_key}) is not None


async def lock_unclaimed(connection: Connection) -> str | None:
    """An object that is to be discarded now; nobody can claim it any more."""
    row = await _row(connection, "lock_unclaimed", {})
    return row[0] if row else None


# ── deployments ──


async def lock_launch(connection: Connection) -> None:
    """One launch at a time, so that each sees in which deployments its devices wait."""
    await connection.execute(QUERIES["lock_launch"])


async def insert_deployment(connection: Connection, deployment: Values, rules: Rules) -> None:
    """`deployment` has the columns that are not rules."""
    values = {name: getattr(rules, name) for name in Rules.__struct_fields__} | deployment
    values |= {"target": _json(deployment["target"]), "window": _json(rules.window)}
    await connection.execute(QUERIES["insert_deployment"], values)


async def get_deployment(connection: Connection, deployment_id: str) -> Deployment | None:
    """Without the counts."""
    rows = await _all(connection, "get_deployment", {"deployment_id": deployment_id})
    return msgspec.convert(rows[0], Deployment) if rows else None


async def list_deployments(
    connection: Connection, status: str | None, artifact_id: str | None, after: str | None, limit: int
) -> list[Deployment]:
    """Newest first; without the counts."""
    values = {"status": status, "artifact_id": artifact_id, "after": after, "limit": limit}
    return msgspec.convert(await _all(connection, "list_deployments", values), list[Deployment])


async def list_followers(connection: Connection, deployment_id: str) -> list[Follower]:
    """Its rollbacks and retries, oldest first."""
    return msgspec.convert(await _all(connection, "list_followers", {"deployment_id": deployment_id}), list[Follower])


async def lock_deployment(connection: Connection, deployment_id: str) -> Locked | None:
    rows = await _all(connection, "lock_deployment", {"deployment_id": deployment_id})
    return msgspec.convert(rows[0], Locked) if rows else None


async def lock_deployments_of(connection: Connection, deployment_id: str, device_ids: Sequence[str]) -> list[str]:
    """Lock this deployment and all in which these devices wait, in one order; the ids of the others."""
    values = {"deployment_id": deployment_id, "device_ids": list(device_ids)}
    found = [row[0] for row in await _rows(connection, "lock_deployments_of", values)]
    return [one for one in found if one != deployment_id]


async def set_deployment_status(
    connection: Connection, deployment_id: str, status: str, reason: str | None, *, by_failure: bool = False
) -> None:
    values = {"deployment_id": deployment_id, "status": status, "reason": reason, "by_failure": by_failure}
    await connection.execute(QUERIES["set_deployment_status"], values)


async def set_started(connection: Connection, deployment_id: str, actor: str) -> None:
    await connection.execute(QUERIES["set_started"], {"deployment_id": deployment_id, "actor": actor})


async def set_approved(connection: Connection, deployment_id: str, actor: str) -> None:
    await connection.execute(QUERIES["set_approved"], {"deployment_id": deployment_id, "actor": actor})


async def set_frozen(connection: Connection, deployment_id: str, total: int, left_out: Sequence[Any]) -> None:
    values = {"deployment_id": deployment_id, "total": total, "left_out": _json(list(left_out))}
    await connection.execute(QUERIES["set_frozen"], values)


async def set_wave(connection: Connection, deployment_id: str, wave: int) -> None:
    await connection.execute(QUERIES["set_wave"], {"deployment_id": deployment_id, "wave": wave})


async def accept_failures(connection: Connection, deployment_id: str, accepted: int) -> None:
    await connection.execute(QUERIES["accept_failures"], {"deployment_id": deployment_id, "accepted": accepted})


async def running_deployments(connection: Connection) -> list[str]:
    return [row[0] for row in await _rows(connection, "running_deployments", {})]


async def rollback_to(connection: Connection, deployment_id: str, artifact_id: str) -> str | None:
    """The rollback of this deployment to that artifact that is under way."""
    values = {"deployment_id": deployment_id, "artifact_id": artifact_id}
    row = await _row(connection, "rollbacks_of", values)
    return row[0] if row else None


# ── devices of a deployment ──


async def target_devices(connection: Connection, where: sql.Composable) -> list[Found]:
    """By id, with what else they do."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(sql.SQL(QUERIES["target_devices"]).format(where=where), {})
    rows = await cursor.fetchall()
    return [Found(msgspec.convert(row, Device), row["busy"], row["update"]) for row in rows]


async def insert_devices(
    connection: Connection, deployment_id: str, device_ids: Sequence[str], waves: Sequence[int], first: int = 1
) -> None:
    """In this order, queued."""
    values = {
        "deployment_id": deployment_id,
        "device_ids": list(device_ids),
        "waves": list(waves),
        "positions": list(range(first, first + len(device_ids))),
    }
    await connection.execute(QUERIES["insert_device_deployments"], values)
    await insert_steps(connection, deployment_id, device_ids, "queued")


async def next_position(connection: Connection, deployment_id: str) -> int:
    row = await _row(connection, "next_position", {"deployment_id": deployment_id})
    return int(row[0]) if row else 1


async def grow_total(connection: Connection, deployment_id: str) -> None:
    await connection.execute(QUERIES["grow_total"], {"deployment_id": deployment_id})


async def insert_steps(
    connection: Connection, deployment_id: str, device_ids: Sequence[str], status: DeviceStatus
) -> None:
    values = {"deployment_id": deployment_id, "device_ids": list(device_ids), "status": status}
    await connection.execute(QUERIES["insert_steps"], values)


async def insert_step(
    connection: Connection,
    deployment_id: str,
    device_id: str,
    status: DeviceStatus,
    detail: Any = None,
    refused: str | None = None,
) -> None:
    values = {"deployment_id": deployment_id, "device_id": device_id, "status": status}
    await connection.execute(QUERIES["insert_step"], values | {"detail": _json(detail), "refused": refused})


async def cancel_queued(
    connection: Connection, deployment_id: str, device_ids: Sequence[str] | None, error: UpdateError
) -> list[tuple[str, int]]:
    """(device_id, wave) of those that had not been sent anything; all of the deployment without `device_ids`."""
    ids = None if device_ids is None else list(device_ids)
    values = {"deployment_id": deployment_id, "device_ids": ids, "error": _json(error)}
    return [(row[0], row[1]) for row in await _rows(connection, "cancel_queued", values)]


async def decommissioned_in_line(connection: Connection) -> list[tuple[str, list[str]]]:
    """(deployment_id, device_ids) of devices that wait and never will be there again."""
    return [(row[0], row[1]) for row in await _rows(connection, "decommissioned_in_line", {})]


async def lock_device(connection: Connection, deployment_id: str, device_id: str) -> LockedDevice | None:
    row = await _row(connection, "lock_device_deployment", {"deployment_id": deployment_id, "device_id": device_id})
    return LockedDevice(*row) if row else None


async def set_device_status(
    connection: Connection, deployment_id: str, device_id: str, status: str, report: Report | None = None
) -> None:
    values = {
        "deployment_id": deployment_id,
        "device_id": device_id,
        "status": status,
        "percent": report.percent if report else None,
        "bytes": report.bytes if report else None,
        "error": _json(error_of(report)) if report else None,
        "detail": report.detail if report else None,
        "final": status in FINAL,
    }
    await connection.execute(QUERIES["set_device_status"], values)


def error_of(report: Report) -> UpdateError | None:
    """As `{code, message}`, however the device wrote it."""
    return UpdateError(report.status.upper(), report.error) if isinstance(report.error, str) else report.error


def told_by(report: Report) -> Values:
    """What it says beside its status."""
    told: Values = {"percent": report.percent, "bytes": report.bytes, "detail": report.detail}
    told["error"] = error_of(report)
    return {key: value for key, value in told.items() if value is not None}


async def wave_counts(connection: Connection, deployment_id: str) -> Counts:
    waves: dict[int, dict[str, int]] = {}
    claimed = 0
    for wave, status, count, sent in await _rows(connection, "wave_counts", {"deployment_id": deployment_id}):
        waves.setdefault(wave, {})[status] = count
        claimed += sent
    return Counts(waves, claimed)


async def counts_of(connection: Connection, deployment_ids: Sequence[str]) -> dict[str, dict[int, dict[str, int]]]:
    """Deployment id to wave to devices by status."""
    found: dict[str, dict[int, dict[str, int]]] = {}
    for deployment_id, wave, status, count in await _rows(
        connection, "counts_of", {"deployment_ids": list(deployment_ids)}
    ):
        found.setdefault(deployment_id, {}).setdefault(wave, {})[status] = count
    return found


async def claimed_since(connection: Connection, deployment_id: str, seconds: float) -> int:
    row = await _row(connection, "claimed_since", {"deployment_id": deployment_id, "seconds": seconds})
    return int(row[0]) if row else 0


async def candidates(connection: Connection, deployment_id: str, wave: int) -> list[Candidate]:
    """Devices of this wave and those before it that are connected and wait, in their order."""
    values = {"deployment_id": deployment_id, "wave": wave}
    return [Candidate(*row) for row in await _rows(connection, "candidates", values)]


async def claim_devices(connection: Connection, deployment_id: str, device_ids: Sequence[str]) -> None:
    await connection.execute(
        QUERIES["claim_devices"], {"deployment_id": deployment_id, "device_ids": list(device_ids)}
    )


async def deployments_to_publish(connection: Connection, again_s: float) -> list[str]:
    """Where `to_publish` would find something."""
    return [row[0] for row in await _rows(connection, "deployments_to_publish", {"again_s": again_s})]


async def to_publish(connection: Connection, deployment_id: str, again_s: float, limit: int) -> list[Trigger]:
    """Devices that have their place and were not told, or may have missed it; locked.

    It may have missed it if it has connected since, or says nothing for `again_s`.
    """
    values = {"deployment_id": deployment_id, "again_s": again_s, "limit": limit}
    return msgspec.convert(await _all(connection, "to_publish", values), list[Trigger])


async def mark_published(connection: Connection, deployment_id: str, told: Sequence[tuple[str, datetime]]) -> None:
    """(device_id, deadline) of those whose trigger the broker has."""
    values = {
        "deployment_id": deployment_id,
        "device_ids": [device_id for device_id, _ in told],
        "deadlines": [deadline for _, deadline in told],
    }
    await connection.execute(QUERIES["mark_published"], values)


async def overdue(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """(deployment_id, device_id) of updates whose deadline has passed."""
    return [(row[0], row[1]) for row in await _rows(connection, "overdue", {"limit": limit})]


async def list_devices(connection: Connection, wanted: Values) -> list[Values]:
    """In the order of the waves. `wanted` has deployment_id and may have status, wave, device_id, visible, after."""
    blank = dict.fromkeys(("status", "wave", "device_id", "visible", "after"))
    return await _all(connection, "list_devices", blank | wanted)


async def list_steps(connection: Connection, deployment_id: str, device_id: str) -> list[UpdateStep]:
    values = {"deployment_id": deployment_id, "device_id": device_id}
    return msgspec.convert(await _all(connection, "list_steps", values), list[UpdateStep])


async def current_update(connection: Connection, device_id: str) -> CurrentUpdate | None:
    """The update that is under way, or else one that the device waits for."""
    rows = await _all(connection, "current_update", {"device_id": device_id})
    return msgspec.convert(rows[0], CurrentUpdate) if rows else None


async def device_history(connection: Connection, device_id: str, limit: int) -> list[Values]:
    """The newest updates of a device."""
    return await _all(connection, "device_history", {"device_id": device_id, "limit": limit})


async def failures(
    connection: Connection, deployment_id: str, visible: Sequence[str] | None
) -> list[FailureGroup]:
    rows = await _all(connection, "failures", {"deployment_id": deployment_id, "visible": visible})
    return msgspec.convert(rows, list[FailureGroup])


async def failed_devices(connection: Connection, deployment_id: str) -> list[str]:
    return [row[0] for row in await _rows(connection, "failed_devices", {"deployment_id": deployment_id})]


async def to_roll_back(
    connection: Connection, deployment_id: str, device_id: str | None = None
) -> dict[str | None, list[str]]:
    """Devices that succeeded, by the artifact they had before; None where RosFit does not know it."""
    values = {"deployment_id": deployment_id, "device_id": device_id}
    return {row[0]: row[1] for row in await _rows(connection, "to_roll_back", values)}


async def installed_versions(connection: Connection, visible: Sequence[str] | None) -> list[InstalledVersion]:
    values = {"visible": None if visible is None else list(visible)}
    return msgspec.convert(await _all(connection, "installed_versions", values), list[InstalledVersion])


async def set_firmware(connection: Connection, device_id: str, firmware: Firmware) -> None:
    await connection.execute(QUERIES["set_firmware"], {"device_id": device_id, "firmware": _json(firmware)})


async def download_grant(connection: Connection, deployment_id: str, device_id: str) -> Grant | None:
    row = await _row(connection, "download_grant", {"deployment_id": deployment_id, "device_id": device_id})
    return Grant(bytes(row[0]), *row[1:]) if row else None


async def gauges(connection: Connection) -> tuple[dict[str, int], dict[str, int], int]:
    """Deployments by status, devices of open ones by status, and how many were stopped by failures."""
    deployments = {row[0]: row[1] for row in await _rows(connection, "deployment_counts", {})}
    devices = {row[0]: row[1] for row in await _rows(connection, "open_device_counts", {})}
    stopped = await _row(connection, "stopped_count", {})
    return deployments, devices, int(stopped[0]) if stopped else 0
