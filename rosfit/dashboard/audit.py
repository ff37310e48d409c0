"""The audit log: who did what, what it was before and after, and all of it as a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.response import Stream, Template

from rosfit.accounts import audit
from rosfit.accounts import service as accounts
from rosfit.accounts.errors import UserNotFoundError
from rosfit.accounts.models import Actor, AuditEntry
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest
from rosfit.dashboard.forms import PAGE_SIZE, next_page
from rosfit.dashboard.injected import Opening
from rosfit.dashboard.rendering import NO_STORE, Page, Shell, render, shell_for
from rosfit.kernel.work import Work

READ: dict[str, Any] = {"right": Right.AUDIT_READ}

# What begins the actions that are recorded, for the list to choose from.
SUBJECTS = (
    "access",
    "auth",
    "certificate",
    "command",
    "credential",
    "dead_letter",
    "device",
    "enrolment",
    "enrolment_token",
    "group",
    "hook_source",
    "key",
    "params",
    "shadow",
    "signing_key",
    "task",
    "teleop",
    "user",
)


@dataclass(frozen=True)
class Changed:
    """One field: `path` is dotted, `before` and `after` are JSON, None where it was not there."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Row:
    entry: AuditEntry
    who: str
    changes: list[Changed]


@dataclass(frozen=True)
class Filters:
    """As typed; `actor` may be an id or an e-mail address."""

    actor: str = ""
    action: str = ""
    target: str = ""


@dataclass(frozen=True)
class AuditPage(Page):
    template: ClassVar[str] = "audit.html"
    shell: Shell
    filters: Filters
    rows: list[Row]
    subjects: tuple[str, ...]
    next_url: str | None
    first: bool


@get("/audit", opt=READ)
async def show_audit(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    given = request.query_params
    filters = Filters(*(str(given.get(name, "")).strip()[:200] for name in Filters.__dataclass_fields__))
    wanted = {name: value or None for name, value in msgspec.to_builtins(filters).items()}
    wanted["actor"] = await _actor_id(work, filters.actor)
    page = await audit.find(work, wanted, given.get("cursor"), PAGE_SIZE)
    names = await accounts.names(work, (entry.actor for entry in page.items))
    rows = [Row(entry, names.get(entry.actor, entry.actor), changes(entry.before, entry.after)) for entry in page.items]
    following = next_page("/audit", page.next_cursor, **msgspec.to_builtins(filters))
    return render(AuditPage(shell_for(actor), filters, rows, SUBJECTS, following, not given.get("cursor")))


async def _actor_id(work: Work, typed: str) -> str | None:
    if "@" in typed:
        try:
            return (await accounts.find_user(work, typed)).id
        except UserNotFoundError:
            return typed
    return typed or None


@get("/audit/export.jsonl", opt=READ)
async def export_audit(edge: NamedDependency[Opening], actor: NamedDependency[Actor]) -> Stream:
    """Every entry, oldest first, one JSON object a line."""

    async def lines() -> AsyncIterator[bytes]:
        async with edge.open_work() as work:
            async for line in audit.export(work):
                yield line

    headers = NO_STORE | {"Content-Disposition": 'attachment; filename="rosfit-audit.jsonl"'}
    return Stream(lines(), media_type="application/x-ndjson", headers=headers)


def changes(before: Any, after: Any) -> list[Changed]:
    """Leaf by leaf what differs. Where both are there, what `after` does not name at its top was not touched."""
    if isinstance(before, dict) and isinstance(after, dict):
        before = {key: value for key, value in before.items() if key in after}
    old, new = dict(_leaves(before)), dict(_leaves(after))
    paths = [*new, *(path for path in old if path not in new)]
    return [Changed(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif value is not None or path:
        yield path, msgspec.json.encode(value).decode()
