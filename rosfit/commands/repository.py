"""One function per query of `queries.sql`; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Json, Jsonb

from rosfit.commands.lifecycle import FINAL, Status
from rosfit.commands.models import Command, Lease, NewCommand, Response, Step, ToPublish
from rosfit.kernel.queries import load_queries

QUERIES = load_queries("rosfit.commands")

Connection = AsyncConnection[Any]


class Locked(NamedTuple):
    """A command held until the end of the transaction. `handed_over`: the broker may have it already."""

    status: str
    late: bool
    command: str
    handed_over: bool


async def _all(connection: Connection, query: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    return await (await cursor.execute(QUERIES[query], values)).fetchall()


def _json(value: Any, kind: type[Json | Jsonb] = Jsonb) -> Json | Jsonb | None:
    return None if value is None else kind(msgspec.to_builtins(value))


async def insert_command(
    connection: Connection,
    command_id: str,
    device_id: str,
    correlation_id: str,
    new: NewCommand,
    expires_at: datetime,
    created_by: str,
    urgent: bool,
) -> None:
    values = {
        "command_id": command_id,
        "device_id": device_id,
        "correlation_id": correlation_id,
        "command": new.command,
        "data": Jsonb(new.data),
        "urgent": urgent,
        "timeout_s": new.timeout_s,
        "expires_at": expires_at,
        "created_by": created_by,
    }
    await connection.execute(QUERIES["insert_command"], values)


async def insert_step(
    connection: Connection, command_id: str, status: Status, detail: Any = None, refused: str | None = None
) -> None:
    values = {"command_id": command_id, "status": status, "detail": _json(detail), "refused": refused}
    await connection.execute(QUERIES["insert_refused_step" if refused else "insert_step"], values)


async def update_step(connection: Connection, command_id: str, status: Status, detail: Any) -> None:
    values = {"command_id": command_id, "status": status, "detail": _json(detail)}
    await connection.execute(QUERIES["update_step"], values)


async def get_command(connection: Connection, device_id: str, command_id: str) -> Command | None:
    """With every step."""
    rows = await _all(connection, "get_command", {"device_id": device_id, "command_id": command_id})
    if not rows:
        return None
    steps = msgspec.convert(await _all(connection, "list_steps", {"command_id": command_id}), list[Step])
    return msgspec.convert(rows[0] | {"steps": steps}, Command)


async def list_commands(
    connection: Connection, device_id: str, status: str | None, after: str | None, limit: int
) -> list[Command]:
    """Newest first."""
    values = {"device_id": device_id, "status": status, "after": after, "limit": limit}
    return msgspec.convert(await _all(connection, "list_commands", values), list[Command])


async def lock_command(connection: Connection, device_id: str, command_id: str) -> Locked | None:
    values = {"device_id": device_id, "command_id": command_id}
    row = await (await connection.execute(QUERIES["lock_command"], values)).fetchone()
    return Locked(*row) if row else None


async def set_status(
    connection: Connection, command_id: str, status: Status, report: Response | None = None, *, late: bool = False
) -> None:
    values = {
        "command_id": command_id,
        "status": status,
        "progress": report.progress if report else None,
        "result": _json(report.result, Json) if report else None,
        "error": _json(report.error) if report else None,
        "late": late,
        "final": status in FINAL,
    }
    await connection.execute(QUERIES["set_status"], values)


async def anything_open(connection: Connection) -> bool:
    """Whether there can be work for the dispatcher: one look instead of many, several times a second."""
    row = await (await connection.execute(QUERIES["anything_open"])).fetchone()
    return bool(row and row[0])


async def take_publishable(connection: Connection, limit: int) -> list[ToPublish]:
    """Pending commands whose devices are there: urgent ones first, then in the order they were accepted."""
    return msgspec.convert(await _all(connection, "take_publishable", {"limit": limit}), list[ToPublish])


async def mark_published(connection: Connection, command_ids: Sequence[str]) -> None:
    await connection.execute(QUERIES["mark_published"], {"command_ids": list(command_ids)})


async def lock_overdue(connection: Connection, limit: int) -> list[tuple[str, str, str]]:
    """(command_id, device_id, status) of commands whose time has run out."""
    return await (await connection.execute(QUERIES["lock_overdue"], {"limit": limit})).fetchall()


async def count_waiting(connection: Connection, device_id: str) -> int:
    row = await (await connection.execute(QUERIES["count_waiting"], {"device_id": device_id})).fetchone()
    return int(row[0]) if row else 0


async def take_lease(connection: Connection, lease: Lease, *, take_over: bool, stale_s: float) -> bool:
    """False while somebody else holds it."""
    values = {
        "device_id": lease.device_id,
        "lease_id": lease.lease_id,
        "user_id": lease.user_id,
        "user_name": lease.user_name,
        "take_over": take_over,
        "stale_s": stale_s,
    }
    return await (await connection.execute(QUERIES["take_lease"], values)).fetchone() is not None


async def get_lease(connection: Connection, device_id: str, stale_s: float) -> Lease | None:
    rows = await _all(connection, "get_lease", {"device_id": device_id, "stale_s": stale_s})
    return msgspec.convert(rows[0], Lease) if rows else None


async def renew_lease(connection: Connection, device_id: str, lease_id: str) -> bool:
    """False when it was taken over."""
    values = {"device_id": device_id, "lease_id": lease_id}
    return await (await connection.execute(QUERIES["renew_lease"], values)).fetchone() is not None


async def drop_lease(connection: Connection, device_id: str, lease_id: str) -> bool:
    """False when somebody else has taken it over."""
    dropped = await connection.execute(QUERIES["drop_lease"], {"device_id": device_id, "lease_id": lease_id})
    return dropped.rowcount > 0


async def insert_task(connection: Connection, task: dict[str, Any]) -> None:
    await connection.execute(QUERIES["insert_task"], task | {"parameters": Jsonb(task["parameters"])})


async def get_task(connection: Connection, task_id: str) -> dict[str, Any] | None:
    rows = await _all(connection, "get_task", {"task_id": task_id})
    return rows[0] if rows else None


async def list_tasks(
    connection: Connection,
    status: str | None,
    robot_id: str | None,
    visible: frozenset[str] | None,
    after: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Newest first."""
    values = {"status": status, "robot_id": robot_id, "after": after, "limit": limit}
    return await _all(connection, "list_tasks", values | {"visible": None if visible is None else list(visible)})


