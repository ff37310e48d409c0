"""Updates: what can be installed, what is being rolled out, and which versions the fleet has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect, Stream, Template

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, record, still_signed_in
from rosfit.dashboard.forms import next_page, see_other
from rosfit.dashboard.injected import Opening, Storing
from rosfit.dashboard.live import UpdatesWatch, event_stream, stop_of
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.fleet import service as fleet
from rosfit.fleet.models import DEVICE_TYPES
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import FieldError, InvalidError, RosfitError
from rosfit.kernel.feed import ANY, Feed
from rosfit.kernel.work import Work
from rosfit.ota import artifact_rows, artifacts, uploading, viewing
from rosfit.ota.lifecycle import DEPLOYMENT_STATUSES, FINAL
from rosfit.ota.models import Artifact, Deployment, InstalledVersion

READ: dict[str, Any] = {"right": Right.DEVICES_READ}
WRITE: dict[str, Any] = {"right": Right.OTA_WRITE}

WAITS_FOR = {
    "offline": "offline",
    "busy": "busy with a command",
    "battery": "low on battery",
    "window": "outside the window",
    "maintenance": "in maintenance",
    "elsewhere": "in another deployment",
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

# What is expected of a field of the upload, in words.
EXPECTED = {
    "name": "Name: begin with a letter or digit; up to 100 letters, digits, spaces and _ . + / -",
    "version": "Version: begin with a letter or digit; up to 64 letters, digits and _ . + ~ : -",
    "device_types": "Choose at least one type of robots",
    "from_versions": "Replaces only: up to 50 versions such as 1.4.* or 2.0, separated by commas",
    "release_notes": "Release notes: up to 20000 characters",
    "file": "Choose a file",
}

_MISSING = re.compile(r"missing required field `(\w+)`")

SHOWN = 25
EVENTS_EVERY_S = 1.0


@dataclass(frozen=True)
class Row:
    """A deployment in the list: how many devices have ended, out of all."""

    deployment: Deployment
    ended: int

    @classmethod
    def of(cls, deployment: Deployment) -> Row:
        return cls(deployment, sum(count for status, count in deployment.counts.items() if status in FINAL))


@dataclass(frozen=True)
class Board:
    """`users` are the deployments that need an artifact; `query` is where in its lists the page is."""

    rows: list[Row]
    artifacts: list[Artifact]
    versions: list[InstalledVersion]
    devices: int
    next_url: str | None
    older_artifacts: str | None
    query: str
    status: str
    users: dict[str, list[str]]
    may: bool
    now: str
    statuses: tuple[str, ...] = DEPLOYMENT_STATUSES


@dataclass(frozen=True)
class UpdatesPage(Page):
    template: ClassVar[str] = "updates.html"
    shell: Shell
    board: Board
    error: str = ""


@dataclass(frozen=True)
class BoardFragment(Page):
    template: ClassVar[str] = "updates_board.html"
    board: Board


@dataclass(frozen=True)
class UploadForm(Page):
    template: ClassVar[str] = "updates_upload.html"
    types: tuple[str, ...] = DEVICE_TYPES


@get("/updates", opt=READ)
async def show_updates(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    board = await _board(work, actor, request)
    return render(BoardFragment(board) if "hx-request" in request.headers else UpdatesPage(shell_for(actor), board))


async def _board(work: Work, actor: Actor, request: AnyRequest) -> Board:
    asked = request.query_params
    status = asked.get("status", "") if asked.get("status") in DEPLOYMENT_STATUSES else ""
    visible = await fleet.within_reach(work, actor.reach)
    deployments = await viewing.find(work, status or None, None, asked.get("cursor"), SHOWN, visible)
    files = await artifacts.find(work, None, None, asked.get("files"), SHOWN)
    versions = await viewing.installed_versions(work, visible)
    older = next_page("/updates", files.next_cursor, status=status)
    return Board(
        rows=[Row.of(one) for one in deployments.items],
        artifacts=files.items,
        versions=versions,
        devices=sum(one.count for one in versions),
        next_url=next_page("/updates", deployments.next_cursor, status=status),
        older_artifacts=older and older.replace("cursor=", "files="),
        may=actor.may(Right.OTA_WRITE),
        query=query_of(request, "status", "cursor", "files"),
        status=status,
        users=await artifact_rows.artifact_users(work.connection, [one.artifact_id for one in files.items]),
        now=format_time(now()),
    )


def query_of(request: AnyRequest, *names: str) -> str:
    """These parameters of the address, so that a list that asks again stays where it is."""
    given = {name: request.query_params.get(name, "") for name in names}
    query = urlencode({name: value for name, value in given.items() if value})
    return f"?{query}" if query else ""


@get("/updates/events", opt=READ)
async def updates_events(
    request: AnyRequest, edge: NamedDependency[Opening], feed: NamedDependency[Feed], actor: NamedDependency[Actor]
) -> Stream:
    """That the list should ask again."""
    still = still_signed_in(request, edge, actor)
    return event_stream(UpdatesWatch(feed, ANY), stop_of(request), every_s=EVENTS_EVERY_S, still=still)


@get("/updates/upload", opt=WRITE)
async def show_upload_form(actor: NamedDependency[Actor]) -> Template:
    return render(UploadForm())


# Without a unit of work of its own, which would be open for as long as the upload lasts.
@post("/updates/artifacts", opt=WRITE, status_code=200, request_max_body_size=None)
async def upload_artifact(
    request: AnyRequest, edge: NamedDependency[Storing], actor: NamedDependency[Actor]
) -> Response[Any]:
    """Answers with `{"problem"}` in words, or `{"location"}` where to go on."""
    boundary = uploading.boundary_of(request.headers.get("content-type", ""))
    try:
        if boundary is None:
            raise InvalidError("The form holds no file")
        new, stored = await uploading.receive(request.stream(), boundary, edge.open_work, edge.objects)
        async with artifacts.swept_if_refused(edge.open_work, stored), edge.open_work() as work:
            artifact, is_new = await artifacts.create(work, new, stored, actor.id)
            if is_new:
                await record(work, request, actor, "artifact.upload", artifact.artifact_id, after=artifact)
    except RosfitError as error:
        return Response({"problem": _in_words(error)}, status_code=error.status)
    return Response({"location": f"/updates/new?artifact={artifact.artifact_id}"})


def _in_words(error: RosfitError) -> str:
    return "; ".join(dict.fromkeys(map(_expected, error.errors))) or error.detail


def _expected(one: FieldError) -> str:
    """A field that is missing is named in the message."""
    missing = _MISSING.search(one.message)
    name = missing[1] if missing else one.field.split("[")[0]
    return EXPECTED.get(name) or f"{one.field}: {one.message}"


@post("/updates/artifacts/{artifact_id:str}/delete", opt=WRITE, status_code=200)
async def delete_artifact(
    request: AnyRequest, artifact_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Redirect | Template:
    before = await artifacts.get(work, artifact_id)
    try:
        await artifacts.delete(work, artifact_id)
    except RosfitError as error:
        page = UpdatesPage(shell_for(actor), await _board(work, actor, request), f"{error.title}. {error.detail}")
        return render(page, status=error.status)
    await record(work, request, actor, "artifact.delete", artifact_id, before=before)
    return see_other("/updates")
