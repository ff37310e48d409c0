"""One deployment: how it goes, wave by wave and robot by robot, and what may be asked of it."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import ClassVar

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream, Template

from rosfit.accounts import service as accounts
from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, record, still_signed_in
from rosfit.dashboard.deployment_form import Look, look_at
from rosfit.dashboard.forms import next_page, text
from rosfit.dashboard.injected import Noticing, Opening
from rosfit.dashboard.live import UpdatesWatch, event_stream, stop_of
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.dashboard.updates import EVENTS_EVERY_S, LEFT_OUT, READ, WAITS_FOR, WRITE, query_of
from rosfit.fleet import service as fleet
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import NotFoundError, RosfitError
from rosfit.kernel.feed import Feed
from rosfit.kernel.work import Work
from rosfit.ota import device_rows, repository, service, viewing
from rosfit.ota.lifecycle import DEVICE_STATUSES, MAY, DeviceStatus
from rosfit.ota.models import Deployment, DeviceDeployment, DeviceLog, FailureGroup, Follower
from rosfit.ota.rolling_back import AUTHOR

DEVICES_SHOWN = 50

# Above it, what cannot be taken back has to be confirmed by typing the deployment's name, or how many robots it has.
TYPED_ABOVE = 10
# Whom it reaches is decided when it begins.
NOT_BEGUN = frozenset({"draft", "waiting_for_approval"})
DRASTIC = ("abort", "rollback")

_ACTOR_ID = re.compile(r"(?:usr|key)_[0-9a-z]+")


@dataclass(frozen=True)
class Board:
    """Everything of a deployment that changes. `status` filters the robots, `query` is where in their list it is."""

    deployment: Deployment
    people: dict[str, str]
    reason: str
    counts: dict[str, int]
    failures: list[FailureGroup]
    followers: list[Follower]
    devices: list[DeviceDeployment]
    status: str
    next_url: str | None
    query: str
    actions: list[str]
    look: Look | None
    now: str
    error: str = ""
    waits_for: dict[str, str] = field(default_factory=lambda: WAITS_FOR)
    left_out: dict[str, str] = field(default_factory=lambda: LEFT_OUT)


@dataclass(frozen=True)
class DeploymentPage(Page):
    template: ClassVar[str] = "deployment.html"
    shell: Shell
    board: Board


@dataclass(frozen=True)
class BoardFragment(Page):
    template: ClassVar[str] = "deployment_board.html"
    board: Board


@dataclass(frozen=True)
class ConfirmDialog(Page):
    template: ClassVar[str] = "deployment_confirm.html"
    deployment: Deployment
    action: str
    typed: str
    wrong: bool = False


@dataclass(frozen=True)
class LogDialog(Page):
    template: ClassVar[str] = "deployment_log.html"
    deployment_id: str
    log: DeviceLog


@get("/updates/{deployment_id:str}", opt=READ)
async def show_deployment(
    request: AnyRequest,
    deployment_id: FromPath[str],
    work: NamedDependency[Work],
    actor: NamedDependency[Actor],
) -> Template:
    board = await _board(work, actor, deployment_id, request)
    return render(BoardFragment(board) if "hx-request" in request.headers else DeploymentPage(shell_for(actor), board))


async def _board(work: Work, actor: Actor, deployment_id: str, request: AnyRequest, error: str = "") -> Board:
    asked = request.query_params
    status: DeviceStatus | None = asked.get("status") if asked.get("status") in DEVICE_STATUSES else None
    visible = await fleet.within_reach(work, actor.reach)
    deployment = await viewing.get(work, deployment_id, visible)
    people = await _people(work, deployment)
    devices = await viewing.devices(
        work, deployment, visible, status=status, cursor=asked.get("cursor"), limit=DEVICES_SHOWN
    )
    failures = await device_rows.failures(work.connection, deployment_id, None if visible is None else list(visible))
    followers = await repository.list_followers(work.connection, deployment_id)
    look = await look_at(work, service.plan_of(deployment), actor.reach) if deployment.status in NOT_BEGUN else None
    return Board(
        deployment=deployment,
        people=people,
        reason=_reason(deployment, people),
        counts={status: deployment.counts[status] for status in DEVICE_STATUSES if status in deployment.counts},
        failures=failures,
        followers=followers,
        devices=devices.items,
        status=status or "",
        next_url=next_page(f"/updates/{deployment_id}", devices.next_cursor, status=status or ""),
        query=query_of(request, "status", "cursor"),
        actions=[name for name in MAY if _offered(name, deployment, actor, bool(failures))],
        look=look,
        now=format_time(now()),
        error=error,
    )


async def _people(work: Work, deployment: Deployment) -> dict[str, str]:
    """How those are called who made, began, approved or stopped it; RosFit itself rolls back."""
    acted = [deployment.created_by, deployment.started_by, deployment.approved_by]
    ids = {one for one in acted if one} | set(_ACTOR_ID.findall(deployment.status_reason or ""))
    return {AUTHOR: "RosFit"} | await accounts.names(work, ids)


def _reason(deployment: Deployment, people: dict[str, str]) -> str:
    """Why it has its status, with names instead of ids."""
    return _ACTOR_ID.sub(lambda match: people.get(match[0], match[0]), deployment.status_reason or "")


def _offered(action: str, deployment: Deployment, actor: Actor, failed: bool) -> bool:
    if not actor.may(Right.OTA_WRITE) or deployment.status not in MAY[action]:
        return False
    if action == "approve":
        return actor.id not in {deployment.created_by, deployment.started_by}
    if action == "rollback":
        return bool(deployment.counts.get("succeeded"))
    return failed if action == "retry-failed" else True


@get("/updates/{deployment_id:str}/events", opt=READ)
async def deployment_events(
    request: AnyRequest,
    deployment_id: FromPath[str],
    edge: NamedDependency[Opening],
    feed: NamedDependency[Feed],
    actor: NamedDependency[Actor],
) -> Stream:
    """That the page should ask again."""
    async with edge.open_work() as work:
        await viewing.get(work, deployment_id)
    still = still_signed_in(request, edge, actor)
    return event_stream(UpdatesWatch(feed, deployment_id), stop_of(request), every_s=EVENTS_EVERY_S, still=still)


@get("/updates/{deployment_id:str}/devices/{device_id:str}", opt=READ)
async def show_device_log(
    deployment_id: FromPath[str], device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    """Every step of one robot."""
    await fleet.check_reach(work, device_id, actor.reach)
    return render(LogDialog(deployment_id, await viewing.device(work, deployment_id, device_id)))


@get("/updates/{deployment_id:str}/confirm/{action:str}", opt=WRITE)
async def ask_to_confirm(
    deployment_id: FromPath[str], action: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    if action not in DRASTIC:
        raise NotFoundError(f"{action[:40]!r} needs no confirmation")
    deployment = await viewing.get(work, deployment_id)
    return render(ConfirmDialog(deployment, action, _to_type(deployment)))


def _to_type(deployment: Deployment) -> str:
    return f"{deployment.name} {deployment.version}" if deployment.total > TYPED_ABOVE else ""


@post("/updates/{deployment_id:str}/{action:str}", opt=WRITE, status_code=200)
async def act_on_deployment(
    request: AnyRequest,
    deployment_id: FromPath[str],
    action: FromPath[str],
    work: NamedDependency[Work],
    actor: NamedDependency[Actor],
    edge: NamedDependency[Noticing],
) -> Template | Response[str]:
    """Answers with the page's changing part, and on top of it why the action was refused."""
    if action not in MAY:
        raise NotFoundError(f"There is no action {action[:40]!r}")
    deployment = await viewing.get(work, deployment_id)
    wanted = _to_type(deployment) if action in DRASTIC else ""
    if wanted and text(await request.form(), "typed") not in {wanted, str(deployment.total)}:
        return render(ConfirmDialog(deployment, action, wanted, wrong=True), status=422)
    try:
        async with work.part():
            after = await _done(work, edge, action, deployment_id, actor.id)
            told = {"deployment_id": after.deployment_id, "status": after.status, "total": after.total}
            await record(work, request, actor, f"deployment.{action}", deployment_id, after=told)
    except RosfitError as error:
        return render(BoardFragment(await _board(work, actor, deployment_id, request, error.detail)))
    if after.deployment_id != deployment_id:
        return Response("", status_code=200, headers={"HX-Redirect": f"/updates/{after.deployment_id}"})
    return render(BoardFragment(await _board(work, actor, deployment_id, request)))


def _done(work: Work, edge: Noticing, action: str, deployment_id: str, actor: str) -> Awaitable[Deployment]:
    match action:
        case "start":
            return service.start(work, deployment_id, actor, edge.update_notice)
        case "approve":
            return service.approve(work, deployment_id, actor, edge.update_notice)
        case "pause":
            return service.pause(work, deployment_id, actor)
        case "resume":
            return service.resume(work, deployment_id, edge.update_notice)
        case "abort":
            return service.abort(work, deployment_id, actor)
        case "rollback":
            return service.rollback(work, deployment_id, actor)
        case _:
            return service.retry_failed(work, deployment_id, actor, edge.update_notice)
