"""Tasks: commands that wait in a queue until their robot, or any robot of a group, is free."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

import msgspec

from rosfit.commands import repository, service
from rosfit.commands.errors import TaskNotCancellableError, TaskNotFoundError
from rosfit.commands.lifecycle import FINAL
from rosfit.commands.models import CommandError, CommandName, NewCommand
from rosfit.fleet import groups
from rosfit.fleet import repository as fleet
from rosfit.fleet.errors import GroupNotFoundError
from rosfit.fleet.query import all_of
from rosfit.fleet.service import not_found
from rosfit.kernel.clock import WireTime, format_time, now
from rosfit.kernel.errors import FieldError, InvalidError, RosfitError, UnavailableError
from rosfit.kernel.ids import new_id
from rosfit.kernel.paging import Page, decode_cursor, page_of
from rosfit.kernel.work import Work

TaskStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]

# How a task ends when its command ends.
_ENDED: dict[str, TaskStatus] = {
    "succeeded": "succeeded",
    "cancelled": "cancelled",
    "failed": "failed",
    "rejected": "failed",
    "expired": "failed",
    "timed_out": "failed",
}

# Looked at in one go, and of one robot or group; the next look is a quarter of a second away.
QUEUE_BATCH = 100
QUEUE_EACH = 5


class NewTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For `robot_id`, or for any free robot of `group`. A higher priority goes first."""

    task_type: CommandName
    robot_id: str | None = None
    group: str | None = None
    parameters: dict[str, Any] = {}
    priority: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] = 0
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=7 * 86_400)] = 3600.0


class QueuedTask(msgspec.Struct, frozen=True):
    """`estimated_start` is a guess from the queue and how long tasks took so far."""

    task_id: str
    status: TaskStatus
    estimated_start: WireTime


class Task(msgspec.Struct, frozen=True):
    task_id: str
    task_type: str
    robot_id: str | None
    group_id: str | None
    parameters: dict[str, Any]
    priority: int
    status: TaskStatus
    command_id: str | None
    created_by: str
    created_at: WireTime
    started_at: WireTime | None
    finished_at: WireTime | None
    result: Any
    error: CommandError | None


class Waiting(msgspec.Struct, frozen=True):
    """A queued task as the scheduler sees it."""

    task_id: str
    task_type: str
    robot_id: str | None
    group_id: str | None
    parameters: dict[str, Any]
    timeout_s: float
    created_by: str


async def create(work: Work, new: NewTask, created_by: str) -> QueuedTask:
    if (new.robot_id is None) == (new.group is None):
        raise InvalidError(errors=(FieldError("robot_id", "give either robot_id or group"),))
    service.check_size("parameters", new.parameters)
    group_id = None
    if new.robot_id is not None:
        status = (await fleet.statuses(work.connection, [new.robot_id])).get(new.robot_id)
        if status is None:
            raise not_found(new.robot_id)
        service.check_in_service(new.robot_id, status)
    if new.group is not None:
        group_id = (await groups.get(work, new.group)).group_id
    task_id = new_id("tsk")
    await repository.insert_task(
        work.connection,
        {
            "task_id": task_id,
            "task_type": new.task_type,
            "robot_id": new.robot_id,
            "group_id": group_id,
            "parameters": new.parameters,
            "priority": new.priority,
            "timeout_s": new.timeout_s,
            "created_by": created_by,
        },
    )
    ahead, average_s = await repository.queue_ahead(work.connection, task_id, new.robot_id, group_id, new.priority)
    return QueuedTask(task_id, "queued", format_time(now() + timedelta(seconds=ahead * average_s)))


async def get(work: Work, task_id: str) -> Task:
    """Raises TaskNotFoundError."""
    found = await repository.get_task(work.connection, task_id)
    if found is None:
        raise TaskNotFoundError(f"There is no task {task_id[:64]!r}")
    return msgspec.convert(found, Task)


async def find(
    work: Work,
    status: str | None,
    robot_id: str | None,
    visible: frozenset[str] | None,
    cursor: str | None,
    limit: int,
) -> Page[Task]:
    """Newest first; `visible` are the robots in reach, None for all."""
    key = decode_cursor(cursor, tuple[str])
    rows = await repository.list_tasks(work.connection, status, robot_id, visible, key[0] if key else None, limit + 1)
    return page_of(msgspec.convert(rows, list[Task]), limit, lambda task: (task.task_id,))


async def cancel(work: Work, task_id: str, cancelled_by: str) -> Task:
    """Take a queued task back, or ask the robot to stop. Raises TaskNotCancellableError for what has ended."""
    locked = await repository.lock_task(work.connection, task_id)
    if locked is None:
        raise TaskNotFoundError(f"There is no task {task_id[:64]!r}")
    status, robot_id, command_id = locked
    if status == "queued":
        await repository.end_task(work.connection, task_id, "cancelled", None, None)
    elif status == "running" and robot_id and command_id:
        command = await service.get(work, robot_id, command_id)
        if command.status in FINAL:
            raise TaskNotCancellableError(f"{task_id} has ended: {command.status}")
        await service.cancel(work, robot_id, command_id, cancelled_by)
    else:
        raise TaskNotCancellableError(f"{task_id} is {status}")
    return await get(work, task_id)


async def schedule(work: Work) -> None:
    """End tasks whose commands have ended, and give free robots their next; one transaction."""
    for task_id, status, result, error in await repository.ended_tasks(work.connection):
        await repository.end_task(work.connection, task_id, _ENDED[status], result, error or _reason(status))
    queued = await repository.queued_tasks(work.connection, QUEUE_BATCH, QUEUE_EACH)
    waiting = msgspec.convert(queued, list[Waiting])
    if not waiting:
        return
    busy = await repository.busy_robots(work.connection)
    for task in waiting:
        try:
            robot_id = await _free_robot(work, task, busy)
            if robot_id is not None:
                async with work.part():
                    await _start(work, task, robot_id)
                busy.add(robot_id)
        except UnavailableError:
            raise
        except RosfitError as refused:
            # One that can never start must not stand in the way of the others.
            why = {"code": refused.code, "message": refused.detail}
            await repository.end_task(work.connection, task.task_id, "failed", None, why)


def _reason(status: str) -> dict[str, str] | None:
    return None if status in {"succeeded", "cancelled"} else {"code": status.upper(), "message": ""}


async def _free_robot(work: Work, task: Waiting, busy: set[str]) -> str | None:
    """The robot asked for, or the first of the group, if it is there and does nothing else."""
    if task.robot_id is not None:
        candidates = [task.robot_id]
    elif task.group_id is not None:
        group = await groups.get(work, task.group_id)
        candidates = await fleet.device_ids(work.connection, all_of([await groups.membership(work, group)]))
    else:
        raise GroupNotFoundError("The group of the task was deleted")
    statuses = await fleet.statuses(work.connection, candidates)
    if task.robot_id is not None:
        service.check_in_service(task.robot_id, statuses.get(task.robot_id))
    free = (one for one in candidates if one not in busy and statuses.get(one) == "online")
    return next(free, None)


async def _start(work: Work, task: Waiting, robot_id: str) -> None:
    new = NewCommand(task.task_type, task.parameters, min(task.timeout_s, 86_400.0), queue=True)
    accepted = await service.send(work, robot_id, new, task.created_by)
    await repository.start_task(work.connection, task.task_id, robot_id, accepted.command_id)


async def current(work: Work, robot_id: str) -> dict[str, Any] | None:
    """What a robot does right now, for its status."""
    return await repository.current_task(work.connection, robot_id)
