"""`rosfit shadow layer`"""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec

from rosfit.accounts import audit
from rosfit.cli.beside import run_beside
from rosfit.cli.options import always_json, json_option, print_json, with_settings
from rosfit.cli.user import OPERATOR
from rosfit.kernel.work import Work
from rosfit.settings import Settings
from rosfit.shadow import layers
from rosfit.shadow.layers import LayerChange, LayerDocument, Preview
from rosfit.shadow.models import DEFAULT_NAME, Change
from rosfit.shadow.service import check_name

NAME = click.option("--name", default=DEFAULT_NAME, show_default=True, help="A named shadow.")
LAYER = click.argument("which", metavar="fleet|GROUP")
PATCH = click.argument("patch", metavar="JSON")
PRIORITY = click.option("--priority", type=int, help="Of two groups of a device the higher one wins.")


@click.group()
def layer() -> None:
    """Desired values of the whole fleet and of groups, under each device's own."""


@layer.command("list")
@with_settings
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """From the bottom up: what is further down hides what is above it."""
    found = run_beside(settings, layers.listing)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    for one in found:
        values = json.dumps(one.desired)
        click.echo(f"{one.layer:<20} {one.name:<10} priority {one.priority:<4} {one.devices:>5} devices  {values}")


@layer.command()
@LAYER
@NAME
@with_settings
@always_json
def get(settings: Settings, which: str, name: str) -> None:
    """The layer's values, and how many devices have them."""

    async def step(work: Work) -> LayerDocument:
        return await layers.get(work, await layers.find_group(work, which), check_name(name))

    print_json(msgspec.to_builtins(run_beside(settings, step)))


@layer.command("set")
@LAYER
@PATCH
@click.option("--replace", is_flag=True, help="Replace all values instead of merging.")
@click.option("--reason", help="Kept in the history of each device.")
@PRIORITY
@NAME
@with_settings
@always_json
def set_(
    settings: Settings, which: str, patch: str, replace: bool, reason: str | None, priority: int | None, name: str
) -> None:
    """Merge JSON into the layer; null deletes a key."""
    wanted = LayerChange(Change(_parsed(patch), replace, None, reason), priority)

    async def step(work: Work) -> LayerDocument:
        group = await layers.find_group(work, which)
        changed = await layers.change(work, group, check_name(name), wanted, OPERATOR)
        told = {"name": name, "version": changed.version, "patch": wanted.change.patch, "replace": replace}
        await audit.record(work, OPERATOR, "shadow_layer.change", changed.layer, after=told)
        return changed

    print_json(msgspec.to_builtins(run_beside(settings, step)))


@layer.command()
@LAYER
@PATCH
@PRIORITY
@NAME
@with_settings
@always_json
def preview(settings: Settings, which: str, patch: str, priority: int | None, name: str) -> None:
    """How many devices `set` would change, and what it would do to a few of them."""
    wanted = LayerChange(Change(_parsed(patch)), priority)

    async def step(work: Work) -> Preview:
        return await layers.preview(work, await layers.find_group(work, which), check_name(name), wanted)

    print_json(msgspec.to_builtins(run_beside(settings, step)))


@layer.command()
@LAYER
@NAME
@with_settings
def delete(settings: Settings, which: str, name: str) -> None:
    """Remove the layer; devices fall back to what lies below."""

    async def step(work: Work) -> None:
        await layers.remove(work, await layers.find_group(work, which), check_name(name), OPERATOR)
        await audit.record(work, OPERATOR, "shadow_layer.delete", which, after={"name": name})

    run_beside(settings, step)


def _parsed(patch: str) -> Any:
    try:
        return json.loads(patch)
    except ValueError as error:
        raise click.UsageError(f"not JSON: {error}") from error
