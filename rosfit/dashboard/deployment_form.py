"""The guided form of a deployment: what was typed as rules, and what they would do now, in numbers and in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.response import Template

from rosfit.accounts.models import Actor
from rosfit.dashboard.access import AnyRequest, record
from rosfit.dashboard.fleet import group_names
from rosfit.dashboard.forms import text, words
from rosfit.dashboard.injected import Noticing
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.dashboard.updates import LEFT_OUT, WAITS_FOR, WRITE
from rosfit.fleet import groups, repository
from rosfit.fleet.models import Reach
from rosfit.kernel.errors import FieldError, InvalidError, RosfitError
from rosfit.kernel.work import Work
from rosfit.ota import artifacts, service
from rosfit.ota.models import Artifact, LeftOut, NewDeployment, Preview, Waiting

ARTIFACTS_SHOWN = 200
LEFT_OUT_SHOWN = 50

# The form as it begins: a small first wave, and a stop at the first doubt.
EMPTY = {
    "artifact_id": "",
    "by": "query",
    "query": "-status:decommissioned",
    "group": "",
    "tag": "",
    "device_ids": "",
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

# What is expected of a field, in words, by its name among the rules.
EXPECTED = {
    "device_ids": "Write the robots' ids, separated by spaces or lines",
    "waves": "Write the waves in percent, such as 10, 50, 100",
    "success_threshold": "Give the share that has to succeed in percent, from 0 to 100",
    "failure_threshold": "Give the share that may fail in percent, from 0 to 100",
    "min_sample": "Give a whole number of robots that have to end first, at least 1",
    "max_in_progress": "Give a whole number of robots at the same time, at least 1",
    "rate_per_minute": "Give a whole number of robots a minute, at least 1, or nothing",
    "device_deadline_s": "Give the minutes that a robot has, up to 8640 (six days)",
    "min_battery": "Give the battery in percent, from 0 to 100",
    "duration_s": "Give the hours that the window lasts, up to 744 (a month)",
    "cron": "Write when the window begins in five fields, such as 0 22 * * 1-5",
}
_FIELD = re.compile(r"\$\.(?:target\.|window\.)?(\w+)")

THEN = {
    "pause": "it pauses until somebody decides",
    "abort": "it is aborted, and no other robot begins",
    "rollback": "those that have it are rolled back",
}


@dataclass(frozen=True)
class Look:
    """What would happen now: a preview and the rules in `words`, or in `error` why it cannot be done.

    `waiting` names the first of those that wait, by the reason.
    """

    preview: Preview | None = None
    new: NewDeployment | None = None
    words: tuple[str, ...] = ()
    error: str = ""
    waiting: dict[str, list[str]] = field(default_factory=dict)
    left_out: tuple[tuple[str, int, list[str]], ...] = ()
    waits_for: dict[str, str] = field(default_factory=lambda: WAITS_FOR)


@dataclass(frozen=True)
class DeploymentForm(Page):
    template: ClassVar[str] = "deployment_new.html"
    shell: Shell
    artifacts: list[Artifact]
    groups: list[str]
    tags: list[str]
    given: dict[str, str]
    look: Look


@dataclass(frozen=True)
class DeploymentLook(Page):
    template: ClassVar[str] = "deployment_look.html"
    look: Look


@get("/updates/new", opt=WRITE)
async def show_form(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    """For what the address names: an artifact, and a query of the fleet page."""
    asked = request.query_params
    found = (await artifacts.find(work, None, None, None, ARTIFACTS_SHOWN)).items
    chosen = asked.get("artifact") or (found[0].artifact_id if found else "")
    given = EMPTY | {"artifact_id": chosen, "query": asked.get("query") or EMPTY["query"]}
    look = await _look(work, given, actor) if found else Look()
    tags = await repository.list_tags(work.connection, await groups.visible(work, actor.reach))
    names = await group_names(work, actor.reach)
    return render(DeploymentForm(shell_for(actor), found, names, tags, given, look))


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
            new = new_deployment(_given(form))
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


def new_deployment(given: dict[str, str]) -> NewDeployment:
    """Raises InvalidError that says what is expected."""
    rules = ("success_threshold", "failure_threshold", "min_sample", "on_failure", "max_in_progress", "min_battery")
    values: dict[str, Any] = {name: given[name] for name in ("artifact_id", *rules)} | {
        "target": _target(given),
        "waves": [part.strip() for part in given["waves"].split(",") if part.strip()],
        "requires_approval": given["requires_approval"] == "yes",
        "device_deadline_s": _times(given["deadline_minutes"], 60),
    }
    if given["rate_per_minute"]:
        values["rate_per_minute"] = given["rate_per_minute"]
    if given["cron"]:
        hours = _times(given["window_hours"], 3600)
        values["window"] = {"cron": given["cron"], "duration_s": hours, "timezone": given["timezone"]}
    try:
        return msgspec.convert(values, NewDeployment, strict=False)
    except msgspec.ValidationError as error:
        named = _FIELD.search(str(error))
        raise InvalidError(EXPECTED.get(named[1], str(error)) if named else str(error)) from error


def _target(given: dict[str, str]) -> dict[str, Any]:
    """A choice that the form does not have means its first, the query."""
    if given["by"] == "device_ids":
        return {"device_ids": words(given["device_ids"])}
    by = given["by"] if given["by"] in {"group", "tag"} else "query"
    return {by: given[by]}


def _times(number: str, unit_s: int) -> float | str:
    """What is no number stays, and is refused with the other fields."""
    try:
        return float(number) * unit_s
    except ValueError:
        return number


async def _look(work: Work, given: dict[str, str], actor: Actor) -> Look:
    try:
        new = new_deployment(given)
    except InvalidError as error:
        return Look(error=_why(error))
    return await look_at(work, new, actor.reach)


async def look_at(work: Work, new: NewDeployment, reach: Reach) -> Look:
    try:
        preview = await service.preview(work, new, reach)
    except RosfitError as error:
        return Look(error=_why(error))
    reasons = _by_reason(preview.left_out)
    left_out = tuple((LEFT_OUT.get(why, why), len(ids), ids[:LEFT_OUT_SHOWN]) for why, ids in reasons.items())
    waiting = _by_reason(preview.waiting_devices)
    return Look(preview, new, tuple(in_words(new)), waiting=waiting, left_out=left_out)


def _by_reason(devices: Sequence[Waiting | LeftOut]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in devices:
        found.setdefault(one.reason, []).append(one.device_id)
    return found


def in_words(new: NewDeployment) -> Iterator[str]:
    """What the rules mean, one sentence each."""
    share = f"{new.success_threshold:g} % of all its robots have been updated"
    yield f"A wave gives way to the next one once {share}, or all of them have ended"
    yield (
        f"When more than {new.failure_threshold:g} % of all robots of a wave have failed, "
        f"and {_robots(new.min_sample)} or more ended, {THEN[new.on_failure]}"
    )
    pace = f", and {new.rate_per_minute} a minute" if new.rate_per_minute else ""
    yield f"At most {_robots(new.max_in_progress)} update at the same time{pace}"
    minutes = "minute" if new.device_deadline_s == 60 else "minutes"
    yield f"A robot that has not ended {new.device_deadline_s / 60:g} {minutes} after it was told has failed"
    if new.min_battery:
        yield f"One whose battery is below {new.min_battery:g} % waits"
    if new.window:
        zone = new.window.timezone
        yield (
            f"Robots begin within {new.window.duration_s / 3600:g} h of {new.window.cron!r}, "
            f"each in its own timezone, or in {zone} where it has none"
        )
    if new.requires_approval:
        yield "Nothing begins before a second person has approved it"


def _robots(count: int) -> str:
    return f"{count} robot" if count == 1 else f"{count} robots"


def _why(error: RosfitError) -> str:
    return "; ".join(_one_error(one) for one in error.errors) or error.detail


def _one_error(error: FieldError) -> str:
    """Some messages begin with their field, since programs show them alone."""
    return error.message if error.message.startswith(error.field) else f"{error.field}: {error.message}"