async def lock_task(connection: Connection, task_id: str) -> tuple[str, str | None, str | None] | None:
    """(status, robot_id, command_id), held until the end of the transaction."""
    row: tuple[str, str | None, str | None] | None = await (
        await connection.execute(QUERIES["lock_task"], {"task_id": task_id})
    ).fetchone()
    return row


async def queued_tasks(connection: Connection, limit: int, each: int) -> list[dict[str, Any]]:
    """Those that might start, in their order; at most `each` of one robot or group."""
    return await _all(connection, "queued_tasks", {"limit": limit, "each": each})


async def busy_robots(connection: Connection) -> set[str]:
    return {robot_id for (robot_id,) in await (await connection.execute(QUERIES["busy_robots"])).fetchall()}


async def start_task(connection: Connection, task_id: str, robot_id: str, command_id: str) -> None:
    values = {"task_id": task_id, "robot_id": robot_id, "command_id": command_id}
    await connection.execute(QUERIES["start_task"], values)


async def ended_tasks(connection: Connection) -> list[tuple[str, str, Any, Any]]:
    """(task_id, status of its command, result, error) of running tasks whose command has ended."""
    return await (await connection.execute(QUERIES["ended_tasks"])).fetchall()


async def end_task(connection: Connection, task_id: str, status: str, result: Any, error: Any) -> None:
    values = {"task_id": task_id, "status": status, "result": _json(result), "error": _json(error)}
    await connection.execute(QUERIES["end_task"], values)


async def current_task(connection: Connection, robot_id: str) -> dict[str, Any] | None:
    rows = await _all(connection, "current_task", {"robot_id": robot_id})
    return rows[0] if rows else None


async def queue_ahead(
    connection: Connection, task_id: str, robot_id: str | None, group_id: str | None, priority: int
) -> tuple[int, float]:
    """How many tasks go before this one, and how long one takes on average, in seconds."""
    row = await (await connection.execute(QUERIES["task_position"], {"task_id": task_id})).fetchone()
    values = {"robot_id": robot_id, "group_id": group_id, "priority": priority, "position": row[0] if row else 0}
    found = await (await connection.execute(QUERIES["queue_ahead"], values)).fetchone()
    return (int(found[0]), float(found[1])) if found else (0, 0.0)


async def list_bulk(connection: Connection, bulk_id: str) -> list[dict[str, Any]]:
    """Every command of a bulk, by device."""
    return await _all(connection, "list_bulk", {"bulk_id": bulk_id})
