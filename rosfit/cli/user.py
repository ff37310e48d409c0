"""`rosfit user`"""

from __future__ import annotations

from typing import TextIO

import click
import msgspec

from rosfit.accounts import service as accounts
from rosfit.accounts.models import ROLES, NewUser, User
from rosfit.accounts.setup import SETUP_TOKEN_FILE, SetupToken
from rosfit.cli.beside import run_beside
from rosfit.cli.options import json_option, print_json, with_settings
from rosfit.kernel.work import Work
from rosfit.settings import Settings


@click.group()
def user() -> None:
    """People who may sign in."""


@user.command()
@click.argument("email")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--name", default="", help="The person's name.")
@click.option(
    "--password-file", type=click.File("r"), required=True, help="File that holds the password; - is standard input."
)
@with_settings
@json_option
def create(settings: Settings, as_json: bool, email: str, role: str, name: str, password_file: TextIO) -> None:
    """Add a user, with the server running or not yet set up."""
    password = password_file.read().removesuffix("\n").removesuffix("\r")
    try:
        new = msgspec.convert({"email": email, "role": role, "name": name, "password": password}, NewUser)
    except msgspec.ValidationError as error:
        raise click.UsageError(f"{error}. A password has 10 to 1024 characters.") from error

    async def add(work: Work) -> User:
        return await accounts.add_user(work, new)

    added = run_beside(settings, add)
    SetupToken(settings.data_dir / SETUP_TOKEN_FILE).clear()
    if as_json:
        print_json(msgspec.to_builtins(added))
    else:
        click.echo(f"{added.email} is added as {added.role} ({added.id})")
