"""The fleet page: counts, filters, a list of 50, and what changes about them over SSE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from litestar import get
from litestar.di import NamedDependency
from litestar.response import Stream, Template

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, still_signed_in
from rosfit.dashboard.injected import Opening
from rosfit.dashboard.live import FleetWatch, event_stream, stop_of
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.fleet import groups, query, repository, service
from rosfit.fleet.errors import GroupNotFoundError
from rosfit.fleet.models import DEVICE_TYPES, STATUSES, Device, DeviceFilter, Reach
from rosfit.fleet.query import QueryError
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.feed import Feed
from rosfit.kernel.work import Work
from rosfit.shadow import service as shadows
from rosfit.shadow.models import Drift

READ: dict[str, Any] = {"right": Right.DEVICES_READ}

PAGE_SIZE = 50

# Fleet rows change twice a second at most: ages tick in the browser anyway.
ROWS_EVERY_S = 0.5

# The way back to earlier pages lies in the URL; from further away it leads to the first page.
TRAIL_LIMIT = 40

# In the query language: what a robot reports is not what is desired.
DRIFTING = "shadow.state:pending,never"

PRESENT = tuple(status for status in STATUSES if status != "decommissioned")


@dataclass(frozen=True)
class Question:
    """What the URL of the fleet page asks for; `trail` holds the cursors of the pages before."""

    status: str = ""
    type: str = ""
    tag: str = ""
    group: str = ""
    q: str = ""
    cursor: str = ""
    trail: str = ""

    @property
    def filters(self) -> bool:
        return bool(self.status or self.type or self.tag or self.group or self.q)

    def wanted(self) -> DeviceFilter:
        statuses = (self.status,) if self.status else PRESENT
        return DeviceFilter(statuses, self.type or None, self.tag or None, self.q or None, self.group or None)

    def url(self, path: str = "/", **changes: str) -> str:
        """The address of this question, or of one that differs in `changes`, without what is empty."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__} | changes
        query = urlencode({name: value for name, value in values.items() if value})
        return f"{path}?{query}" if query else path

    def filtered(self, **changes: str) -> str:
        """Another filter starts at its first page."""
        return self.url(**({"cursor": "", "trail": ""} | changes))

    @property
    def drifting(self) -> bool:
        return DRIFTING in self.q

    def drift_url(self) -> str:
        """The same with only the robots that are not as desired, or without that filter."""
        if self.drifting:
            return self.filtered(q=self.q.replace(DRIFTING, "").strip())
        return self.filtered(q=f"{self.q} {DRIFTING}".strip())

    def next_url(self, cursor: str) -> str:
        steps = [*self._steps(), self.cursor or "-"][-TRAIL_LIMIT:]
        return self.url(cursor=cursor, trail=".".join(steps))

    def previous_url(self) -> str | None:
        if not self.cursor:
            return None
        *steps, last = self._steps() or ["-"]
        return self.url(cursor="" if last == "-" else last, trail=".".join(steps))

    def _steps(self) -> list[str]:
        return self.trail.split(".") if self.trail else []


@dataclass(frozen=True)
class Chip:
    """One status that filters, with how many robots have it."""

    status: str
    count: int
    url: str
    chosen: bool


@dataclass(frozen=True)
class Robots:
    """The part of the page that is replaced when filter or fleet change; `error` says what is wrong with it."""

    question: Question
    chips: list[Chip]
    devices: list[Device]
    drifts: dict[str, Drift]
    matching: int
    previous_url: str | None
    next_url: str | None
    events_url: str
    now: str
    error: str = ""


@dataclass(frozen=True)
class FleetPage(Page):
    template: ClassVar[str] = "fleet.html"
    shell: Shell
    robots: Robots
    tags: list[str]
    groups: list[str]
    fields: list[str]
    types: tuple[str, ...]


@dataclass(frozen=True)
class RobotsFragment(Page):
    template: ClassVar[str] = "fleet_robots.html"
    shell: Shell
    robots: Robots


