"""`/tasks`: work for a robot, or for any robot of a group that is free."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Request, Response, delete, get, post

from rosfit.accounts.rights import Right
from rosfit.api.access import actor_of, record
from rosfit.api.idempotency import once
from rosfit.api.parameters import DEFAULT_LIMIT, Cursor, Limit
from rosfit.commands import tasks
from rosfit.commands.errors import TaskNotFoundError
from rosfit.commands.tasks import NewTask, QueuedTask, Task, TaskStatus
from rosfit.fleet import service as fleet
from rosfit.kernel.errors import PermissionDeniedError
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work

AnyRequest = Request[Any, Any, Any]


class TaskController(Controller):
    path = "/tasks"
    tags = ("tasks",)

    @get(opt={"right": Right.DEVICES_READ})
    async def list_tasks(
        self,
        request: AnyRequest,
        work: Work,
        status: TaskStatus | None = None,
        robot_id: str | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[Task]:
        """Newest first."""
        visible = await fleet.within_reach(work, actor_of(request).reach)
        return await tasks.find(work, status, robot_id, visible, cursor, limit)

    @post(opt={"right": Right.COMMANDS_WRITE})
    async def create_task(self, data: NewTask, request: AnyRequest, work: Work) -> Response[QueuedTask]:
        """For `robot_id`, or for any free robot of `group`. A higher priority goes first."""
        actor = actor_of(request)

        async def create() -> QueuedTask:
            if data.robot_id is not None:
                await fleet.check_reach(work, data.robot_id, actor.reach)
            elif not actor.reach.is_everything:
                raise PermissionDeniedError("This credential is limited: name the robot")
            queued = await tasks.create(work, data, actor.id)
            await record(work, request, "task.create", queued.task_id, after=data)
            return queued

        return await once(work, request, actor.id, 201, create)

    @get("/{task_id:str}", opt={"right": Right.DEVICES_READ})
    async def get_task(self, task_id: str, request: AnyRequest, work: Work) -> Task:
        return await self._in_reach(task_id, request, work)

    @delete("/{task_id:str}", opt={"right": Right.COMMANDS_WRITE}, status_code=200)
    async def cancel_task(self, task_id: str, request: AnyRequest, work: Work) -> Task:
        """409 TASK_NOT_CANCELLABLE for what has ended."""
        await self._in_reach(task_id, request, work)
        task = await tasks.cancel(work, task_id, actor_of(request).id)
        await record(work, request, "task.cancel", task_id)
        return task

    @staticmethod
    async def _in_reach(task_id: str, request: AnyRequest, work: Work) -> Task:
        task = await tasks.get(work, task_id)
        visible = await fleet.within_reach(work, actor_of(request).reach)
        if visible is not None and task.robot_id not in visible:
            raise TaskNotFoundError(f"There is no task {task_id[:64]!r}")
        return task
