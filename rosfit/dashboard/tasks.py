"""The tasks page: what runs, what waits for which robot and when it may begin, what has ended; live."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, ClassVar

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream, Template

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.commands import repository, tasks
from rosfit.commands.errors import TaskNotFoundError
from rosfit.commands.tasks import NewTask, Task
from rosfit.dashboard.access import AnyRequest, record, require_everywhere, still_signed_in
from rosfit.dashboard.fleet import group_names
from rosfit.dashboard.forms import next_page, text
from rosfit.dashboard.injected import Opening
from rosfit.dashboard.live import TasksWatch, event_stream, stop_of
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.fleet import groups
from rosfit.fleet import service as fleet
from rosfit.fleet.errors import DeviceNotFoundError, GroupNotFoundError
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.feed import Feed
from rosfit.kernel.work import Work

READ: dict[str, Any] = {"right": Right.DEVICES_READ}
WRITE: dict[str, Any] = {"right": Right.COMMANDS_WRITE}

OPEN_SHOWN = 100
ENDED_SHOWN = 25
EVENTS_EVERY_S = 1.0

# The form as it begins.
EMPTY = {"task_type": "", "robot_id": "", "group": "", "parameters": "{}", "priority": "0"}


@dataclass(frozen=True)
class Waiting:
    """A queued task, and when it may begin."""

    task: Task
    estimated_start: str


@dataclass(frozen=True)
class Queue:
    """What waits for one robot, or for any of a group, in order."""

    name: str
    robot_id: str | None
    waiting: list[Waiting]


@dataclass(frozen=True)
class Board:
    running: list[Task]
    queues: list[Queue]
    ended: list[Task]
    next_url: str | None
    may: bool
    now: str


@dataclass(frozen=True)
class TasksPage(Page):
    template: ClassVar[str] = "tasks.html"
    shell: Shell
    board: Board


@dataclass(frozen=True)
class BoardFragment(Page):
    template: ClassVar[str] = "task_board.html"
    board: Board


@dataclass(frozen=True)
class TaskForm(Page):
    template: ClassVar[str] = "task_new.html"
    groups: list[str]
    given: dict[str, str]
    field_errors: dict[str, str] = field(default_factory=dict)


@get("/tasks", opt=READ)
async def show_tasks(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    board = await _board(work, actor, request.query_params.get("cursor"))
    return render(BoardFragment(board) if "hx-request" in request.headers else TasksPage(shell_for(actor), board))


async def _board(work: Work, actor: Actor, cursor: str | None) -> Board:
    visible = await fleet.within_reach(work, actor.reach)
    running = await tasks.find(work, "running", None, visible, None, OPEN_SHOWN)
    queued = await tasks.find(work, "queued", None, visible, None, OPEN_SHOWN)
    every = await tasks.find(work, None, None, visible, cursor, ENDED_SHOWN)
    ended = [task for task in every.items if task.status not in {"queued", "running"}]
    queues = await _queues(work, queued.items)
    next_url = next_page("/tasks", every.next_cursor)
    return Board(running.items, queues, ended, next_url, actor.may(Right.COMMANDS_WRITE), format_time(now()))


async def _queues(work: Work, queued: list[Task]) -> list[Queue]:
    names = {group.group_id: group.name for group in await groups.listing(work)} if queued else {}
    found: dict[str, Queue] = {}
    # Ids sort by time, so this is the order in which they begin.
    for task in sorted(queued, key=lambda one: (-one.priority, one.task_id)):
        group = names.get(task.group_id or "", "a deleted group")
        name = task.robot_id or f"Any robot of {group}"
        queue = found.setdefault(name, Queue(name, task.robot_id, []))
        queue.waiting.append(Waiting(task, await _estimate(work, task)))
    return sorted(found.values(), key=lambda queue: queue.name)


async def _estimate(work: Work, task: Task) -> str:
    ahead, average_s = await repository.queue_ahead(
        work.connection, task.task_id, task.robot_id, task.group_id, task.priority
    )
    return format_time(now() + timedelta(seconds=ahead * average_s))


@get("/tasks/events", opt=READ)
async def task_events(
    request: AnyRequest,
    edge: NamedDependency[Opening],
    feed: NamedDependency[Feed],
    actor: NamedDependency[Actor],
) -> Stream:
    """That the page should ask again; what it then sees is what its reader may see."""
    still = still_signed_in(request, edge, actor)
    return event_stream(TasksWatch(feed), stop_of(request), every_s=EVENTS_EVERY_S, still=still)


@get("/tasks/new", opt=WRITE)
async def show_task_form(work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    return render(TaskForm(await group_names(work, actor.reach), EMPTY))


@post("/tasks", opt=WRITE, status_code=200)
async def create_task(
    request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template | Response[str]:
    form = await request.form()
    given = {name: text(form, name) for name in EMPTY}
    page = TaskForm(await group_names(work, actor.reach), given)
    new, wrong = _new_task(given)
    if new is None:
        return render(replace(page, field_errors=wrong), status=422)
    try:
        if new.robot_id is not None:
            await fleet.check_reach(work, new.robot_id, actor.reach)
        else:
            require_everywhere(actor)
        queued = await tasks.create(work, new, actor.id)
    except (DeviceNotFoundError, GroupNotFoundError) as error:
        return render(replace(page, field_errors={"robot_id": error.detail}), status=422)
    await record(work, request, actor, "task.create", queued.task_id, after=new)
    return Response("", headers={"HX-Redirect": "/tasks"})


def _new_task(given: dict[str, str]) -> tuple[NewTask | None, dict[str, str]]:
    """The task, or what is wrong with each field."""
    wrong = {}
    parameters: Any = None
    try:
        parameters = msgspec.json.decode(given["parameters"] or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        wrong["parameters"] = 'Write a JSON object, such as {"shelf": "A3"}'
    if bool(given["robot_id"]) == bool(given["group"]):
        wrong["robot_id"] = "Give either a robot or a group"
    values = {
        "task_type": given["task_type"],
        "robot_id": given["robot_id"] or None,
        "group": given["group"] or None,
        "priority": given["priority"] or "0",
        "parameters": parameters or {},
    }
    try:
        new = msgspec.convert(values, NewTask, strict=False)
    except msgspec.ValidationError as error:
        about_priority = "$.priority" in str(error)
        name = "priority" if about_priority else "task_type"
        wrong[name] = "A whole number from -1000 to 1000" if about_priority else "Letters, digits and _ . / -"
        return None, wrong
    return (None, wrong) if wrong else (new, {})


@post("/tasks/{task_id:str}/cancel", opt=WRITE, status_code=200)
async def cancel_task(
    request: AnyRequest, task_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    visible = await fleet.within_reach(work, actor.reach)
    task = await tasks.get(work, task_id)
    if visible is not None and task.robot_id not in visible:
        raise TaskNotFoundError(f"There is no task {task_id[:64]!r}")
    await tasks.cancel(work, task_id, actor.id)
    await record(work, request, actor, "task.cancel", task_id)
    return render(BoardFragment(await _board(work, actor, None)))
