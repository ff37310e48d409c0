"""The devices of a deployment, as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from psycopg import sql
from psycopg.rows import dict_row

from rosfit.fleet.models import Device, Firmware
from rosfit.ota.lifecycle import FINAL, DeviceStatus
from rosfit.ota.models import (
    CurrentUpdate,
    FailureGroup,
    InstalledVersion,
    Report,
    Trigger,
    UpdateError,
    UpdateStep,
)
from rosfit.ota.repository import QUERIES, Connection, Values, as_json, fetch_all, fetch_row, fetch_rows
from rosfit.ota.rollout import Candidate
from rosfit.ota.targeting import Found


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
    row = await fetch_row(connection, "next_position", {"deployment_id": deployment_id})
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
    await connection.execute(QUERIES["insert_step"], values | {"detail": as_json(detail), "refused": refused})


async def cancel_queued(
    connection: Connection, deployment_id: str, device_ids: Sequence[str] | None, error: UpdateError
) -> list[tuple[str, int]]:
    """(device_id, wave) of those that had not been sent anything; all of the deployment without `device_ids`."""
    ids = None if device_ids is None else list(device_ids)
    values = {"deployment_id": deployment_id, "device_ids": ids, "error": as_json(error)}
    return [(row[0], row[1]) for row in await fetch_rows(connection, "cancel_queued", values)]


async def decommissioned_in_line(connection: Connection) -> list[tuple[str, list[str]]]:
    """(deployment_id, device_ids) of devices that wait and never will be there again."""
    return [(row[0], row[1]) for row in await fetch_rows(connection, "decommissioned_in_line", {})]


async def lock_device(connection: Connection, deployment_id: str, device_id: str) -> LockedDevice | None:
    row = await fetch_row(
        connection, "lock_device_deployment", {"deployment_id": deployment_id, "device_id": device_id}
    )
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
        "error": as_json(error_of(report)) if report else None,
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
    for wave, status, count, sent in await fetch_rows(connection, "wave_counts", {"deployment_id": deployment_id}):
        waves.setdefault(wave, {})[status] = count
        claimed += sent
    return Counts(waves, claimed)


async def counts_of(connection: Connection, deployment_ids: Sequence[str]) -> dict[str, dict[int, dict[str, int]]]:
    """Deployment id to wave to devices by status."""
    found: dict[str, dict[int, dict[str, int]]] = {}
    for deployment_id, wave, status, count in await fetch_rows(
        connection, "counts_of", {"deployment_ids": list(deployment_ids)}
    ):
        found.setdefault(deployment_id, {}).setdefault(wave, {})[status] = count
    return found


async def claimed_since(connection: Connection, deployment_id: str, seconds: float) -> int:
    row = await fetch_row(connection, "claimed_since", {"deployment_id": deployment_id, "seconds": seconds})
    return int(row[0]) if row else 0


async def candidates(connection: Connection, deployment_id: str, wave: int) -> list[Candidate]:
    """Devices of this wave and those before it that are connected and wait, in their order."""
    values = {"deployment_id": deployment_id, "wave": wave}
    return [Candidate(*row) for row in await fetch_rows(connection, "candidates", values)]


async def claim_devices(connection: Connection, deployment_id: str, device_ids: Sequence[str]) -> None:
    await connection.execute(QUERIES["claim_devices"], {"deployment_id": deployment_id, "device_ids": list(device_ids)})


async def deployments_to_publish(connection: Connection, again_s: float) -> list[str]:
    """Where `to_publish` would find something."""
    return [row[0] for row in await fetch_rows(connection, "deployments_to_publish", {"again_s": again_s})]


async def to_publish(connection: Connection, deployment_id: str, again_s: float, limit: int) -> list[Trigger]:
    """Devices that have their place and were not told, or may have missed it; locked.

    It may have missed it if it has connected since, or says nothing for `again_s`.
    """
    values = {"deployment_id": deployment_id, "again_s": again_s, "limit": limit}
    return msgspec.convert(await fetch_all(connection, "to_publish", values), list[Trigger])


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
    return [(row[0], row[1]) for row in await fetch_rows(connection, "overdue", {"limit": limit})]


async def list_devices(connection: Connection, wanted: Values) -> list[Values]:
    """In the order of the waves. `wanted` has deployment_id and may have status, wave, device_id, visible, after."""
    blank = dict.fromkeys(("status", "wave", "device_id", "visible", "after"))
    return await fetch_all(connection, "list_devices", blank | wanted)


async def list_steps(connection: Connection, deployment_id: str, device_id: str) -> list[UpdateStep]:
    values = {"deployment_id": deployment_id, "device_id": device_id}
    return msgspec.convert(await fetch_all(connection, "list_steps", values), list[UpdateStep])


async def current_update(connection: Connection, device_id: str) -> CurrentUpdate | None:
    """The update that is under way, or else one that the device waits for."""
    rows = await fetch_all(connection, "current_update", {"device_id": device_id})
    return msgspec.convert(rows[0], CurrentUpdate) if rows else None


async def device_history(connection: Connection, device_id: str, limit: int) -> list[Values]:
    """The newest updates of a device."""
    return await fetch_all(connection, "device_history", {"device_id": device_id, "limit": limit})


async def failures(connection: Connection, deployment_id: str, visible: Sequence[str] | None) -> list[FailureGroup]:
    rows = await fetch_all(connection, "failures", {"deployment_id": deployment_id, "visible": visible})
    return msgspec.convert(rows, list[FailureGroup])


async def failed_devices(connection: Connection, deployment_id: str) -> list[str]:
    return [row[0] for row in await fetch_rows(connection, "failed_devices", {"deployment_id": deployment_id})]


async def to_roll_back(
    connection: Connection, deployment_id: str, device_id: str | None = None
) -> dict[str | None, list[str]]:
    """Devices that succeeded, by the artifact they had before; None where RosFit does not know it."""
    values = {"deployment_id": deployment_id, "device_id": device_id}
    return {row[0]: row[1] for row in await fetch_rows(connection, "to_roll_back", values)}


async def installed_versions(connection: Connection, visible: Sequence[str] | None) -> list[InstalledVersion]:
    values = {"visible": None if visible is None else list(visible)}
    return msgspec.convert(await fetch_all(connection, "installed_versions", values), list[InstalledVersion])


async def set_firmware(connection: Connection, device_id: str, firmware: Firmware) -> None:
    await connection.execute(QUERIES["set_firmware"], {"device_id": device_id, "firmware": as_json(firmware)})


async def download_grant(connection: Connection, deployment_id: str, device_id: str) -> Grant | None:
    row = await fetch_row(connection, "download_grant", {"deployment_id": deployment_id, "device_id": device_id})
    return Grant(bytes(row[0]), *row[1:]) if row else None


async def gauges(connection: Connection) -> tuple[dict[str, int], dict[str, int], int]:
    """Deployments by status, devices of open ones by status, and how many were stopped by failures."""
    deployments = {row[0]: row[1] for row in await fetch_rows(connection, "deployment_counts", {})}
    devices = {row[0]: row[1] for row in await fetch_rows(connection, "open_device_counts", {})}
    stopped = await fetch_row(connection, "stopped_count", {})
    return deployments, devices, int(stopped[0]) if stopped else 0
