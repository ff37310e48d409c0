"""One deployment: the guided form with its preview, and how it goes, wave by wave and robot by robot."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream, Template

from rosfit.accounts import service as accounts
from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, record, still_signed_in
from rosfit.dashboard.fleet import group_names
from rosfit.dashboard.forms import next_page, text
from rosfit.dashboard.injected import Noticing, Opening
from rosfit.dashboard.live import UpdatesWatch, event_stream, stop_of
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.dashboard.updates import EVENTS_EVERY_S, READ, WRITE
from rosfit.fleet import service as fleet
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import InvalidError, NotFoundError, RosfitError
from rosfit.kernel.feed import Feed
from rosfit.kernel.work import Work
from rosfit.ota import artifacts, service, viewing
from rosfit.ota.lifecycle import DEVICE_STATUSES, MAY, DeviceStatus
from rosfit.ota.models import Artifact, Deployment, DeviceDeployment, DeviceLog, FailureGroup, NewDeployment, Preview

ARTIFACTS_SHOWN = 200
DEVICES_SHOWN = 50
LEFT_OUT_SHOWN = 50

# Above it, what cannot be taken back has to be confirmed by typing the deployment's name.
TYPED_ABOVE = 10
DRASTIC = ("abort", "rollback")

WAITS_FOR = {
    "offline": "is offline",
    "busy": "is busy with a command",
    "battery": "has too little battery",
    "window": "is outside its window",
    "maintenance": "is in maintenance",
    "elsewhere": "is in another deployment",
    "wave": "its wave has not begun",
    "turn": "waits for its turn",
    "paused": "the deployment is paused",
    "draft": "the deployment has not started",
    "waiting_for_approval": "the deployment waits for approval",
}
LEFT_OUT = {
    "incompatible": "not of a type or version that this can replace",
    "maintenance": "in maintenance",
    "in_another_deployment": "in another deployment",
    "decommissioned": "decommissioned",
    "not_found": "not registered",
}

_USER_ID = re.compile(r"usr_[0-9a-f]+")

# The form as it begins: a small first wave, and a stop at the first doubt.
EMPTY = {
    "artifact_id": "",
    "by": "query",
    "query": "-status:decommissioned",
    "group": "",
    "waves": "10, 50, 100",
    "success_threshold": "95",
    "failure_threshold": "5",
    "min_sample": "3",
    "on_failure": "pause",
    "max_in_progress": "20",
    "rate_per_minute": "",
    "deadline_minutes": "60",
    "min_battery": "20",
    "requires_approval": "",
    "cron": "",
    "window_hours": "4",
    "timezone": "UTC",
}


@dataclass(frozen=True)
class Look:
    """What the form would do now: a preview, or in `error` why it cannot be done."""

    preview: Preview | None = None
    new: NewDeployment | None = None
    error: str = ""
    left_out: tuple[tuple[str, list[str]], ...] = ()
    waits_for: dict[str, str] = field(default_factory=lambda: WAITS_FOR)


@dataclass(frozen=True)
class DeploymentForm(Page):
    template: ClassVar[str] = "deployment_new.html"
    shell: Shell
    artifacts: list[Artifact]
    groups: list[str]
    given: dict[str, str]
    look: Look


@dataclass(frozen=True)
class DeploymentLook(Page):
    template: ClassVar[str] = "deployment_look.html"
    look: Look


@dataclass(frozen=True)
class Board:
    """Everything of a deployment that changes. `status` filters the robots."""

    deployment: Deployment
    failures: list[FailureGroup]
    devices: list[DeviceDeployment]
    status: str
    next_url: str | None
    actions: list[str]
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
    log: DeviceLog


@get("/updates/new", opt=WRITE)
async def show_form(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    found = await artifacts.find(work, None, None, None, ARTIFACTS_SHOWN)
    chosen = request.query_params.get("artifact") or (found.items[0].artifact_id if found.items else "")
    given = EMPTY | {"artifact_id": chosen}
    look = await _look(work, given, actor) if found.items else Look()
    return render(DeploymentForm(shell_for(actor), found.items, await group_names(work, actor.reach), given, look))


@post("/updates/preview", opt=WRITE, status_code=200)
async def preview_deployment(
    request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    return render(DeploymentLook(await _look(work, _given(await request.form()), actor)))


@post("/updates", opt=WRITE, status_code=200)
async def create_deployment(
    request: AnyRequest,
    work: NamedDependency[Work],
    actor: NamedDependency[Actor],
    edge: NamedDependency[Noticing],
) -> Template | Response[str]:
    """Made and begun at once, or kept as a draft."""
    form = await request.form()
    try:
        async with work.part():
            new = _new(_given(form))
            deployment_id = await service.create(work, new, actor.id)
            await record(work, request, actor, "deployment.create", deployment_id, after=new)
            if text(form, "then") != "draft":
                await service.start(work, deployment_id, actor.id, edge.update_notice)
                await record(work, request, actor, "deployment.start", deployment_id)
    except RosfitError as error:
        return render(DeploymentLook(Look(error=_why(error))), status=422)
    return Response("", status_code=200, headers={"HX-Redirect": f"/updates/{deployment_id}"})


def _given(form: Any) -> dict[str, str]:
    return {name: text(form, name) for name in EMPTY}


def _new(given: dict[str, str]) -> NewDeployment:
    """Raises InvalidError naming the field."""
    target = {"group": given["group"]} if given["by"] == "group" else {"query": given["query"]}
    values: dict[str, Any] = {
        name: given[name]
        for name in ("artifact_id", "success_threshold", "failure_threshold", "min_sample", "on_failure")
    }
    values |= {name: given[name] for name in ("max_in_progress", "min_battery")}
    values |= {"target": target, "waves": [part.strip() for part in given["waves"].split(",") if part.strip()]}
    values |= {"requires_approval": given["requires_approval"] == "yes"}
    if given["rate_per_minute"]:
        values["rate_per_minute"] = given["rate_per_minute"]
    values["device_deadline_s"] = _times(given["deadline_minutes"], 60, "deadline_minutes")
    if given["cron"]:
        hours = _times(given["window_hours"], 3600, "window_hours")
        values["window"] = {"cron": given["cron"], "duration_s": hours, "timezone": given["timezone"]}
    try:
        return msgspec.convert(values, NewDeployment, strict=False)
    except msgspec.ValidationError as error:
        expected, _, path = str(error).partition(" - at `$.")
        raise InvalidError(f"{path.rstrip('`').replace('_', ' ')}: {expected}") from error


def _times(number: str, unit_s: int, name: str) -> float:
    try:
        return float(number) * unit_s
    except ValueError as error:
        raise InvalidError(f"{name.replace('_', ' ')}: give a number") from error


async def _look(work: Work, given: dict[str, str], actor: Actor) -> Look:
    try:
        new = _new(given)
        preview = await service.preview(work, new, actor.reach)
    except RosfitError as error:
        return Look(error=_why(error))
    reasons: dict[str, list[str]] = {}
    for one in preview.left_out:
        reasons.setdefault(one.reason, []).append(one.device_id)
    left_out = tuple((LEFT_OUT.get(why, why), ids[:LEFT_OUT_SHOWN]) for why, ids in reasons.items())
    return Look(preview, new, left_out=left_out)


def _why(error: RosfitError) -> str:
    return "; ".join(f"{one.field}: {one.message}" for one in error.errors) or error.detail


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
    deployment = await _named(work, await viewing.get(work, deployment_id, visible))
    devices = await viewing.devices(
        work, deployment_id, visible, status=status, cursor=asked.get("cursor"), limit=DEVICES_SHOWN
    )
    failures = await viewing.failures(work, deployment_id, visible)
    next_url = next_page(f"/updates/{deployment_id}", devices.next_cursor, status=status or "")
    actions = [name for name in MAY if _offered(name, deployment, actor, bool(failures))]
    return Board(deployment, failures, devices.items, status or "", next_url, actions, format_time(now()), error)


async def _named(work: Work, deployment: Deployment) -> Deployment:
    """With people's names instead of their ids in the reason of its status."""
    reason = deployment.status_reason or ""
    ids = _USER_ID.findall(reason)
    names = await accounts.names(work, ids) if ids else {}
    told = _USER_ID.sub(lambda match: names.get(match[0], match[0]), reason)
    return msgspec.structs.replace(deployment, status_reason=told or None)


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
    still = still_signed_in(request, edge, actor)
    return event_stream(UpdatesWatch(feed, deployment_id), stop_of(request), every_s=EVENTS_EVERY_S, still=still)


@get("/updates/{deployment_id:str}/devices/{device_id:str}", opt=READ)
async def show_device_log(
    deployment_id: FromPath[str], device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    """Every step of one robot."""
    await fleet.check_reach(work, device_id, actor.reach)
    return render(LogDialog(await viewing.device(work, deployment_id, device_id)))


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
    if action in DRASTIC and (wanted := _to_type(deployment)) and text(await request.form(), "typed") != wanted:
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
