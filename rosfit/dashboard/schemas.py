"""Schemas of what may be desired: which there are, whose desired values do not fit, and writing one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar
from urllib.parse import quote

from litestar import Response, get, post
from litestar.datastructures import UploadFile
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Template

from rosfit.accounts import service as accounts
from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, record
from rosfit.dashboard.forms import see_other
from rosfit.dashboard.rendering import Page, Shell, render, shell_for, type_name
from rosfit.dashboard.shadow import name_of
from rosfit.dashboard.shadow_form import pretty, read_json
from rosfit.fleet import groups
from rosfit.fleet.models import DEVICE_TYPES, Group
from rosfit.kernel.work import Work
from rosfit.shadow import schemas
from rosfit.shadow.delta import Document
from rosfit.shadow.errors import SchemaInvalidError
from rosfit.shadow.fitting import SCHEMA_BYTES, check_schema
from rosfit.shadow.models import DEFAULT_NAME
from rosfit.shadow.schema_rows import ShadowSchema
from rosfit.shadow.schemas import Target
from rosfit.shadow.standing import Looked, misfits

READ: dict[str, Any] = {"right": Right.DEVICES_READ}
WRITE: dict[str, Any] = {"right": Right.LAYERS_WRITE}

# What a row of the list says of the keys; the rest is behind it.
KEYS_SHOWN = 4
# A form begins with it where there is none.
EXAMPLE = """{
  "type": "object",
  "properties": {
    "max_speed": { "type": "number", "minimum": 0, "maximum": 2 }
  }
}"""


@dataclass(frozen=True)
class Listed:
    schema: ShadowSchema
    title: str
    keys: list[str]
    more: int


@dataclass(frozen=True)
class SchemasPage(Page):
    """`types` and `others` (groups) are those that have none."""

    template: ClassVar[str] = "schemas.html"
    shell: Shell
    listed: list[Listed]
    types: list[str]
    others: list[Group]


@dataclass(frozen=True)
class Places:
    """The addresses of a schema's pages."""

    schema: str
    edit: str
    delete: str


@dataclass(frozen=True)
class SchemaPage(Page):
    """`names` are those of the shadows for which this target has a schema, and of the one shown."""

    template: ClassVar[str] = "schema.html"
    shell: Shell
    schema: ShadowSchema
    title: str
    text: str
    names: list[str]
    who: str
    looked: Looked | None
    places: Places
    may_write: bool


@dataclass(frozen=True)
class SchemaForm(Page):
    """`version` is the one that the text began from; `looked` says whose desired values would not fit."""

    template: ClassVar[str] = "schema_edit.html"
    shell: Shell
    title: str
    name: str
    places: Places
    version: int
    text: str
    problem: str = ""
    theirs: str = ""
    looked: Looked | None = None


