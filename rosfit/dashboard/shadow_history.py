"""Every version of a shadow: who changed what, when and why; any two compared; going back to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Template

from rosfit.accounts import service as accounts
from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, record
from rosfit.dashboard.forms import next_page, see_other
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.dashboard.shadow import READ, Places, name_of, places_of
from rosfit.dashboard.shadow_editor import WRITE
from rosfit.dashboard.shadow_rows import Changed, changed
from rosfit.fleet import service as fleet
from rosfit.fleet.models import Device
from rosfit.kernel.errors import BadRequestError
from rosfit.kernel.work import Work
from rosfit.shadow import service
from rosfit.shadow.delta import Document
from rosfit.shadow.errors import ShadowVersionNotFoundError
from rosfit.shadow.models import DEFAULT_NAME, Version

PAGE_SIZE = 25

# What a row says of its changes at a glance; the rest is behind "compare".
CHANGES_SHOWN = 3


@dataclass(frozen=True)
class Row:
    """One version beside the one before it."""

    version: Version
    who: str
    changes: list[Changed]
    more: int


@dataclass(frozen=True)
class Comparison:
    """What differs in each section from one version to another."""

    older: Version
    newer: Version
    desired: list[Changed]
    reported: list[Changed]


@dataclass(frozen=True)
class HistoryPage(Page):
    template: ClassVar[str] = "shadow_history.html"
    shell: Shell
    device: Device
    name: str
    places: Places
    rows: list[Row]
    newest: int
    comparison: Comparison | None
    next_url: str | None
    first: bool
    may_write: bool


@get("/robots/{device_id:str}/shadow/history", opt=READ)
async def show_history(
    request: AnyRequest, device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    device = await fleet.get(work, device_id, actor.reach)
    name, given = name_of(request), request.query_params
    cursor = given.get("cursor")
    page = await service.history(work, device_id, name, cursor, PAGE_SIZE)
    places = places_of(device_id, name)
    return render(
        HistoryPage(
            shell_for(actor),
            device,
            name,
            places,
            await _rows(work, device_id, name, page.items),
            (await service.get(work, device_id, name)).version,
            await _comparison(work, device_id, name, given.get("older"), given.get("newer")),
            next_page(
                f"/robots/{device_id}/shadow/history", page.next_cursor, name="" if name == DEFAULT_NAME else name
            ),
            not cursor,
            actor.may(Right.SHADOW_WRITE),
        )
    )


async def _rows(work: Work, device_id: str, name: str, versions: list[Version]) -> list[Row]:
    if not versions:
        return []
    before = await _before(work, device_id, name, versions[-1])
    names = await accounts.names(work, (version.author for version in versions))
    rows = []
    for version, earlier in zip(versions, [*versions[1:], before], strict=True):
        found = changed(_section(earlier, version.section), _section(version, version.section))
        who = names.get(version.author, version.author)
        rows.append(Row(version, who, found[:CHANGES_SHOWN], max(0, len(found) - CHANGES_SHOWN)))
    return rows


async def _before(work: Work, device_id: str, name: str, version: Version) -> Version | None:
    """None for the first one, and where the one before is no longer kept."""
    try:
        return await service.get_version(work, device_id, name, version.version - 1)
    except ShadowVersionNotFoundError:
        return None


def _section(version: Version | None, section: str) -> Document:
    value: Document | None = getattr(version, section, None)
    return value or {}


async def _comparison(work: Work, device_id: str, name: str, one: str | None, other: str | None) -> Comparison | None:
    if not one or not other:
        return None
    older, newer = sorted((_number(one), _number(other)))
    before = await service.get_version(work, device_id, name, older)
    after = await service.get_version(work, device_id, name, newer)
    return Comparison(
        before,
        after,
        changed(_section(before, "desired"), _section(after, "desired")),
        changed(_section(before, "reported"), _section(after, "reported")),
    )


def _number(typed: str) -> int:
    if not typed.isdecimal() or len(typed) > 18:
        raise BadRequestError(f"{typed[:20]!r} is not the number of a version")
    return int(typed)


@post("/robots/{device_id:str}/shadow/revert", opt=WRITE, status_code=200)
async def revert(
    request: AnyRequest, device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    """Desired as it was in a version, as a new one."""
    await fleet.check_reach(work, device_id, actor.reach)
    name = name_of(request)
    version = _number(str((await request.form()).get("version", "")))
    await service.restore(work, device_id, name, version, actor.id)
    await record(work, request, actor, "shadow.restore", device_id, after={"name": name, "version": version})
    return see_other(places_of(device_id, name).history)
