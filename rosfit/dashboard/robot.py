"""The page of one robot, and what its scripts ask for: series, logs, frames and live events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, ClassVar

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream, Template

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, still_signed_in
from rosfit.dashboard.injected import Hot, Opening
from rosfit.dashboard.live import RobotWatch, event_stream, stop_of
from rosfit.dashboard.rendering import NO_STORE, Page, Shell, render, shell_for
from rosfit.fleet import service as fleet
from rosfit.fleet.models import Device, Reach
from rosfit.kernel.clock import format_time, now, parse_time
from rosfit.kernel.errors import BadRequestError
from rosfit.kernel.feed import Feed
from rosfit.kernel.paging import Page as Slice
from rosfit.kernel.work import Work
from rosfit.ota import device_rows
from rosfit.ota.models import CurrentUpdate
from rosfit.telemetry import service as telemetry
from rosfit.telemetry.models import Frame, FrameInfo, Item, LogLine, Series

READ: dict[str, Any] = {"right": Right.TELEMETRY_READ}

# Four times a second is as fast as people read numbers, and smooth enough for a chart.
EVENTS_EVERY_S = 0.25

# How pictures begin, for devices that cannot say what they send (MQTT 3.1.1).
UNKNOWN = "application/octet-stream"
BEGINNINGS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"GIF8": "image/gif"}

LOG_PAGE = 100
LONGEST_NAME = 512

# What a browser may show from a device: pictures that cannot carry a script.
PICTURES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"})


@dataclass(frozen=True)
class RobotState:
    """What the page's script starts from; the same shape comes again with every new live connection."""

    now: str
    device: Device
    samples: list[Item]
    frames: list[FrameInfo]
    logs: Slice[LogLine]


@dataclass(frozen=True)
class RobotPage(Page):
    template: ClassVar[str] = "robot.html"
    shell: Shell
    device: Device
    state: RobotState
    current: CurrentUpdate | None


async def state_of(work: Work, hot: Hot, device_id: str, reach: Reach) -> RobotState:
    device = await fleet.get(work, device_id, reach)
    samples = await telemetry.latest(work, hot, device_id)
    frames = await telemetry.frames(work, hot, device_id)
    logs = await telemetry.logs(work, device_id, None, None, LOG_PAGE)
    return RobotState(format_time(now()), device, samples, frames, logs)


@get("/robots/{device_id:str}", opt=READ)
async def show_robot(
    device_id: FromPath[str], work: NamedDependency[Work], hot: NamedDependency[Hot], actor: NamedDependency[Actor]
) -> Template:
    state = await state_of(work, hot, device_id, actor.reach)
    current = await device_rows.current_update(work.connection, device_id)
    return render(RobotPage(shell_for(actor), state.device, state, current))


@get("/robots/{device_id:str}/events", opt=READ)
async def robot_events(
    request: AnyRequest,
    device_id: FromPath[str],
    work: NamedDependency[Work],
    edge: NamedDependency[Opening],
    hot: NamedDependency[Hot],
    feed: NamedDependency[Feed],
    actor: NamedDependency[Actor],
) -> Stream:
    """The state first, so that a page that was away misses nothing; then what changes."""
    state = await state_of(work, hot, device_id, actor.reach)
    watch = RobotWatch(feed, device_id, msgspec.json.encode(state))
    still = still_signed_in(request, edge, actor)
    return event_stream(watch, stop_of(request), every_s=EVENTS_EVERY_S, still=still)


@get("/robots/{device_id:str}/series.json", opt=READ)
async def robot_series(
    request: AnyRequest, device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Series]:
    """Lines of one stream's fields over shared buckets, at most `points` of them."""
    query = request.query_params
    await fleet.check_reach(work, device_id, actor.reach)
    series = await telemetry.series(
        work,
        device_id,
        stream=str(query.get("stream", ""))[:LONGEST_NAME],
        fields=[str(field)[:LONGEST_NAME] for field in query.getall("field", [])],
        start=_time(query.get("from"), "from"),
        end=_time(query.get("to"), "to"),
        bucket=None,
        points=_points(query.get("points", "500")),
        fn="avg",
    )
    return Response(series, headers=NO_STORE)


def _time(text: str | None, name: str) -> datetime | None:
    try:
        return parse_time(text) if text else None
    except ValueError as error:
        raise BadRequestError(f"{name}: {error}") from error


def _points(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:6]) <= 5000:
        raise BadRequestError(f"points={text[:20]!r} is not a whole number from 1 to 5000")
    return int(text)


@get("/robots/{device_id:str}/logs.json", opt=READ)
async def robot_logs(
    request: AnyRequest, device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Slice[LogLine]]:
    """The log before `cursor`, newest first."""
    await fleet.check_reach(work, device_id, actor.reach)
    levels = [str(level) for level in request.query_params.getall("level", [])] or None
    page = await telemetry.logs(work, device_id, levels, request.query_params.get("cursor"), LOG_PAGE)
    return Response(page, headers=NO_STORE)


@get("/robots/{device_id:str}/frame/{name:path}", opt=READ)
async def robot_frame(
    device_id: FromPath[str],
    name: FromPath[PurePosixPath],
    work: NamedDependency[Work],
    hot: NamedDependency[Hot],
    actor: NamedDependency[Actor],
) -> Response[bytes]:
    """The newest frame: shown if it is a picture, else offered as a file."""
    await fleet.check_reach(work, device_id, actor.reach)
    frame = await telemetry.frame(work, hot, device_id, str(name).strip("/"))
    kind = _kind_of(frame)
    headers = NO_STORE | {"X-Content-Type-Options": "nosniff", "X-Frame-Time": format_time(frame.time)}
    if kind not in PICTURES:
        kind, headers = UNKNOWN, headers | {"Content-Disposition": "attachment"}
    return Response(frame.data, media_type=kind, headers=headers)


def _kind_of(frame: Frame) -> str:
    kind = frame.content_type.split(";")[0].strip().lower()
    if kind != UNKNOWN:
        return kind
    return next((found for start, found in BEGINNINGS.items() if frame.data.startswith(start)), UNKNOWN)
