"""`rosfit keys`"""

from __future__ import annotations

import click
import msgspec

from rosfit.accounts import audit, signing_keys
from rosfit.accounts.signing_keys import SigningKey
from rosfit.cli.beside import run_beside
from rosfit.cli.options import json_option, print_json, with_settings
from rosfit.cli.user import OPERATOR
from rosfit.kernel.work import Work
from rosfit.settings import Settings


@click.group()
def keys() -> None:
    """Keys that sign access tokens (those of programs are `rosfit key`)."""


@keys.command()
@click.option("--at-once", is_flag=True, help="Refuse what the old keys have signed, too: everybody signs in again.")
@with_settings
@json_option
def rotate(settings: Settings, as_json: bool, at_once: bool) -> None:
    """Sign with a new key; the old ones verify until their tokens have run out. Running servers follow."""

    async def change(work: Work) -> SigningKey:
        made = await signing_keys.rotate(work, at_once=at_once)
        await audit.record(work, OPERATOR, "signing_key.rotate", made.id, after={"at_once": at_once})
        return made

    made = run_beside(settings, change)
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        click.echo(f"{made.id} signs from now on")


@keys.command("list")
@with_settings
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """The key that signs, and those that still verify."""
    found = run_beside(settings, signing_keys.live_keys)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    for one in found:
        click.echo(f"{one.id}  {one.created_at}  {_use(one)}")


def _use(one: SigningKey) -> str:
    return f"verifies until {one.verifies_until}" if one.verifies_until else "signs"
