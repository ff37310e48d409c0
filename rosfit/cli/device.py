"""`rosfit device`"""

from __future__ import annotations

from datetime import timedelta

import click
import msgspec

from rosfit.cli.beside import run_beside
from rosfit.cli.options import json_option, print_json, with_settings
from rosfit.fleet import service as fleet
from rosfit.fleet.models import DEVICE_TYPES, Credential, Device, DeviceFilter, NewDevice
from rosfit.infra.embedded.broker_accounts import hash_password
from rosfit.kernel.work import Work
from rosfit.settings import Settings


@click.group()
def device() -> None:
    """Robots and other devices."""


@device.command()
@click.argument("device_id", metavar="ID")
@click.option("--type", "device_type", type=click.Choice(DEVICE_TYPES), default="ros2_robot", show_default=True)
@click.option("--name", help="What people call it; the id when it is missing.")
@click.option("--tag", "tags", multiple=True, help="May be given several times.")
@with_settings
@json_option
def add(
    settings: Settings, as_json: bool, device_id: str, device_type: str, name: str | None, tags: tuple[str, ...]
) -> None:
    """Register a device. `rosfit device token` then gives it a credential."""
    values = {"device_id": device_id, "type": device_type, "name": name, "tags": list(tags)}
    try:
        new = msgspec.convert(values, NewDevice)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error

    async def register(work: Work) -> Device:
        return await fleet.register(work, new)

    added = run_beside(settings, register)
    if as_json:
        print_json(msgspec.to_builtins(added))
    else:
        click.echo(f"{added.device_id} is registered as {added.type}")


@device.command()
@click.argument("device_id", metavar="ID")
@click.option("--ttl-hours", type=click.FloatRange(min=0, min_open=True), default=8766.0, show_default=True)
@with_settings
@json_option
def token(settings: Settings, as_json: bool, device_id: str, ttl_hours: float) -> None:
    """Give a device an MQTT user name and password; shown once."""

    async def issue(work: Work) -> Credential:
        ttl = timedelta(hours=ttl_hours)
        return await fleet.issue_credential(work, hash_password, device_id, ("publish", "subscribe"), ttl)

    credential = run_beside(settings, issue)
    if as_json:
        print_json(msgspec.to_builtins(credential))
    else:
        click.echo(f"username: {credential.username}\npassword: {credential.token}\nvalid to: {credential.expires_at}")


@device.command("list")
@click.option("--status", "statuses", multiple=True, help="May be given several times.")
@click.option("--tag")
@click.option("--search", "q", help="Part of the id or name.")
@with_settings
@json_option
def list_(settings: Settings, as_json: bool, statuses: tuple[str, ...], tag: str | None, q: str | None) -> None:
    """Devices by id."""

    async def find(work: Work) -> list[Device]:
        wanted = DeviceFilter(statuses, None, tag, q)
        page = await fleet.find(work, wanted, None, 200)
        found = page.items
        while page.next_cursor:
            page = await fleet.find(work, wanted, page.next_cursor, 200)
            found += page.items
        return found

    devices = run_beside(settings, find)
    if as_json:
        print_json(msgspec.to_builtins(devices))
        return
    for one in devices:
        battery = "" if one.battery is None else f"{one.battery:.0f} %"
        heard = one.last_seen or "never heard"
        click.echo(f"{one.device_id:<24} {one.status:<15} {battery:>6}  {heard:<24}  {one.name}")
