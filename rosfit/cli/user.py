"""`rosfit user`"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TextIO, TypeVar

import click
import msgspec

from rosfit.accounts import audit
from rosfit.accounts import service as accounts
from rosfit.accounts.models import ROLES, NewUser, User, UserChange
from rosfit.accounts.setup import SETUP_TOKEN_FILE, SetupToken
from rosfit.cli.beside import run_beside
from rosfit.cli.options import json_option, print_json, with_settings
from rosfit.kernel.work import Work
from rosfit.settings import Settings

T = TypeVar("T")

# Whoever can run commands on the machine is its operator, whatever the name.
OPERATOR = "command line"


@click.group()
def user() -> None:
    """People who may sign in."""


PASSWORD_FILE = click.option(
    "--password-file",
    type=click.File("r"),
    required=True,
    help="File that holds the password, 8 to 1024 characters; - is standard input.",
)


def _record(work: Work, action: str, target: str, after: object = None) -> Awaitable[None]:
    return audit.record(work, OPERATOR, action, target, after=after)


def _password(file: TextIO) -> str:
    return file.read().removesuffix("\n").removesuffix("\r")


def _checked(shape: type[T], values: dict[str, object]) -> T:
    try:
        return msgspec.convert(values, shape)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error


@user.command()
@click.argument("email")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--name", default="", help="The person's name.")
@PASSWORD_FILE
@with_settings
@json_option
def create(settings: Settings, as_json: bool, email: str, role: str, name: str, password_file: TextIO) -> None:
    """Add a user, with the server running or not yet set up."""
    new = _checked(NewUser, {"email": email, "role": role, "name": name, "password": _password(password_file)})

    async def add(work: Work) -> User:
        added = await accounts.add_user(work, new)
        await _record(work, "user.create", added.id, added)
        return added

    added = run_beside(settings, add)
    SetupToken(settings.data_dir / SETUP_TOKEN_FILE).clear()
    if as_json:
        print_json(msgspec.to_builtins(added))
    else:
        click.echo(f"{added.email} is added as {added.role} ({added.id})")


@user.command("list")
@with_settings
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """Everybody who may sign in, and who is disabled."""

    async def every(work: Work) -> list[User]:
        page = await accounts.list_users(work, None, 200)
        found = page.items
        while page.next_cursor:
            page = await accounts.list_users(work, page.next_cursor, 200)
            found += page.items
        return found

    users = run_beside(settings, every)
    if as_json:
        print_json(msgspec.to_builtins(users))
        return
    for one in users:
        click.echo(f"{one.email:<32} {one.role:<10} {'disabled' if one.disabled else '':<9} {one.name}")


@user.command("reset-password")
@click.argument("email")
@PASSWORD_FILE
@with_settings
def reset_password(settings: Settings, email: str, password_file: TextIO) -> None:
    """Set a new password; the user is signed out everywhere."""
    change = _checked(UserChange, {"password": _password(password_file)})
    run_beside(settings, _changing(email, change, "user.reset_password"))
    click.echo(f"{email} has a new password and is signed out everywhere")


@user.command()
@click.argument("email")
@with_settings
def disable(settings: Settings, email: str) -> None:
    """Keep a user out; `rosfit user enable` lets them in again."""
    run_beside(settings, _changing(email, UserChange(disabled=True), "user.disable"))
    click.echo(f"{email} is disabled and signed out everywhere")


@user.command()
@click.argument("email")
@with_settings
def enable(settings: Settings, email: str) -> None:
    """Let a disabled user in again."""
    run_beside(settings, _changing(email, UserChange(disabled=False), "user.enable"))
    click.echo(f"{email} may sign in again")


def _changing(email: str, change: UserChange, action: str) -> Callable[[Work], Awaitable[User]]:
    async def step(work: Work) -> User:
        found = await accounts.find_user(work, email)
        after = await accounts.change_user(work, found.id, change)
        await _record(work, action, found.id)
        return after

    return step