def question_of(request: AnyRequest) -> Question:
    given = request.query_params
    return Question(**{name: str(given.get(name, "")).strip()[:4000] for name in Question.__dataclass_fields__})


@get("/", opt=READ)
async def show_fleet(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    question = question_of(request)
    shell = shell_for(actor)
    try:
        robots = await find_robots(work, question, actor.reach)
    except (QueryError, GroupNotFoundError) as error:
        robots = _none_found(question, f"{error.detail}.")
    if "hx-request" in request.headers and "hx-history-restore-request" not in request.headers:
        return render(RobotsFragment(shell, robots), headers=_address(request, question))
    tags = await repository.list_tags(work.connection, await groups.visible(work, actor.reach))
    names = await group_names(work, actor.reach)
    return render(FleetPage(shell, robots, tags, names, query.field_names(), DEVICE_TYPES))


async def group_names(work: Work, reach: Reach) -> list[str]:
    """Groups to filter by; for somebody with limits those that hold something for them."""
    listed = await groups.listing(work)
    if reach.is_everything:
        return [group.name for group in listed]
    counts = await groups.counts(work, listed, reach)
    return [group.name for group in listed if counts[group.group_id]]


def _none_found(question: Question, error: str) -> Robots:
    """A question that cannot be understood has no answer, and nothing to follow live."""
    return Robots(question, [], [], {}, 0, None, None, "", format_time(now()), error)


def _address(request: AnyRequest, question: Question) -> dict[str, str]:
    """What the address bar shows: typing replaces the entry of the history, a link makes a new one."""
    source = request.headers.get("hx-source", "")
    if source.endswith("#refresh"):
        return {}
    header = "HX-Replace-Url" if source.endswith("#filters") else "HX-Push-Url"
    return {header: question.url()}


async def find_robots(work: Work, question: Question, reach: Reach) -> Robots:
    wanted = question.wanted()
    page = await service.find(work, wanted, question.cursor or None, PAGE_SIZE, reach)
    counts = await service.counts(work, wanted, reach)
    present = sum(count for status, count in counts.items() if status != "decommissioned")
    return Robots(
        question,
        _chips(question, counts, present),
        page.items,
        await shadows.drifts(work, [device.device_id for device in page.items]),
        counts.get(question.status, 0) if question.status else present,
        question.previous_url(),
        question.next_url(page.next_cursor) if page.next_cursor else None,
        question.url("/fleet/events"),
        format_time(now()),
    )


def _chips(question: Question, counts: dict[str, int], present: int) -> list[Chip]:
    """`All` and each status; a status that no robot ever had stays away unless it is usual."""
    usual = {"online", "offline", "error"}
    shown = [status for status in STATUSES if status in usual or counts.get(status) or status == question.status]
    shown.sort(key=("online", "error", "offline", "maintenance", "provisioning", "decommissioned").index)
    chips = [Chip("", present, question.filtered(status=""), not question.status)]
    return chips + [
        Chip(
            status,
            counts.get(status, 0),
            question.filtered(status="" if status == question.status else status),
            status == question.status,
        )
        for status in shown
    ]


@get("/fleet/events", opt=READ)
async def fleet_events(
    request: AnyRequest,
    work: NamedDependency[Work],
    edge: NamedDependency[Opening],
    feed: NamedDependency[Feed],
    actor: NamedDependency[Actor],
) -> Stream:
    """Rows of the page that the same query shows, when something is heard of them, and every status change."""
    question = question_of(request)
    page = await service.find(work, question.wanted(), question.cursor or None, PAGE_SIZE, actor.reach)
    shown = [device.device_id for device in page.items]
    watch = FleetWatch(feed, shown, await service.within_reach(work, actor.reach))
    still = still_signed_in(request, edge, actor)
    return event_stream(watch, stop_of(request), every_s=ROWS_EVERY_S, still=still)
