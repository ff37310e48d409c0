"""`rosfit shadow schema`"""

from __future__ import annotations

import json
from typing import Any, TextIO

import click
import msgspec

from rosfit.accounts import audit
from rosfit.cli.beside import run_beside
from rosfit.cli.options import always_json, json_option, print_json, with_settings
from rosfit.cli.user import OPERATOR
from rosfit.kernel.work import Work
from rosfit.settings import Settings
from rosfit.shadow import schemas
from rosfit.shadow.models import DEFAULT_NAME
from rosfit.shadow.schema_rows import ShadowSchema
from rosfit.shadow.service import check_name

NAME = click.option("--name", default=DEFAULT_NAME, show_default=True, help="A named shadow.")
TARGET = click.argument("target", metavar="TYPE|GROUP")


@click.group()
def schema() -> None:
    """JSON Schemas that what is desired has to fit, per device type and per group."""


@schema.command("list")
@with_settings
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """Which device types and groups have one."""
    found = run_beside(settings, schemas.listing)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    for one in found:
        click.echo(f"{one.group or one.target:<20} {one.name:<10} version {one.version}")


@schema.command()
@TARGET
@NAME
@with_settings
@always_json
def get(settings: Settings, target: str, name: str) -> None:
    """The schema, with its version; version 0 where there is none."""

    async def step(work: Work) -> ShadowSchema:
        return await schemas.get(work, await schemas.find_target(work, target), check_name(name))

    print_json(msgspec.to_builtins(run_beside(settings, step)))


@schema.command("set")
@TARGET
@click.argument("file", metavar="FILE", type=click.File(encoding="utf-8"))
@NAME
@with_settings
@always_json
def set_(settings: Settings, target: str, file: TextIO, name: str) -> None:
    """Take the schema in FILE (`-` is standard input); what is desired has to fit from its next change on."""
    wanted = _parsed(file)

    async def step(work: Work) -> ShadowSchema:
        found = await schemas.find_target(work, target)
        after = await schemas.put(work, found, check_name(name), wanted, OPERATOR)
        told = {"name": name, "version": after.version, "schema": after.schema}
        await audit.record(work, OPERATOR, "shadow_schema.put", after.target, after=told)
        return after

    print_json(msgspec.to_builtins(run_beside(settings, step)))


@schema.command()
@TARGET
@NAME
@with_settings
def delete(settings: Settings, target: str, name: str) -> None:
    """From then on anything may be desired."""

    async def step(work: Work) -> None:
        found = await schemas.find_target(work, target)
        await schemas.remove(work, found, check_name(name), OPERATOR)
        await audit.record(work, OPERATOR, "shadow_schema.delete", found.id, after={"name": name})

    run_beside(settings, step)


def _parsed(file: TextIO) -> Any:
    try:
        return json.load(file)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"not JSON: {error}") from error
