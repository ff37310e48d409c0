"""`rosfit command`"""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec

from rosfit.accounts import audit
from rosfit.cli.beside import run_beside
from rosfit.cli.options import json_option, print_json, with_settings
from rosfit.cli.user import OPERATOR
from rosfit.commands import service
from rosfit.commands.models import Accepted, Command, NewCommand
from rosfit.fleet import service as fleet
from rosfit.fleet.models import EVERYWHERE
from rosfit.kernel.work import Work
from rosfit.settings import Settings


@click.group()
def command() -> None:
    """What devices are asked to do."""


@command.command()
@click.argument("device_id", metavar="ID")
@click.argument("name", metavar="COMMAND")
@click.option("--data", default="{}", show_default=True, help="JSON object.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True)
@click.option("--queue", is_flag=True, help="Wait for a device that is away, up to 24 h.")
@with_settings
@json_option
def send(
    settings: Settings, as_json: bool, device_id: str, name: str, data: str, timeout_s: float, queue: bool
) -> None:
    """Send a command; `rosfit command status` follows it."""
    new = _command({"command": name, "data": _object(data), "timeout_s": timeout_s, "queue": queue})

    async def step(work: Work) -> Accepted:
        accepted = await service.send(work, device_id, new, OPERATOR)
        told = {"command_id": accepted.command_id, "command": name}
        await audit.record(work, OPERATOR, "command.send", device_id, after=told)
        return accepted

    accepted = run_beside(settings, step)
    if as_json:
        print_json(msgspec.to_builtins(accepted))
    else:
        click.echo(accepted.command_id)


@command.command()
@click.argument("device_id", metavar="ID")
@click.argument("command_id", required=False)
@with_settings
@json_option
def status(settings: Settings, as_json: bool, device_id: str, command_id: str | None) -> None:
    """One command with its steps, or the newest twenty."""

    async def step(work: Work) -> list[Command]:
        if command_id is not None:
            return [await service.get(work, device_id, command_id)]
        await fleet.check_reach(work, device_id, EVERYWHERE)
        return (await service.history(work, device_id, None, None, 20)).items

    found = run_beside(settings, step)
    if as_json:
        print_json(msgspec.to_builtins(found[0] if command_id else found))
        return
    for one in found:
        _show(one)


@command.command()
@click.argument("device_id", metavar="ID")
@click.argument("command_id")
@with_settings
def cancel(settings: Settings, device_id: str, command_id: str) -> None:
    """Take a pending command back, or ask the device to stop what is under way."""

    async def step(work: Work) -> Command:
        cancelled = await service.cancel(work, device_id, command_id, OPERATOR)
        await audit.record(work, OPERATOR, "command.cancel", device_id, after={"command_id": command_id})
        return cancelled

    _show(run_beside(settings, step))


def _show(one: Command) -> None:
    error = f"  {one.error.code} {one.error.message}" if one.error else ""
    click.echo(f"{one.command_id}  {one.command:<20} {one.status:<12} {one.created_at}{error}")
    if one.steps is not msgspec.UNSET:
        for taken in one.steps:
            refused = f"  refused: {taken.refused}" if taken.refused else ""
            click.echo(f"    {taken.at}  {taken.status}{refused}")


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--data is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise click.UsageError("--data is a JSON object, such as '{\"x\": 1}'")
    return value


def _command(values: dict[str, Any]) -> NewCommand:
    try:
        return msgspec.convert(values, NewCommand)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error
