"""`rosfit shadow`"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import msgspec

from rosfit.accounts import audit
from rosfit.cli.beside import run_beside
from rosfit.cli.options import always_json, json_option, print_json, with_settings
from rosfit.cli.shadow_layer import layer
from rosfit.cli.shadow_schema import schema
from rosfit.cli.user import OPERATOR
from rosfit.fleet import service as fleet
from rosfit.fleet.models import EVERYWHERE
from rosfit.kernel.work import Work
from rosfit.settings import Settings
from rosfit.shadow import service
from rosfit.shadow.delta import delta
from rosfit.shadow.models import DEFAULT_NAME, Change, Shadow, Version

T = TypeVar("T")

NAME = click.option("--name", default=DEFAULT_NAME, show_default=True, help="A named shadow.")


@click.group()
def shadow() -> None:
    """What devices should be set to, and what they are set to."""


shadow.add_command(layer)
shadow.add_command(schema)


@shadow.command()
@click.argument("device_id", metavar="ID")
@NAME
@with_settings
@always_json
def get(settings: Settings, device_id: str, name: str) -> None:
    """The whole document: desired, reported, and what differs."""
    _print(_on_device(settings, device_id, lambda work: service.get(work, device_id, name)))


@shadow.command("set")
@click.argument("device_id", metavar="ID")
@click.argument("patch", metavar="JSON")
@click.option("--replace", is_flag=True, help="Replace the whole of desired instead of merging.")
@click.option("--version", type=int, help="Only if the shadow is still at this version.")
@click.option("--reason", help="Kept in the history.")
@NAME
@with_settings
@always_json
def set_(
    settings: Settings,
    device_id: str,
    patch: str,
    replace: bool,
    version: int | None,
    reason: str | None,
    name: str,
) -> None:
    """Merge JSON into desired; null deletes a key."""
    try:
        change = Change(json.loads(patch), replace, version, reason)
    except ValueError as error:
        raise click.UsageError(f"not JSON: {error}") from error

    async def step(work: Work) -> Shadow:
        changed = await service.change_desired(work, device_id, name, change, OPERATOR)
        told = {"name": name, "version": changed.version, "patch": change.patch, "replace": replace}
        await audit.record(work, OPERATOR, "shadow.desired", device_id, after=told)
        return changed

    _print(_on_device(settings, device_id, step))


@shadow.command()
@click.argument("device_id", metavar="ID")
@click.argument("old", type=int)
@click.argument("new", type=int)
@NAME
@with_settings
@always_json
def diff(settings: Settings, device_id: str, old: int, new: int, name: str) -> None:
    """What desired of version NEW has otherwise than OLD, and what it lacks."""

    async def step(work: Work) -> tuple[Version, Version]:
        return (
            await service.get_version(work, device_id, name, old),
            await service.get_version(work, device_id, name, new),
        )

    before, after = _on_device(settings, device_id, step)
    print_json(
        {
            "set": delta(after.desired or {}, before.desired or {}),
            "was": delta(before.desired or {}, after.desired or {}),
        }
    )


@shadow.command()
@click.argument("device_id", metavar="ID")
@NAME
@with_settings
@json_option
def history(settings: Settings, as_json: bool, device_id: str, name: str) -> None:
    """The newest fifty versions, with author and reason."""

    async def step(work: Work) -> list[Version]:
        return (await service.history(work, device_id, name, None, 50)).items

    found = _on_device(settings, device_id, step)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    for one in found:
        click.echo(f"{one.version:>6}  {one.at}  {one.section:<9} {one.author}  {one.reason or ''}")


@shadow.command()
@click.argument("device_id", metavar="ID")
@click.argument("version", type=int)
@NAME
@with_settings
@always_json
def restore(settings: Settings, device_id: str, version: int, name: str) -> None:
    """Set desired to what it was in an earlier version."""

    async def step(work: Work) -> Shadow:
        restored = await service.restore(work, device_id, name, version, OPERATOR)
        await audit.record(work, OPERATOR, "shadow.restore", device_id, after={"name": name, "version": version})
        return restored

    _print(_on_device(settings, device_id, step))


def _on_device(settings: Settings, device_id: str, step: Callable[[Work], Awaitable[T]]) -> T:
    async def run(work: Work) -> T:
        await fleet.check_reach(work, device_id, EVERYWHERE)
        return await step(work)

    return run_beside(settings, run)


def _print(found: Shadow) -> None:
    value: Any = msgspec.to_builtins(found)
    print_json(value)