@get("/schemas", opt=READ)
async def show_schemas(work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    """Those of types, and those of groups within reach."""
    within = await groups.in_reach(work, await groups.listing(work), actor.reach)
    ids = {group.group_id for group in within}
    found = [one for one in await schemas.listing(work) if one.group is None or one.target in ids]
    having = {one.target for one in found}
    types: list[str] = [one for one in DEVICE_TYPES if one not in having]
    others = [group for group in within if group.group_id not in having]
    return render(SchemasPage(shell_for(actor), [_listed(one) for one in found], types, others))


def _listed(one: ShadowSchema) -> Listed:
    properties = one.schema.get("properties")
    keys = list(properties) if isinstance(properties, dict) else []
    return Listed(one, _title(one.target, one.group), keys[:KEYS_SHOWN], max(0, len(keys) - KEYS_SHOWN))


def _title(target: str, group: str | None) -> str:
    return type_name(target) if group is None else group


@get("/schemas/{target:str}", opt=READ)
async def show_schema(
    request: AnyRequest, target: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    found, name = await _target(work, actor, target), name_of(request)
    listed = await schemas.listing(work)
    schema = schemas.pick(listed, found, name)
    looked = await misfits(work, found, name, schema.schema, actor.reach) if schema.version else None
    who = await accounts.names(work, {schema.updated_by or ""})
    return render(
        SchemaPage(
            shell_for(actor),
            schema,
            _title(found.id, found.group),
            pretty(schema.schema),
            sorted({name, DEFAULT_NAME, *(one.name for one in listed if one.target == found.id)}, key=_default_first),
            who.get(schema.updated_by or "", schema.updated_by or ""),
            looked,
            _places(found, name),
            actor.may(Right.LAYERS_WRITE),
        )
    )


def _default_first(name: str) -> tuple[bool, str]:
    return name != DEFAULT_NAME, name


@get("/schemas/{target:str}/edit", opt=WRITE)
async def show_schema_form(
    request: AnyRequest, target: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    found = await _target(work, actor, target)
    held = await schemas.get(work, found, name_of(request))
    return render(_form(actor, found, held.name, held.version, pretty(held.schema) if held.version else EXAMPLE))


@post("/schemas/{target:str}/edit", opt=WRITE, status_code=200)
async def write_schema(
    request: AnyRequest, target: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    """`check` says whose desired values would not fit, `save` takes the schema all the same."""
    found, name = await _target(work, actor, target), name_of(request)
    form = await request.form()
    page = _form(actor, found, name, _number(form.get("version", "")), str(form.get("schema", "")))
    try:
        page = replace(page, text=await _given(form, page.text))
        wanted = _schema_of(page.text)
    except (ValueError, SchemaInvalidError) as error:
        return render(replace(page, problem=f"{error}."), status=422)
    if form.get("do") != "save":
        return render(replace(page, looked=await misfits(work, found, name, wanted, actor.reach)))
    version = await schemas.held_version(work, found, name)
    if version != page.version:
        return render(await _overtaken(work, found, page, version), status=409)
    after = await schemas.put(work, found, name, wanted, actor.id)
    told = {"name": name, "version": after.version, "schema": after.schema}
    await record(work, request, actor, "shadow_schema.put", after.target, after=told)
    return see_other(page.places.schema)


async def _given(form: Any, text: str) -> str:
    """The file's text, if one was chosen. Raises ValueError for what is no text."""
    file = form.get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        return text
    content = await file.read(SCHEMA_BYTES + 1)
    if len(content) > SCHEMA_BYTES:
        raise ValueError(f"{file.filename} has more than {SCHEMA_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file.filename} is no text: {error}") from error


def _schema_of(text: str) -> Document:
    """Raises ValueError or SchemaInvalidError."""
    schema: Document = read_json(text)
    check_schema(schema)
    return schema


def _number(text: Any) -> int:
    return int(text) if str(text).isdecimal() else 0


async def _overtaken(work: Work, target: Target, page: SchemaForm, version: int) -> SchemaForm:
    """Somebody else was first: both are shown, and saving once more replaces theirs."""
    held = await schemas.get(work, target, page.name)
    theirs = pretty(held.schema) if held.version else "removed"
    problem = "Somebody else changed this meanwhile. Bring their schema into yours, or save again to replace it."
    return replace(page, version=version, theirs=theirs, problem=problem)


@post("/schemas/{target:str}/delete", opt=WRITE, status_code=200)
async def delete_schema(
    request: AnyRequest, target: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    found, name = await _target(work, actor, target), name_of(request)
    before = await schemas.get(work, found, name)
    await schemas.remove(work, found, name, actor.id)
    await record(work, request, actor, "shadow_schema.delete", found.id, before=before, after={"name": name})
    return see_other("/schemas")


async def _target(work: Work, actor: Actor, target: str) -> Target:
    """Raises GroupNotFoundError, also for a group out of reach."""
    found = await schemas.find_target(work, target)
    if found.group_id is not None:
        await groups.get_in_reach(work, found.group_id, actor.reach)
    return found


def _form(actor: Actor, target: Target, name: str, version: int, text: str) -> SchemaForm:
    title = _title(target.id, target.group)
    return SchemaForm(shell_for(actor), title, name, _places(target, name), version, text)


def _places(target: Target, name: str) -> Places:
    query = "" if name == DEFAULT_NAME else f"?name={quote(name)}"
    place = f"/schemas/{target.id}"
    return Places(place + query, f"{place}/edit{query}", f"{place}/delete{query}")
