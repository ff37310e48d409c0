"""API keys: what programs sign in with. A secret is shown once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any, ClassVar

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect, Template

from rosfit.accounts import service as accounts
from rosfit.accounts.models import Actor, Key, KeyWithSecret, NewKey
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
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.work import Work
from rosfit.settings import Settings

WRITE: dict[str, Any] = {"right": Right.KEYS_WRITE}

DEFAULT_LIFE = timedelta(days=90)

RIGHT_WORDS = {
    Right.DEVICES_READ: "see robots",
    Right.DEVICES_WRITE: "add, change and decommission robots",
    Right.GROUPS_WRITE: "change groups",
    Right.TELEMETRY_READ: "read telemetry and pictures",
    Right.COMMANDS_WRITE: "send commands, drive, stop",
    Right.SHADOW_WRITE: "change desired state",
    Right.LAYERS_WRITE: "change desired state of the fleet and of groups",
    Right.OTA_WRITE: "upload and roll out updates",
    Right.ALERTS_WRITE: "acknowledge alerts, change rules",
    Right.DEAD_LETTERS: "read and replay dead letters",
    Right.METRICS_READ: "read the server's metrics",
    Right.USERS_WRITE: "manage people",
    Right.KEYS_WRITE: "manage API keys",
    Right.HOOKS_WRITE: "manage webhooks",
    Right.AUDIT_READ: "read the audit log",
}


@dataclass(frozen=True)
class KeysPage(Page):
    template: ClassVar[str] = "keys.html"
    shell: Shell
    keys: list[Key]
    group_names: dict[str, str]
    makers: dict[str, str]
    next_url: str | None


@dataclass(frozen=True)
class KeyDraft:
    """A key as the form shows it; `expires_on` is a day, and empty for never."""

    name: str
    scopes: tuple[str, ...]
    expires_on: str
    limits: Limits = NO_LIMITS


@dataclass(frozen=True)
class NewKeyPage(Page):
    template: ClassVar[str] = "key_new.html"
    shell: Shell
    draft: KeyDraft
    groups: list[Group]
    scopes: dict[str, str] = field(default_factory=lambda: {right.value: RIGHT_WORDS[right] for right in Right})
    field_errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyMadePage(Page):
    template: ClassVar[str] = "key_made.html"
    shell: Shell
    key: KeyWithSecret
    address: str


@get("/keys", opt=WRITE)
async def show_keys(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    page = await accounts.list_keys(work, request.query_params.get("cursor"), PAGE_SIZE)
    names = {group.group_id: group.name for group in await groups.listing(work)}
    makers = await accounts.names(work, (key.created_by for key in page.items if key.created_by))
    return render(KeysPage(shell_for(actor), page.items, names, makers, next_page("/keys", page.next_cursor)))


@get("/keys/new", opt=WRITE)
async def show_new_key(work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    draft = KeyDraft("", (Right.DEVICES_READ, Right.TELEMETRY_READ), (now() + DEFAULT_LIFE).date().isoformat())
    return render(NewKeyPage(shell_for(actor), draft, await groups.listing(work)))


@post("/keys/new", opt=WRITE, status_code=200)
async def make_key(
    request: AnyRequest,
    work: NamedDependency[Work],
    settings: NamedDependency[Settings],
    actor: NamedDependency[Actor],
) -> Response[Any]:
    form = await request.form()
    scopes = tuple(str(scope) for scope in form.getall("scopes", []))
    draft = KeyDraft(text(form, "name"), scopes, text(form, "expires_on"), limits_of(form))
    values: dict[str, Any] = {"name": draft.name, "scopes": list(scopes), **draft.limits.values()}
    wrong = wrong_fields(values, NewKey)
    try:
        values["expires_at"] = _end_of(draft.expires_on)
    except ValueError:
        wrong["expires_at"] = EXPECTED["expires_at"]
    if wrong:
        page = NewKeyPage(shell_for(actor), draft, await groups.listing(work))
        return render(replace(page, field_errors=wrong), status=422)
    new = msgspec.convert(values, NewKey)
    key = await accounts.create_key(work, new, actor)
    await record(work, request, actor, "key.create", key.id, after=new)
    return render(KeyMadePage(shell_for(actor), key, public_address(request, settings)))


def _end_of(day: str) -> datetime | None:
    """The last moment of a day (UTC). Raises ValueError for what is no day, or over."""
    if not day:
        return None
    end = datetime.combine(datetime.strptime(day, "%Y-%m-%d").date(), time.max, UTC)
    if end <= now():
        raise ValueError(f"{format_time(end)} is over")
    return end


def public_address(request: AnyRequest, settings: Settings) -> str:
    """Where programs and robots reach RosFit."""
    return (settings.public_url or str(request.base_url)).rstrip("/")


@post("/keys/{key_id:str}/revoke", opt=WRITE, status_code=200)
async def revoke_key(
    request: AnyRequest, key_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Redirect:
    await accounts.revoke_key(work, key_id)
    await record(work, request, actor, "key.revoke", key_id)
    return see_other("/keys")
