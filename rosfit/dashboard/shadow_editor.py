"""Editing what is desired: a form or JSON, a look at what will change, and other people's changes met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Template

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, record
from rosfit.dashboard.forms import see_other
from rosfit.dashboard.rendering import Page, render, shell_for
from rosfit.dashboard.schema_form import Hints, hints_of
from rosfit.dashboard.shadow import Places, ShadowPage, board_of, name_of, places_of
from rosfit.dashboard.shadow_form import (
    NO_HINTS,
    Adding,
    Editor,
    Met,
    members_of,
    path_of,
    pointer_of,
    pretty,
    read_document,
    read_fields,
    with_key,
    without,
)
from rosfit.dashboard.shadow_rows import changed, json_text, label_of
from rosfit.fleet import service as fleet
from rosfit.kernel.errors import RosfitError
from rosfit.kernel.work import Work
from rosfit.shadow import service
from rosfit.shadow.changes import Meeting, changes, combine, meetings, patch_between
from rosfit.shadow.delta import Document, same
from rosfit.shadow.models import Change
from rosfit.shadow.schemas import schemas_for

WRITE: dict[str, Any] = {"right": Right.SHADOW_WRITE}

REASON_LIMIT = 500


@dataclass(frozen=True)
class EditorFragment(Page):
    template: ClassVar[str] = "shadow_editor.html"
    editor: Editor | None
    saved: str | None
    places: Places


@dataclass(frozen=True)
class Taken:
    """One step of an editor. `judged`: it is still to be met with what is desired by now."""

    editor: Editor
    step: str
    wrong: bool = False
    judged: bool = False


@get("/robots/{device_id:str}/shadow/edit", opt=WRITE)
async def show_editor(
    request: AnyRequest, device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    await fleet.check_reach(work, device_id, actor.reach)
    name = name_of(request)
    desired = await _desired(work, device_id, name)
    hints = await _hints(work, device_id, name)
    return await _answer(request, work, actor, shown(Editor(device_id, name, desired, desired, hints=hints)))


@post("/robots/{device_id:str}/shadow/edit", opt=WRITE, status_code=200)
async def edit(
    request: AnyRequest, device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    """One step; every step answers with the whole editor, so that nothing typed is lost."""
    await fleet.check_reach(work, device_id, actor.reach)
    typed = {name: str(value) for name, value in (await request.form()).items()}
    name = name_of(request)
    taken = take_step(device_id, name, typed, await _hints(work, device_id, name))
    if taken.judged:
        return await _judge(request, work, actor, taken.editor, typed, taken.step)
    return await _answer(request, work, actor, taken.editor, status=422 if taken.wrong else 200)


async def _hints(work: Work, device_id: str, name: str) -> Hints:
    key = device_id, name
    return hints_of(row.schema for row in (await schemas_for(work, [key])).get(key, []))


def take_step(target: str, name: str, typed: Mapping[str, str], hints: Hints = NO_HINTS) -> Taken:
    """What the form asks for, as far as it needs nothing but the form."""
    step = typed.get("do", "preview")
    editor, errors = _read(target, name, typed, hints)
    if step.startswith("remove:"):
        errors.pop(step.removeprefix("remove:"), None)
    if editor.problem or errors or editor.adding.error:
        return Taken(shown(editor, typed, errors), step, wrong=True)
    if step == "json" or step == "form":
        editor = replace(editor, view=step)
    elif step.startswith("remove:"):
        editor = replace(editor, draft=without(editor.draft, step.removeprefix("remove:")))
    elif step != "add":
        return Taken(merged(editor, typed) if step == "merge" else editor, step, judged=True)
    return Taken(shown(editor), step)


def _read(target: str, name: str, typed: Mapping[str, str], hints: Hints) -> tuple[Editor, dict[str, str]]:
    """What the form says, and what is wrong with its fields by pointer."""
    view = "json" if typed.get("view") == "json" else "form"
    reason = typed.get("reason", "").strip()[:REASON_LIMIT]
    adding = Adding(typed.get("add_key", "").strip(), typed.get("add_kind", "number"), typed.get("add_value", ""))
    editor = Editor(target, name, {}, {}, view, typed.get("draft", ""), adding=adding, reason=reason, hints=hints)
    try:
        editor = replace(editor, base=read_document(typed.get("base", "")))
        draft = read_document(editor.text)
    except ValueError as error:
        return replace(editor, problem=f"{error}.", view="json"), {}
    draft, errors = read_fields(draft, typed, hints) if view == "form" else (draft, {})
    editor = replace(editor, draft=draft)
    if view == "form" and adding.key:
        try:
            return replace(editor, draft=with_key(draft, adding.key, adding.kind, adding.text), adding=Adding()), errors
        except ValueError as error:
            editor = replace(editor, adding=replace(adding, error=f"{error}."))
    return editor, errors


def shown(editor: Editor, typed: Mapping[str, str] | None = None, errors: Mapping[str, str] | None = None) -> Editor:
    """With the fields, and the text of the draft unless it is what is wrong."""
    text = editor.text if editor.problem and editor.view == "json" else pretty(editor.draft)
    return replace(editor, text=text, members=members_of(editor.draft, typed or {}, errors or {}, editor.hints))


async def _judge(
    request: AnyRequest, work: Work, actor: Actor, editor: Editor, typed: Mapping[str, str], step: str
) -> Response[Any]:
    """Preview, save or bring together, against what is desired by now."""
    version = await service.held_version(work, editor.target, editor.name)
    current = await _desired(work, editor.target, editor.name)
    if not same(current, editor.base):
        return await _answer(request, work, actor, in_conflict(editor, current), status=409)
    patch = patch_between(editor.base, editor.draft)
    try:
        after = await service.foresee(work, editor.target, editor.name, Change(patch), actor.id)
        kept = [label_of(one.path) for one in changes(editor.draft, after)]
        editor = shown(replace(editor, review="changes", changes=changed(editor.base, after), kept=kept))
        if step != "save" or not editor.savable or not same(editor.draft, previewed(typed)):
            return await _answer(request, work, actor, editor)
        change = Change(patch, version=version, reason=editor.reason or None)
        async with work.connection.transaction():
            shadow = await service.change_desired(work, editor.target, editor.name, change, actor.id)
    except RosfitError as error:
        return await _answer(request, work, actor, refused(editor, error), status=422)
    told = {"name": editor.name, "version": shadow.version, "patch": patch, "replace": False}
    await record(work, request, actor, "shadow.desired", editor.target, after=told)
    return _saved(request, editor, shadow.version)


def refused(editor: Editor, error: RosfitError) -> Editor:
    """With what is wrong, also beside the field that it is about."""
    wrong = {pointer_of(tuple(one.field.split("."))): one.message for one in error.errors}
    return shown(replace(editor, review="none", problem=f"{error.title}: {error.detail}."), errors=wrong)


def in_conflict(editor: Editor, current: Document) -> Editor:
    """Somebody else changed it since the editing began."""
    met = [_met(one) for one in meetings(editor.base, editor.draft, current)]
    return shown(replace(editor, review="conflict", meetings=met, theirs=current))


def merged(editor: Editor, typed: Mapping[str, str]) -> Editor:
    """Their document with your changes, but for those that were given up; what was seen of theirs is the new base."""
    try:
        theirs = read_document(typed.get("theirs", ""))
    except ValueError:
        return editor
    given_up = {
        path_of(name.removeprefix("take:")) for name, side in typed.items() if side == "theirs" and "take:" in name
    }
    return replace(editor, base=theirs, draft=combine(editor.base, editor.draft, theirs, given_up))


def previewed(typed: Mapping[str, str]) -> Document | None:
    """The draft whose changes were looked at: nothing else is saved."""
    try:
        return read_document(typed["previewed"])
    except (KeyError, ValueError):
        return None


def _met(one: Meeting) -> Met:
    return Met(
        pointer_of(one.path),
        label_of(one.path),
        json_text(one.base),
        json_text(one.yours),
        json_text(one.theirs),
        one.clash,
    )


async def _desired(work: Work, device_id: str, name: str) -> Document:
    desired: Document = (await service.get(work, device_id, name)).state.get("desired", {})
    return desired


async def _answer(request: AnyRequest, work: Work, actor: Actor, editor: Editor, *, status: int = 200) -> Template:
    places = places_of(editor.target, editor.name)
    if "hx-request" in request.headers:
        return render(EditorFragment(editor, None, places), status=status)
    device = await fleet.get(work, editor.target, actor.reach)
    board = await board_of(work, device, editor.name, actor)
    return render(ShadowPage(shell_for(actor), board, editor, None, places), status=status)


def _saved(request: AnyRequest, editor: Editor, version: int) -> Response[Any]:
    places = places_of(editor.target, editor.name)
    if "hx-request" in request.headers:
        return render(EditorFragment(None, f"Saved as version {version}. The robot is told what differs.", places))
    return see_other(places.shadow)
