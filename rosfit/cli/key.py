"""`rosfit key`"""

from __future__ import annotations

import click
import msgspec

from rosfit.accounts import audit
from rosfit.accounts import service as accounts
from rosfit.accounts.models import Actor, Key, KeyWithSecret, NewKey
from rosfit.accounts.rights import Right
from rosfit.cli.beside import run_beside
from rosfit.cli.options import json_option, print_json, with_settings
from rosfit.cli.user import OPERATOR
from rosfit.kernel.paging import MAX_LIMIT
from rosfit.kernel.work import Work
from rosfit.settings import Settings


@click.group()
def key() -> None:
    """API keys of programs."""


@key.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice([right.value for right in Right]))
@click.option("--only-tag", "only_tags", multiple=True, help="Limit the key to devices with this tag.")
@with_settings
@json_option
def create(settings: Settings, as_json: bool, name: str, scopes: tuple[str, ...], only_tags: tuple[str, ...]) -> None:
    """Make an API key; its secret is shown once."""
    values = {"name": name, "scopes": list(scopes), "only_tags": list(only_tags)}
    try:
        new = msgspec.convert(values, NewKey)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error

    async def make(work: Work) -> KeyWithSecret:
        made = await accounts.create_key(work, new, Actor(OPERATOR, "admin"))
        await audit.record(work, OPERATOR, "key.create", made.id, after=new)
        return made

    made = run_beside(settings, make)
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        click.echo(f"id:     {made.id}\nsecret: {made.secret}")


@key.command("list")
@with_settings
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """Keys in use, with their last use."""

    async def every(work: Work) -> list[Key]:
        page = await accounts.list_keys(work, None, MAX_LIMIT)
        found = page.items
        while page.next_cursor:
            page = await accounts.list_keys(work, page.next_cursor, MAX_LIMIT)
            found += page.items
        return found

    keys = run_beside(settings, every)
    if as_json:
        print_json(msgspec.to_builtins(keys))
        return
    for one in keys:
        click.echo(f"{one.id}  {one.name:<24} {one.last_used_at or 'never used':<24}  {', '.join(one.scopes)}")


@key.command()
@click.argument("key_id")
@with_settings
def revoke(settings: Settings, key_id: str) -> None:
    """End a key; requests with it are refused within seconds."""

    async def end(work: Work) -> None:
        await accounts.revoke_key(work, key_id)
        await audit.record(work, OPERATOR, "key.revoke", key_id)

    run_beside(settings, end)
    click.echo(f"{key_id} is revoked")
