"""`rosfit group`"""

from __future__ import annotations

import click
import msgspec

from rosfit.accounts import audit
from rosfit.cli.beside import run_beside
from rosfit.cli.options import json_option, print_json, with_settings
from rosfit.cli.user import OPERATOR
from rosfit.fleet import groups
from rosfit.fleet.groups import GroupChange, NewGroup, Preview
from rosfit.fleet.models import EVERYWHERE, Group
from rosfit.kernel.work import Work
from rosfit.settings import Settings


@click.group()
def group() -> None:
    """Lists of devices and saved queries."""


@group.command()
@click.argument("name")
@click.option("--query", help="Save a query instead of a list, such as 'tag:warehouse battery < 20'.")
@click.option("--device", "device_ids", multiple=True, help="May be given several times.")
@with_settings
@json_option
def create(settings: Settings, as_json: bool, name: str, query: str | None, device_ids: tuple[str, ...]) -> None:
    """Make a group."""
    values = {"name": name, "kind": "query" if query else "static", "query": query, "device_ids": list(device_ids)}
    try:
        new = msgspec.convert(values, NewGroup)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error

    async def make(work: Work) -> Group:
        made = await groups.create(work, new)
        await audit.record(work, OPERATOR, "group.create", made.group_id, after=new)
        return made

    _show(run_beside(settings, make), as_json)


@group.command("list")
@with_settings
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """All groups by name."""
    found = run_beside(settings, groups.listing)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    for one in found:
        _show(one, as_json=False)


@group.command()
@click.argument("query")
@with_settings
@json_option
def preview(settings: Settings, as_json: bool, query: str) -> None:
    """How many devices a query finds now, and the first few."""

    async def look(work: Work) -> Preview:
        return await groups.preview(work, query, EVERYWHERE)

    found = run_beside(settings, look)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        click.echo(f"{found.count} devices: {', '.join(device.device_id for device in found.sample) or 'none'}")


@group.command()
@click.argument("name")
@click.option("--add", "add", multiple=True, help="Device to add; may be given several times.")
@click.option("--remove", "remove", multiple=True, help="Device to remove; may be given several times.")
@with_settings
@json_option
def members(settings: Settings, as_json: bool, name: str, add: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Change the members of a static list."""

    async def change(work: Work) -> Group:
        wanted = GroupChange(add=list(add), remove=list(remove))
        changed = await groups.change(work, name, wanted)
        await audit.record(work, OPERATOR, "group.update", changed.group_id, after=wanted)
        return changed

    _show(run_beside(settings, change), as_json)


@group.command()
@click.argument("name")
@with_settings
def delete(settings: Settings, name: str) -> None:
    """Delete a group; its devices stay."""

    async def remove(work: Work) -> Group:
        gone = await groups.remove(work, name)
        await audit.record(work, OPERATOR, "group.delete", gone.group_id, before=gone)
        return gone

    click.echo(f"{run_beside(settings, remove).name} is deleted")


def _show(one: Group, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(one))
    else:
        click.echo(f"{one.name:<24} {one.kind:<7} {one.query if one.count is None else f'{one.count} devices'}")
