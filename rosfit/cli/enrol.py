"""`rosfit enrol`"""

from __future__ import annotations

from typing import Any

import click
import msgspec

from rosfit.accounts import audit
from rosfit.cli.beside import run_beside
from rosfit.cli.options import json_option, print_json, with_settings
from rosfit.cli.user import OPERATOR
from rosfit.fleet import enrolment
from rosfit.fleet.enrolment_models import Enrolment, EnrolmentTokenWithSecret, NewEnrolmentToken
from rosfit.fleet.models import DEVICE_TYPES
from rosfit.kernel.work import Work
from rosfit.settings import Settings


@click.group()
def enrol() -> None:
    """Let robots register themselves, and decide about those that wait."""


@enrol.command("create-token")
@click.argument("name")
@click.option("--type", "device_type", type=click.Choice(DEVICE_TYPES), default="ros2_robot", show_default=True)
@click.option("--tag", "tags", multiple=True, help="May be given several times.")
@click.option("--ttl-hours", type=float, default=24.0, show_default=True)
@click.option("--max-uses", type=int, default=1, show_default=True, help="How many robots may use it.")
@click.option("--approval", is_flag=True, help="Each robot waits until somebody approves it.")
@with_settings
@json_option
def create_token(settings: Settings, as_json: bool, **values: Any) -> None:
    """Make an enrolment token and print it, this once."""
    try:
        new = msgspec.convert(values | {"tags": list(values["tags"])}, NewEnrolmentToken)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error

    async def create(work: Work) -> EnrolmentTokenWithSecret:
        made = await enrolment.create_token(work, new, OPERATOR)
        await audit.record(work, OPERATOR, "enrolment_token.create", made.id, after=new)
        return made

    made = run_beside(settings, create)
    if as_json:
        print_json(msgspec.to_builtins(made))
    else:
        click.echo(f"token:    {made.token}\nid:       {made.id}\nvalid to: {made.expires_at}")


@enrol.command("list")
@click.option("--status", type=click.Choice(["waiting", "approved", "denied", "claimed"]), help="Only these.")
@with_settings
@json_option
def list_(settings: Settings, as_json: bool, status: str | None) -> None:
    """Robots that asked to be let in, newest first."""

    async def find(work: Work) -> list[Enrolment]:
        return (await enrolment.find(work, status, None, 200)).items

    found = run_beside(settings, find)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    for one in found:
        click.echo(f"{one.id}  {one.status:<9} {one.device_id:<24} {one.address or '':<16} {one.created_at}")


@enrol.command()
@click.argument("enrolment_id", metavar="ID")
@with_settings
@json_option
def approve(settings: Settings, as_json: bool, enrolment_id: str) -> None:
    """Let a waiting robot in."""
    _decide(settings, as_json, enrolment_id, approved=True)


@enrol.command()
@click.argument("enrolment_id", metavar="ID")
@with_settings
@json_option
def deny(settings: Settings, as_json: bool, enrolment_id: str) -> None:
    """Turn a waiting robot away."""
    _decide(settings, as_json, enrolment_id, approved=False)


def _decide(settings: Settings, as_json: bool, enrolment_id: str, *, approved: bool) -> None:
    async def decide(work: Work) -> Enrolment:
        step = enrolment.approve if approved else enrolment.deny
        decided = await step(work, enrolment_id, OPERATOR)
        action = "enrolment.approve" if approved else "enrolment.deny"
        await audit.record(work, OPERATOR, action, enrolment_id, after=decided)
        return decided

    decided = run_beside(settings, decide)
    if as_json:
        print_json(msgspec.to_builtins(decided))
    else:
        click.echo(f"{decided.device_id} is {decided.status}")
