"""A robot's samples as a file: the dialog that asks which, and the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, get_args

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream, Template

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest
from rosfit.dashboard.injected import Hot, Opening
from rosfit.dashboard.rendering import NO_STORE, Page, render
from rosfit.fleet import service as fleet
from rosfit.fleet.models import Device
from rosfit.kernel.clock import now
from rosfit.kernel.errors import BadRequestError
from rosfit.kernel.work import Work
from rosfit.protocol.numbers import read_json
from rosfit.telemetry import export, service
from rosfit.telemetry.export.rows import FIELD_LIMIT
from rosfit.telemetry.models import Item

READ: dict[str, Any] = {"right": Right.TELEMETRY_READ}

FORMATS: dict[str, export.Format] = {name: name for name in get_args(export.Format)}

# Name in the address to what people call it and how long it is.
PERIODS: dict[str, tuple[str, timedelta | None]] = {
    "hour": ("the last hour", timedelta(hours=1)),
    "day": ("the last 24 hours", timedelta(days=1)),
    "week": ("the last 7 days", timedelta(days=7)),
    "all": ("everything", None),
}


@dataclass(frozen=True)
class ExportDialog(Page):
    template: ClassVar[str] = "robot_export.html"
    device: Device
    streams: list[str]
    periods: dict[str, tuple[str, timedelta | None]]


@get("/robots/{device_id:str}/export", opt=READ)
async def ask_export(
    device_id: FromPath[str], work: NamedDependency[Work], hot: NamedDependency[Hot], actor: NamedDependency[Actor]
) -> Template:
    device = await fleet.get(work, device_id, actor.reach)
    streams = [item.stream for item in await service.latest(work, hot, device_id)]
    return render(ExportDialog(device, streams, PERIODS))


@get("/robots/{device_id:str}/export/file", opt=READ)
async def export_file(
    request: AnyRequest,
    device_id: FromPath[str],
    work: NamedDependency[Work],
    edge: NamedDependency[Opening],
    hot: NamedDependency[Hot],
    actor: NamedDependency[Actor],
) -> Stream:
    """`columns` makes one for each value that the newest sample of the stream has."""
    await fleet.check_reach(work, device_id, actor.reach)
    query = request.query_params
    kind, period = FORMATS.get(query.get("format", "csv")), query.get("period", "hour")
    if kind is None or period not in PERIODS:
        raise BadRequestError("The format or the period is none of the dialog's; choose there")
    stream = str(query.get("stream", ""))
    length = PERIODS[period][1]
    newest = await service.latest(work, hot, device_id) if query.get("columns") and kind in {"csv", "parquet"} else []
    fields = [path for item in newest if item.stream == stream for path in value_paths(item)]
    wanted = export.Wanted(
        device_id, kind, [stream] if stream else (), now() - length if length else None, None, fields[:FIELD_LIMIT]
    )
    headers = NO_STORE | {"Content-Disposition": f'attachment; filename="{device_id}.{kind}"'}
    return Stream(export.export(edge.open_work, wanted), media_type=export.MEDIA_TYPES[kind], headers=headers)


def value_paths(item: Item) -> Iterator[str]:
    """The dotted paths of its values; a list is one value."""
    yield from _paths(read_json(item.payload), "")


def _paths(value: Any, prefix: str) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        # A key with a dot in it has no path of its own.
        if isinstance(inner, dict):
            yield from _paths(inner, f"{prefix}{key}.")
        elif "." not in key:
            yield f"{prefix}{key}"
