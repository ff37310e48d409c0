"""Deployments as they are stored; one function per query, and the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from rosfit.fleet.targets import Target
from rosfit.kernel.queries import load_queries
from rosfit.ota.models import Deployment, Follower, Rules, StartWindow

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


async def fetch_all(connection: Connection, query: str, values: Values) -> list[Values]:
    cursor = connection.cursor(row_factory=dict_row)
    return await (await cursor.execute(QUERIES[query], values)).fetchall()


async def fetch_row(connection: Connection, query: str, values: Values) -> tuple[Any, ...] | None:
    return await (await connection.execute(QUERIES[query], values)).fetchone()


async def fetch_rows(connection: Connection, query: str, values: Values) -> list[tuple[Any, ...]]:
    return await (await connection.execute(QUERIES[query], values)).fetchall()


def as_json(value: Any) -> Jsonb | None:
    return None if value is None else Jsonb(msgspec.to_builtins(value))


async def lock_launch(connection: Connection) -> None:
    """One launch at a time, so that each sees in which deployments its devices wait."""
    await connection.execute(QUERIES["lock_launch"])


async def insert_deployment(connection: Connection, deployment: Values, rules: Rules) -> None:
    """`deployment` has the columns that are not rules."""
    values = {name: getattr(rules, name) for name in Rules.__struct_fields__} | deployment
    values |= {"target": as_json(deployment["target"]), "window": as_json(rules.window)}
    await connection.execute(QUERIES["insert_deployment"], values)


async def get_deployment(connection: Connection, deployment_id: str) -> Deployment | None:
    """Without the counts."""
    rows = await fetch_all(connection, "get_deployment", {"deployment_id": deployment_id})
    return msgspec.convert(rows[0], Deployment) if rows else None


async def list_deployments(
    connection: Connection, status: str | None, artifact_id: str | None, after: str | None, limit: int
) -> list[Deployment]:
    """Newest first; without the counts."""
    values = {"status": status, "artifact_id": artifact_id, "after": after, "limit": limit}
    return msgspec.convert(await fetch_all(connection, "list_deployments", values), list[Deployment])


async def list_followers(connection: Connection, deployment_id: str) -> list[Follower]:
    """Its rollbacks and retries, oldest first."""
    return msgspec.convert(
        await fetch_all(connection, "list_followers", {"deployment_id": deployment_id}), list[Follower]
    )


async def lock_deployment(connection: Connection, deployment_id: str) -> Locked | None:
    rows = await fetch_all(connection, "lock_deployment", {"deployment_id": deployment_id})
    return msgspec.convert(rows[0], Locked) if rows else None


async def lock_deployments_of(connection: Connection, deployment_id: str, device_ids: Sequence[str]) -> list[str]:
    """Lock this deployment and all in which these devices wait, in one order; the ids of the others."""
    values = {"deployment_id": deployment_id, "device_ids": list(device_ids)}
    found = [row[0] for row in await fetch_rows(connection, "lock_deployments_of", values)]
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
    values = {"deployment_id": deployment_id, "total": total, "left_out": as_json(list(left_out))}
    await connection.execute(QUERIES["set_frozen"], values)


async def set_wave(connection: Connection, deployment_id: str, wave: int) -> None:
    await connection.execute(QUERIES["set_wave"], {"deployment_id": deployment_id, "wave": wave})


async def accept_failures(connection: Connection, deployment_id: str, accepted: int) -> None:
    await connection.execute(QUERIES["accept_failures"], {"deployment_id": deployment_id, "accepted": accepted})


async def anything_open(connection: Connection) -> bool:
    """Whether there can be work for the dispatcher: one look instead of many, several times a second."""
    row = await fetch_row(connection, "anything_open", {})
    return bool(row and row[0])


async def running_deployments(connection: Connection) -> list[str]:
    return [row[0] for row in await fetch_rows(connection, "running_deployments", {})]


async def rollback_to(connection: Connection, deployment_id: str, artifact_id: str) -> str | None:
    """The rollback of this deployment to that artifact that is under way."""
    values = {"deployment_id": deployment_id, "artifact_id": artifact_id}
    row = await fetch_row(connection, "rollbacks_of", values)
    return row[0] if row else None
