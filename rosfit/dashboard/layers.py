"""Layers: desired values of the whole fleet and of groups, edited like a shadow, with a look at whom they change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from urllib.parse import quote

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Template

from rosfit.accounts import service as accounts
from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, record
from rosfit.dashboard.forms import see_other
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.dashboard.schema_form import Hints, hints_of
from rosfit.dashboard.shadow import Places, name_of
from rosfit.dashboard.shadow_editor import EditorFragment, in_conflict, previewed, refused, shown, take_step
from rosfit.dashboard.shadow_form import NO_HINTS, Editor, Effect, Sampled
from rosfit.dashboard.shadow_rows import Side, authors, changed, digest_of, label_of, side
from rosfit.fleet import groups
from rosfit.fleet.models import Group
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import RosfitError
from rosfit.kernel.work import Work
from rosfit.shadow import layers, schemas
from rosfit.shadow.changes import get_at, leaves, patch_between
from rosfit.shadow.delta import same
from rosfit.shadow.layers import FLEET, LayerChange, LayerDocument
from rosfit.shadow.models import DEFAULT_NAME, Change
from rosfit.shadow.standing import Looked, refusals

READ: dict[str, Any] = {"right": Right.DEVICES_READ}
WRITE: dict[str, Any] = {"right": Right.LAYERS_WRITE}

# What a row of the list says of the values; the rest is behind it.
VALUES_SHOWN = 4
NO_EFFECT = Effect(0, 0, [], [])
NOBODY = Looked(0, 0, [])


@dataclass(frozen=True)
class Value:
    label: str
    side: Side


@dataclass(frozen=True)
class Listed:
    layer: LayerDocument
    values: list[str]
    more: int


@dataclass(frozen=True)
class LayersPage(Page):
    """`listed` from the bottom up; `others` are groups that have no values."""

    template: ClassVar[str] = "layers.html"
    shell: Shell
    listed: list[Listed]
    others: list[Group]


@dataclass(frozen=True)
class LayerBoard:
    """The part that is replaced when the layer changes; `desired` tells its values apart."""

    layer: LayerDocument
    group: Group | None
    place: str
    names: list[str]
    values: list[Value]
    desired: str
    who: str
    now: str


@dataclass(frozen=True)
class LayerPage(Page):
    template: ClassVar[str] = "layer.html"
    shell: Shell
    board: LayerBoard
    editor: Editor | None
    saved: str | None
    places: Places
    may_write: bool


@dataclass(frozen=True)
class LayerBoardFragment(Page):
    template: ClassVar[str] = "layer_board.html"
    board: LayerBoard


@dataclass(frozen=True)
class RefusalsFragment(Page):
    template: ClassVar[str] = "layer_refusals.html"
    looked: Looked
    name: str


def places_of(group: Group | None, name: str) -> Places:
    query = "" if name == DEFAULT_NAME else f"?name={quote(name)}"
    place = _place(group)
    return Places(place + query, f"{place}/edit{query}", "", f"{place}/delete{query}")


def _place(group: Group | None) -> str:
    return f"/layers/{group.group_id if group else FLEET}"


@get("/layers", opt=READ)
async def show_layers(work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    """The fleet's, and those of the groups within reach."""
    within = await groups.in_reach(work, await groups.listing(work), actor.reach)
    ids = {group.group_id for group in within}
    found = [one for one in await layers.listing(work) if one.group_id is None or one.group_id in ids]
    if not any((one.layer, one.name) == (FLEET, DEFAULT_NAME) for one in found):
        found.insert(0, layers.pick([], None, DEFAULT_NAME))
    having = {one.group_id for one in found}
    others = [group for group in within if group.group_id not in having]
    return render(LayersPage(shell_for(actor), [_listed(one) for one in found], others))


def _listed(layer: LayerDocument) -> Listed:
    values = [f"{one.label} {one.side.text}" for one in _values(layer, {})]
    return Listed(layer, values[:VALUES_SHOWN], max(0, len(values) - VALUES_SHOWN))


