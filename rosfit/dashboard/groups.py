"""Groups: lists of robots that people keep, and saved queries with a look at what they find."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Template

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, record
from rosfit.dashboard.forms import PAGE_SIZE, next_page, see_other, text, words
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.fleet import groups, query
from rosfit.fleet import service as fleet
from rosfit.fleet.errors import DeviceNotFoundError, GroupExistsError, GroupInUseError, GroupNotFoundError
from rosfit.fleet.groups import GroupChange, GroupName, NewGroup, Preview
from rosfit.fleet.models import Device, DeviceFilter, Group, Reach
from rosfit.kernel.work import Work

READ: dict[str, Any] = {"right": Right.DEVICES_READ}
WRITE: dict[str, Any] = {"right": Right.GROUPS_WRITE}

KINDS = ("static", "query")
CANDIDATES = 8

_NAME = "Begin with a letter or digit; up to 100 letters, digits, spaces, and . _ -"
_TAKEN = "There is a group with this name already"


@dataclass(frozen=True)
class Listed:
    group: Group
    count: int


@dataclass(frozen=True)
class GroupsPage(Page):
    template: ClassVar[str] = "groups.html"
    shell: Shell
    listed: list[Listed]
    may_write: bool


@dataclass(frozen=True)
class Look:
    """What a query finds now, or why it cannot be understood."""

    preview: Preview | None = None
    error: str = ""


@dataclass(frozen=True)
class LookFragment(Page):
    template: ClassVar[str] = "group_look.html"
    look: Look


@dataclass(frozen=True)
class NewGroupPage(Page):
    template: ClassVar[str] = "group_new.html"
    shell: Shell
    kind: str
    fields: list[str]
    look: Look
    name: str = ""
    query: str = ""
    members: str = ""
    field_errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupPage(Page):
    """`find` is what somebody looks for to add, `candidates` the robots that it finds; None without a search."""

    template: ClassVar[str] = "group.html"
    shell: Shell
    group: Group
    count: int
    devices: list[Device]
    next_url: str | None
    may_write: bool
    name: str
    query: str
    look: Look
    fields: list[str]
    find: str = ""
    candidates: list[Device] | None = None
    find_error: str = ""
    field_errors: dict[str, str] = field(default_factory=dict)
    error: str = ""


@get("/groups", opt=READ)
async def show_groups(work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    """With counts within reach; somebody with limits sees only groups that hold something for them."""
    listed = await groups.listing(work)
    counts = await groups.counts(work, listed, actor.reach)
    shown = [Listed(group, counts[group.group_id]) for group in listed if groups.shown(group, counts, actor.reach)]
    return render(GroupsPage(shell_for(actor), shown, actor.may(Right.GROUPS_WRITE)))


@get("/groups/new", opt=WRITE)
async def show_new_group(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    """`name` and `query` may stand in the address, so that a look works without scripts."""
    given = request.query_params
    kind = "query" if given.get("kind") == "query" else "static"
    text_of_query = str(given.get("query", ""))[: query.LENGTH_LIMIT]
    look = await _look(work, text_of_query, actor.reach) if text_of_query else Look()
    return render(
        NewGroupPage(shell_for(actor), kind, query.field_names(), look, str(given.get("name", ""))[:100], text_of_query)
    )


@get("/groups/look", opt=READ)
async def look_at_query(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    return render(LookFragment(await _look(work, str(request.query_params.get("query", "")), actor.reach)))


async def _look(work: Work, text_of_query: str, reach: Reach) -> Look:
    if not text_of_query.strip():
        return Look()
    try:
        return Look(await groups.preview(work, text_of_query, reach))
    except query.QueryError as error:
        return Look(error=f"{error.detail}.")


@post("/groups/new", opt=WRITE, status_code=200)
async def add_group(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Response[Any]:
    form = await request.form()
    kind, name = text(form, "kind"), text(form, "name")
    page = NewGroupPage(
        shell_for(actor),
        kind if kind in KINDS else "static",
        query.field_names(),
        Look(),
        name,
        text(form, "query"),
        text(form, "members"),
    )
    new: dict[str, Any] = {"name": name, "kind": page.kind}
    new |= {"query": page.query} if page.kind == "query" else {"device_ids": words(page.members)}
    wrong = _wrong_name(name)
    if not wrong:
        try:
            async with work.connection.transaction():
                made = await groups.create(work, msgspec.convert(new, NewGroup))
        except (GroupExistsError, DeviceNotFoundError, query.QueryError, msgspec.ValidationError) as error:
            wrong = _wrong(error)
    if wrong:
        look = await _look(work, page.query, actor.reach)
        return render(replace(page, look=look, field_errors=wrong), status=422)
    await record(work, request, actor, "group.create", made.group_id, after=new)
    return see_other(f"/groups/{made.group_id}")


def _wrong_name(name: str) -> dict[str, str]:
    try:
        msgspec.convert(name, GroupName)
    except msgspec.ValidationError:
        return {"name": _NAME}
    return {}


def _wrong(error: Exception) -> dict[str, str]:
    """Which field a refusal is about, and why."""
    match error:
        case GroupInUseError():
            return {"name": f"{error.detail}."}
        case GroupExistsError():
            return {"name": _TAKEN}
        case query.QueryError():
            return {"query": f"{error.detail}."}
        case DeviceNotFoundError():
            return {"members": f"{error.detail}."}
    return {"members": "Write ids of robots, separated by spaces"}


@get("/groups/{group_id:str}", opt=READ)
async def show_group(
    request: AnyRequest, group_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    cursor, find = request.query_params.get("cursor"), str(request.query_params.get("find", "")).strip()
    page = await _page(work, actor, group_id, cursor)
    if find and page.may_write and page.group.kind == "static":
        page = await _with_candidates(work, page, find, actor.reach)
    return render(page)


async def _page(work: Work, actor: Actor, group_id: str, cursor: str | None = None) -> GroupPage:
    group = await groups.get(work, group_id)
    counts = await groups.counts(work, [group], actor.reach)
    if not groups.shown(group, counts, actor.reach):
        raise GroupNotFoundError(f"There is no group {group_id[:100]!r}")
    devices = await fleet.find(work, DeviceFilter(group=group.group_id), cursor, PAGE_SIZE, actor.reach)
    return GroupPage(
        shell_for(actor),
        group,
        counts[group.group_id],
        devices.items,
        next_page(f"/groups/{group.group_id}", devices.next_cursor),
        actor.may(Right.GROUPS_WRITE),
        group.name,
        group.query or "",
        Look(),
        query.field_names(),
    )


async def _with_candidates(work: Work, page: GroupPage, find: str, reach: Reach) -> GroupPage:
    """Robots that are not in the group and fit what was typed."""
    wanted = DeviceFilter(q=f"{find} -group:{page.group.group_id} -status:decommissioned")
    try:
        found = await fleet.find(work, wanted, None, CANDIDATES, reach)
    except query.QueryError as error:
        return replace(page, find=find, find_error=f"{error.detail}.")
    return replace(page, find=find, candidates=found.items)


@post("/groups/{group_id:str}", opt=WRITE, status_code=200)
async def change_group(
    request: AnyRequest, group_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    """A new name, or another query."""
    form = await request.form()
    page = await _page(work, actor, group_id)
    page = replace(page, name=text(form, "name"), query=text(form, "query"))
    change = GroupChange(page.name)
    if page.group.kind == "query":
        change = msgspec.structs.replace(change, query=page.query)
    wrong = _wrong_name(page.name)
    if not wrong:
        try:
            async with work.connection.transaction():
                after = await groups.change(work, page.group.group_id, change)
        except (GroupExistsError, GroupInUseError, query.QueryError) as error:
            wrong = _wrong(error)
    if wrong:
        return render(replace(page, field_errors=wrong), status=422)
    await record(work, request, actor, "group.update", after.group_id, before=page.group, after=after)
    return see_other(f"/groups/{after.group_id}")


@post("/groups/{group_id:str}/members", opt=WRITE, status_code=200)
async def change_members(
    request: AnyRequest, group_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    """Add and remove; the search that found somebody to add stays."""
    form = await request.form()
    page = await _page(work, actor, group_id)
    change = GroupChange(add=words(text(form, "add")), remove=words(text(form, "remove")))
    try:
        async with work.connection.transaction():
            await groups.change(work, page.group.group_id, change)
    except DeviceNotFoundError as error:
        return render(replace(page, error=f"{error.detail}."), status=404)
    await record(work, request, actor, "group.update", page.group.group_id, before=page.group, after=change)
    find = text(form, "find")
    return see_other(f"/groups/{page.group.group_id}" + (f"?find={quote(find)}" if find else ""))


@post("/groups/{group_id:str}/delete", opt=WRITE, status_code=200)
async def delete_group(
    request: AnyRequest, group_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    page = await _page(work, actor, group_id)
    try:
        before = await groups.remove(work, page.group.group_id)
    except GroupInUseError as error:
        return render(replace(page, error=f"{error.title}: {error.detail}."), status=error.status)
    await record(work, request, actor, "group.delete", before.group_id, before=before)
    return see_other("/groups")
