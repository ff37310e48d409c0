"""People: who may sign in, with which role, and for which robots."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Template

from rosfit.accounts import service as accounts
from rosfit.accounts.errors import LastAdminError, UserExistsError
from rosfit.accounts.models import Actor, NewUser, User, UserChange
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, record
from rosfit.dashboard.forms import (
    EXPECTED,
    NO_LIMITS,
    PAGE_SIZE,
    Limits,
    limits_of,
    next_page,
    see_other,
    text,
    wrong_fields,
)
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.fleet import groups
from rosfit.fleet.models import Group
from rosfit.kernel.work import Work

WRITE: dict[str, Any] = {"right": Right.USERS_WRITE}

ROLE_WORDS = {
    "viewer": "sees robots, telemetry and logs",
    "operator": "and sends commands, drives, acknowledges alerts",
    "engineer": "and adds robots, changes shadows, updates and groups",
    "admin": "and manages people, keys, settings and the audit log",
}


@dataclass(frozen=True)
class PeoplePage(Page):
    template: ClassVar[str] = "people.html"
    shell: Shell
    people: list[User]
    group_names: dict[str, str]
    next_url: str | None


@dataclass(frozen=True)
class Draft:
    """A person as the form shows them."""

    email: str = ""
    name: str = ""
    role: str = "viewer"
    limits: Limits = NO_LIMITS


@dataclass(frozen=True)
class NewPersonPage(Page):
    template: ClassVar[str] = "person_new.html"
    shell: Shell
    draft: Draft
    groups: list[Group]
    roles: dict[str, str] = field(default_factory=lambda: ROLE_WORDS)
    field_errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PersonPage(Page):
    template: ClassVar[str] = "person.html"
    shell: Shell
    person: User
    draft: Draft
    groups: list[Group]
    roles: dict[str, str] = field(default_factory=lambda: ROLE_WORDS)
    field_errors: dict[str, str] = field(default_factory=dict)
    error: str = ""


@get("/people", opt=WRITE)
async def show_people(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    page = await accounts.list_users(work, request.query_params.get("cursor"), PAGE_SIZE)
    names = {group.group_id: group.name for group in await groups.listing(work)}
    return render(PeoplePage(shell_for(actor), page.items, names, next_page("/people", page.next_cursor)))


@get("/people/new", opt=WRITE)
async def show_new_person(work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    return render(NewPersonPage(shell_for(actor), Draft(), await groups.listing(work)))


@post("/people/new", opt=WRITE, status_code=200)
async def add_person(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Response[Any]:
    form = await request.form()
    draft = Draft(text(form, "email"), text(form, "name"), text(form, "role"), limits_of(form))
    page = NewPersonPage(shell_for(actor), draft, await groups.listing(work))
    values = _values(draft) | {"email": draft.email, "password": str(form.get("password", ""))}
    if wrong := wrong_fields(values, NewUser):
        return render(replace(page, field_errors=wrong), status=422)
    try:
        user = await accounts.add_user(work, msgspec.convert(values, NewUser))
    except UserExistsError:
        return render(replace(page, field_errors={"email": "Somebody has this address already"}), status=409)
    await record(work, request, actor, "user.create", user.id, after=user)
    return see_other("/people")


def _values(draft: Draft) -> dict[str, Any]:
    return {"name": draft.name, "role": draft.role, **draft.limits.values()}


@get("/people/{user_id:str}", opt=WRITE)
async def show_person(user_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    return render(await _page(work, actor, user_id))


async def _page(work: Work, actor: Actor, user_id: str) -> PersonPage:
    person = await accounts.get_user(work, user_id)
    limits = Limits(tuple(person.only_groups), " ".join(person.only_tags))
    draft = Draft(person.email, person.name, person.role, limits)
    return PersonPage(shell_for(actor), person, draft, await groups.listing(work))


@post("/people/{user_id:str}", opt=WRITE, status_code=200)
async def change_person(
    request: AnyRequest, user_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    """Name, role and limits."""
    form = await request.form()
    page = await _page(work, actor, user_id)
    draft = replace(page.draft, name=text(form, "name"), role=text(form, "role"), limits=limits_of(form))
    page = replace(page, draft=draft)
    values = _values(draft)
    if wrong := wrong_fields(values, NewUser):
        return render(replace(page, field_errors=wrong), status=422)
    return await _change(request, work, actor, page, msgspec.convert(values, UserChange))


@post("/people/{user_id:str}/password", opt=WRITE, status_code=200)
async def reset_password(
    request: AnyRequest, user_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    form = await request.form()
    page = await _page(work, actor, user_id)
    values = {"password": str(form.get("password", ""))}
    if wrong_fields(values, NewUser):
        return render(replace(page, field_errors={"password": EXPECTED["password"]}), status=422)
    return await _change(request, work, actor, page, msgspec.convert(values, UserChange))


@post("/people/{user_id:str}/disable", opt=WRITE, status_code=200)
async def disable_person(
    request: AnyRequest, user_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    return await _change(request, work, actor, await _page(work, actor, user_id), UserChange(disabled=True))


@post("/people/{user_id:str}/enable", opt=WRITE, status_code=200)
async def enable_person(
    request: AnyRequest, user_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    return await _change(request, work, actor, await _page(work, actor, user_id), UserChange(disabled=False))


@post("/people/{user_id:str}/delete", opt=WRITE, status_code=200)
async def delete_person(
    request: AnyRequest, user_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    page = await _page(work, actor, user_id)
    try:
        before = await accounts.delete_user(work, user_id)
    except LastAdminError as error:
        return _refused(page, error)
    await record(work, request, actor, "user.delete", user_id, before=before)
    return see_other("/people")


async def _change(request: AnyRequest, work: Work, actor: Actor, page: PersonPage, change: UserChange) -> Response[Any]:
    before = page.person
    try:
        after = await accounts.change_user(work, before.id, change)
    except LastAdminError as error:
        return _refused(page, error)
    await record(work, request, actor, "user.update", before.id, before=before, after=after)
    return see_other("/people")


def _refused(page: PersonPage, error: LastAdminError) -> Template:
    return render(replace(page, error=f"{error.title}: {error.detail}."), status=error.status)
