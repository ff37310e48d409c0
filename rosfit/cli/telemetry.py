"""`rosfit telemetry`"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, get_args

import click

from rosfit.cli.beside import run_beside
from rosfit.cli.options import with_settings
from rosfit.fleet import service as fleet
from rosfit.kernel.clock import parse_time
from rosfit.kernel.work import Work
from rosfit.settings import Settings
from rosfit.telemetry import export as exporting
from rosfit.telemetry.export import Format, Wanted


class Time(click.ParamType[datetime]):
    """RFC 3339, or Unix seconds or milliseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return parse_time(float(value) if value.replace(".", "", 1).isdecimal() else value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group()
def telemetry() -> None:
    """What devices have sent."""


@telemetry.command()
@click.argument("device_id", metavar="ID")
@click.option("--format", "kind", type=click.Choice(get_args(Format)), default="csv", show_default=True)
@click.option("--json", "kind", flag_value="jsonl", help="The same as --format jsonl.")
@click.option("--stream", "streams", multiple=True, help="Only this one; repeatable. Every stream unless told.")
@click.option("--from", "start", type=Time(), help="First time, inclusive: RFC 3339 or Unix seconds.")
@click.option("--to", "end", type=Time(), help="Last time, exclusive. Now unless told.")
@click.option("--field", "fields", multiple=True, help="Dotted path that becomes a column of csv and parquet.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of stdout.")
@with_settings
def export(
    settings: Settings,
    device_id: str,
    kind: Format,
    streams: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    fields: tuple[str, ...],
    output: Path | None,
) -> None:
    """Write a device's samples as a file, oldest first."""
    wanted = Wanted(device_id, kind, streams, start, end, fields)
    exporting.check(wanted)
    if output is None and kind in {"parquet", "mcap"} and sys.stdout.isatty():
        raise click.UsageError(f"{kind} is not text: give --output FILE, or send stdout to a file")

    async def write(work: Work) -> None:
        await fleet.get(work, device_id)
        with click.open_file(str(output or "-"), "wb") as file:
            await _write(work, wanted, file)

    run_beside(settings, write)


async def _write(work: Work, wanted: Wanted, file: IO[bytes]) -> None:
    @asynccontextmanager
    async def same() -> AsyncIterator[Work]:
        yield work

    async for piece in exporting.export(same, wanted):
        file.write(piece)
