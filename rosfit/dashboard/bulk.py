"""One command for many robots: who would get it and who not, sending it, and how far each has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Template

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.commands import bulk
from rosfit.commands.bulk import Preview, Progress
from rosfit.commands.lifecycle import FINAL
from rosfit.commands.models import NewCommand
from rosfit.dashboard.access import AnyRequest, record
from rosfit.dashboard.fleet import Question, group_names, question_of
from rosfit.dashboard.forms import text
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.fleet import service as fleet
from rosfit.fleet.targets import Target
from rosfit.kernel.errors import InvalidError, RosfitError
from rosfit.kernel.work import Work

READ: dict[str, Any] = {"right": Right.DEVICES_READ}
WRITE: dict[str, Any] = {"right": Right.COMMANDS_WRITE}

# As many as one looks through; the count says how many there are.
LEFT_OUT_SHOWN = 50

REASONS = {
    "offline": "is offline",
    "provisioning": "has never connected",
    "decommissioned": "is decommissioned",
    "not_found": "is not registered",
}


@dataclass(frozen=True)
class Look:
    """What the form would do now: a preview, or in `error` why it cannot be done."""

    preview: Preview | None = None
    error: str = ""
    reasons: tuple[tuple[str, list[str]], ...] = ()


@dataclass(frozen=True)
class BulkForm(Page):
    template: ClassVar[str] = "bulk_new.html"
    query: str
    groups: list[str]
    look: Look


@dataclass(frozen=True)
class BulkLook(Page):
    template: ClassVar[str] = "bulk_look.html"
    look: Look


@dataclass(frozen=True)
class BulkPage(Page):
    template: ClassVar[str] = "bulk.html"
    shell: Shell
    progress: Progress
    done: int
    left_out: int


@dataclass(frozen=True)
class BulkRows(Page):
    template: ClassVar[str] = "bulk_rows.html"
    progress: Progress
    done: int


@get("/bulk", opt=WRITE)
async def show_form(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    """For what the fleet page shows at present."""
    query = _terms(question_of(request))
    look = await _look(work, Target(query=query), NewCommand("x"), actor)
    return render(BulkForm(query, await group_names(work, actor.reach), look))


def _terms(question: Question) -> str:
    """The filters of the fleet page in the query language."""
    named = {"status": question.status, "type": question.type, "tag": question.tag}
    terms = [f"{key}:{value}" for key, value in named.items() if value]
    if not question.status:
        terms.append("-status:decommissioned")
    if question.group:
        terms.append(f'group:"{question.group}"')
    return " ".join([*terms, question.q]).strip()


@post("/bulk/preview", opt=WRITE, status_code=200)
async def preview_bulk(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    form = await request.form()
    queue = text(form, "queue") == "yes"
    return render(BulkLook(await _look(work, _target(form), NewCommand("x", queue=queue), actor)))


async def _look(work: Work, target: Target, new: NewCommand, actor: Actor) -> Look:
    try:
        preview = await bulk.preview(work, target, new, actor.reach)
    except RosfitError as error:
        return Look(error=_why(error))
    reasons: dict[str, list[str]] = {}
    for one in preview.left_out:
        reasons.setdefault(one.reason, []).append(one.device_id)
    return Look(preview, reasons=tuple((REASONS.get(why, why), ids[:LEFT_OUT_SHOWN]) for why, ids in reasons.items()))


def _why(error: RosfitError) -> str:
    return "; ".join(f"{one.field}: {one.message}" for one in error.errors) or error.detail


def _target(form: Any) -> Target:
    if text(form, "by") == "group":
        return Target(group=text(form, "group"))
    return Target(query=text(form, "query"))


@post("/bulk", opt=WRITE)
async def send_bulk(
    request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template | Response[str]:
    form = await request.form()
    target = _target(form)
    try:
        new = _command(form)
        sent = await bulk.send(work, target, new, actor.id, actor.reach)
    except RosfitError as error:
        return render(BulkLook(Look(error=_why(error))), status=422)
    if not sent.accepted:
        return render(BulkLook(Look(error="Nobody would get it: every robot is left out")), status=422)
    told = {"command": new.command, "target": target, "devices": len(sent.accepted)}
    await record(work, request, actor, "command.bulk", sent.bulk_id, after=told)
    where = f"/bulk/{sent.bulk_id}?{urlencode({'left_out': len(sent.left_out)})}"
    return Response("", status_code=200, headers={"HX-Redirect": where})


def _command(form: Any) -> NewCommand:
    try:
        data = msgspec.json.decode(text(form, "data") or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidError(f'The data is a JSON object, such as {{"x": 1}}: {error}') from error
    try:
        values = {"command": text(form, "command"), "data": data, "queue": text(form, "queue") == "yes"}
        return msgspec.convert(values, NewCommand)
    except msgspec.ValidationError as error:
        raise InvalidError("Name the command: letters, digits and _ . / -") from error


@get("/bulk/{bulk_id:str}", opt=READ)
async def show_bulk(
    request: AnyRequest, bulk_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    """How far each robot has come; the list asks again until all have ended."""
    visible = await fleet.within_reach(work, actor.reach)
    progress = await bulk.progress(work, bulk_id, visible)
    done = sum(count for status, count in progress.counts.items() if status in FINAL)
    if "hx-request" in request.headers:
        return render(BulkRows(progress, done))
    left_out = str(request.query_params.get("left_out", ""))
    return render(BulkPage(shell_for(actor), progress, done, int(left_out) if left_out.isdecimal() else 0))
