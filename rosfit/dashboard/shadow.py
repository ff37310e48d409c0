"""A robot's shadow: what is desired, what is reported, what differs and since when; live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream, Template

from rosfit.accounts import service as accounts
from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, still_signed_in
from rosfit.dashboard.injected import Opening
from rosfit.dashboard.live import ShadowWatch, event_stream, stop_of
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.dashboard.shadow_form import Editor
from rosfit.dashboard.shadow_rows import Row, authors, digest_of, rows_of
from rosfit.fleet import service as fleet
from rosfit.fleet.models import Device
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.feed import Feed
from rosfit.kernel.work import Work
from rosfit.shadow import service
from rosfit.shadow.models import DEFAULT_NAME, Shadow
from rosfit.shadow.standing import Standing, standing

READ: dict[str, Any] = {"right": Right.DEVICES_READ}

EVENTS_EVERY_S = 0.5


@dataclass(frozen=True)
class Board:
    """The part that is replaced when the shadow changes. `sync` is none, no_wish, never, waiting or in_sync;
    `desired` tells apart what is desired, for an editor that began earlier.
    """

    device: Device
    name: str
    names: list[str]
    version: int
    desired: str
    sync: str
    pending_since: str | None
    sync_s: float | None
    rows: list[Row]
    pending: int
    changed_at: str
    now: str
    may_write: bool
    standing: Standing


@dataclass(frozen=True)
class Places:
    """The addresses of a shadow's pages."""

    shadow: str
    edit: str
    history: str
    revert: str


@dataclass(frozen=True)
class ShadowPage(Page):
    template: ClassVar[str] = "shadow.html"
    shell: Shell
    board: Board
    editor: Editor | None
    saved: str | None
    places: Places


@dataclass(frozen=True)
class BoardFragment(Page):
    template: ClassVar[str] = "shadow_board.html"
    board: Board


def name_of(request: AnyRequest) -> str:
    """Which shadow the address names. Raises BadRequestError for what cannot be one's name."""
    return service.check_name(str(request.query_params.get("name", "")).strip() or DEFAULT_NAME)


def places_of(device_id: str, name: str) -> Places:
    query = "" if name == DEFAULT_NAME else f"?name={quote(name)}"
    place = f"/robots/{device_id}/shadow"
    return Places(place + query, f"{place}/edit{query}", f"{place}/history{query}", f"{place}/revert{query}")


@get("/robots/{device_id:str}/shadow", opt=READ)
async def show_shadow(
    request: AnyRequest, device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    device = await fleet.get(work, device_id, actor.reach)
    name = name_of(request)
    board = await board_of(work, device, name, actor)
    if "hx-request" in request.headers:
        return render(BoardFragment(board))
    return render(ShadowPage(shell_for(actor), board, None, None, places_of(device_id, name)))


async def board_of(work: Work, device: Device, name: str, actor: Actor) -> Board:
    shadow = await service.get(work, device.device_id, name)
    existing = await service.names(work, device.device_id)
    names = await accounts.names(work, authors(shadow.metadata.get("desired", {})))
    rows = rows_of(shadow, names)
    return Board(
        device,
        name,
        sorted({DEFAULT_NAME, name, *existing}, key=lambda one: (one != DEFAULT_NAME, one)),
        shadow.version,
        digest_of(shadow.state.get("desired", {})),
        sync_of(shadow),
        shadow.pending_since,
        shadow.sync_s,
        rows,
        sum(row.delta is not None for row in rows),
        shadow.timestamp,
        format_time(now()),
        actor.may(Right.SHADOW_WRITE),
        await standing(work, device.device_id, name),
    )


def sync_of(shadow: Shadow) -> str:
    if shadow.version == 0:
        return "none"
    if "desired" not in shadow.state:
        return "no_wish"
    if "delta" not in shadow.state:
        return "in_sync"
    return "waiting" if "reported" in shadow.state else "never"


@get("/robots/{device_id:str}/shadow/events", opt=READ)
async def shadow_events(
    request: AnyRequest,
    device_id: FromPath[str],
    work: NamedDependency[Work],
    edge: NamedDependency[Opening],
    feed: NamedDependency[Feed],
    actor: NamedDependency[Actor],
) -> Stream:
    """That the page should ask again."""
    await fleet.check_reach(work, device_id, actor.reach)
    watch = ShadowWatch(feed, device_id)
    still = still_signed_in(request, edge, actor)
    return event_stream(watch, stop_of(request), every_s=EVENTS_EVERY_S, still=still)