@get("/layers/{layer:str}", opt=READ)
async def show_layer(
    request: AnyRequest, layer: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    group = await _group(work, actor, layer)
    board = await _board(work, group, name_of(request))
    if "hx-request" in request.headers:
        return render(LayerBoardFragment(board))
    return render(_page(actor, board))


@get("/layers/{layer:str}/refusals", opt=READ)
async def show_refusals(
    request: AnyRequest, layer: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    """Whom the values do not reach, and why; asked for by the page, since a look at a whole fleet takes its time."""
    group, name = await _group(work, actor, layer), name_of(request)
    has_values = (await layers.get(work, group, name)).version > 0
    return render(RefusalsFragment(await refusals(work, group, name, actor.reach) if has_values else NOBODY, name))


@get("/layers/{layer:str}/edit", opt=WRITE)
async def show_layer_editor(
    request: AnyRequest, layer: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    group = await _group(work, actor, layer)
    found = await layers.get(work, group, name_of(request))
    hints = await _hints(work, group, found.name)
    editor = Editor(layer, found.name, found.desired, found.desired, effect=NO_EFFECT, hints=hints)
    return await _answer(request, work, actor, group, shown(_with_priority(editor, group, str(found.priority))))


@post("/layers/{layer:str}/edit", opt=WRITE, status_code=200)
async def edit_layer(
    request: AnyRequest, layer: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    """One step; every step answers with the whole editor, so that nothing typed is lost."""
    group = await _group(work, actor, layer)
    typed = {name: str(value) for name, value in (await request.form()).items()}
    name = name_of(request)
    taken = take_step(layer, name, typed, await _hints(work, group, name))
    editor = _with_priority(replace(taken.editor, effect=NO_EFFECT), group, typed.get("priority", "0").strip())
    if taken.judged:
        return await _judge(request, work, actor, group, editor, typed, taken.step)
    return await _answer(request, work, actor, group, editor, status=422 if taken.wrong else 200)


async def _hints(work: Work, group: Group | None, name: str) -> Hints:
    """A group's own schema; its robots may have others, too, and the preview looks at all of them."""
    if group is None:
        return NO_HINTS
    target = schemas.Target(group.group_id, group.group_id, group.name)
    return hints_of([(await schemas.get(work, target, name)).schema])


def _with_priority(editor: Editor, group: Group | None, text: str) -> Editor:
    return replace(editor, priority=text if group else None)


async def _judge(
    request: AnyRequest,
    work: Work,
    actor: Actor,
    group: Group | None,
    editor: Editor,
    typed: Mapping[str, str],
    step: str,
) -> Response[Any]:
    """Preview, save or bring together, against the values that the layer has by now."""
    version = await layers.held_version(work, group, editor.name)
    current = await layers.get(work, group, editor.name)
    if not same(current.desired, editor.base):
        return await _answer(request, work, actor, group, in_conflict(editor, current.desired), status=409)
    try:
        wanted = _wanted(editor, version)
        effect = await _effect(work, group, editor.name, wanted)
        seen = replace(editor, review="changes", changes=changed(editor.base, editor.draft), effect=effect)
        editor = shown(replace(seen, reordered=wanted.priority not in {None, current.priority}))
        if step != "save" or not editor.savable or not same(editor.draft, previewed(typed)):
            return await _answer(request, work, actor, group, editor)
        async with work.connection.transaction():
            after = await layers.change(work, group, editor.name, wanted, actor.id)
    except RosfitError as error:
        return await _answer(request, work, actor, group, refused(editor, error), status=422)
    told = {"name": after.name, "version": after.version, "patch": wanted.change.patch, "replace": False}
    await record(work, request, actor, "shadow_layer.change", after.layer, after=told)
    return _saved(request, group, after, effect)


def _wanted(editor: Editor, version: int) -> LayerChange:
    patch = patch_between(editor.base, editor.draft)
    change = Change(patch, version=version, reason=editor.reason or None)
    return LayerChange(change, None if editor.priority is None else layers.parse_priority(editor.priority))


async def _effect(work: Work, group: Group | None, name: str, wanted: LayerChange) -> Effect:
    found = await layers.preview(work, group, name, wanted)
    sample = [Sampled(one.device_id, changed(one.before or {}, one.after or {})) for one in found.sample]
    return Effect(found.devices, found.changed, [f"{one.device_id}: {one.reason}" for one in found.refusals], sample)


@post("/layers/{layer:str}/delete", opt=WRITE, status_code=200)
async def delete_layer(
    request: AnyRequest, layer: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    group, name = await _group(work, actor, layer), name_of(request)
    before = await layers.get(work, group, name)
    await layers.remove(work, group, name, actor.id)
    await record(work, request, actor, "shadow_layer.delete", before.layer, before=before, after={"name": name})
    return see_other("/layers")


async def _group(work: Work, actor: Actor, layer: str) -> Group | None:
    """None for the fleet. Raises GroupNotFoundError, also for one out of reach."""
    return None if layer == FLEET else await groups.get_in_reach(work, layer, actor.reach)


async def _board(work: Work, group: Group | None, name: str) -> LayerBoard:
    listed = await layers.listing(work)
    layer = layers.pick(listed, group, name)
    names = [one.name for one in listed if one.group_id == layer.group_id]
    who = await accounts.names(work, authors(layer.metadata) | {layer.updated_by or ""})
    return LayerBoard(
        layer,
        group,
        _place(group),
        sorted({DEFAULT_NAME, name, *names}, key=lambda one: (one != DEFAULT_NAME, one)),
        _values(layer, who),
        digest_of(layer.desired),
        who.get(layer.updated_by or "", layer.updated_by or ""),
        format_time(now()),
    )


def _values(layer: LayerDocument, names: Mapping[str, str]) -> list[Value]:
    return [
        Value(label_of(path), replace(side(value, get_at(layer.metadata, path), names), layer=None))
        for path, value in sorted(leaves(layer.desired).items())
    ]


def _page(actor: Actor, board: LayerBoard, editor: Editor | None = None) -> LayerPage:
    places = places_of(board.group, board.layer.name)
    return LayerPage(shell_for(actor), board, editor, None, places, actor.may(Right.LAYERS_WRITE))


async def _answer(
    request: AnyRequest, work: Work, actor: Actor, group: Group | None, editor: Editor, *, status: int = 200
) -> Template:
    if "hx-request" in request.headers:
        return render(EditorFragment(editor, None, places_of(group, editor.name)), status=status)
    return render(_page(actor, await _board(work, group, editor.name), editor), status=status)


def _saved(request: AnyRequest, group: Group | None, layer: LayerDocument, effect: Effect) -> Response[Any]:
    places = places_of(group, layer.name)
    if "hx-request" not in request.headers:
        return see_other(places.shadow)
    robots = "1 robot is" if effect.changed == 1 else f"{effect.changed} robots are"
    told = f"Saved as version {layer.version}. {robots} told what differs."
    return render(EditorFragment(None, told, places), headers={"HX-Trigger": "shadow-changed"})
