"""Adding a robot: a dialog that registers it, shows the command once and follows how it connects."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Template

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, record
from rosfit.dashboard.connecting import BrokerAddress, Checklist, broker_address, checklist, connect_command
from rosfit.dashboard.injected import Access, Hashing
from rosfit.dashboard.rendering import Page, render
from rosfit.fleet import service as fleet
from rosfit.fleet.errors import DeviceExistsError, DeviceNotFoundError
from rosfit.fleet.models import DEVICE_TYPES, Device, NewDevice
from rosfit.kernel.clock import format_time, now, parse_time
from rosfit.kernel.errors import PermissionDeniedError
from rosfit.kernel.work import Work
from rosfit.protocol.access import ALL_SCOPES
from rosfit.settings import Settings
from rosfit.telemetry import repository as telemetry

READ: dict[str, Any] = {"right": Right.DEVICES_READ}
WRITE: dict[str, Any] = {"right": Right.DEVICES_WRITE}

# Shown where RosFit does not manage the broker's accounts.
OWN_PASSWORD = "PASSWORD"  # noqa: S105

_EXPECTED = {
    "device_id": "Use up to 64 letters, digits, - and _, beginning with a letter or digit",
    "name": "Use at most 200 characters",
    "type": "Choose one of the list",
}


@dataclass(frozen=True)
class AddForm(Page):
    template: ClassVar[str] = "add_robot.html"
    device_id: str = ""
    name: str = ""
    type: str = "ros2_robot"
    types: tuple[str, ...] = DEVICE_TYPES
    field_errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ConnectFragment(Page):
    """`managed` is false where the broker's own administrator must make the account."""

    template: ClassVar[str] = "connect_robot.html"
    device: Device
    command: str
    managed: bool
    address: BrokerAddress
    progress: Checklist
    since: str


@dataclass(frozen=True)
class ChecklistFragment(Page):
    template: ClassVar[str] = "checklist.html"
    device: Device
    progress: Checklist
    since: str


@get("/add-robot", opt=WRITE)
async def show_form(actor: NamedDependency[Actor]) -> Template:
    return render(AddForm())


@post("/add-robot", opt=WRITE, status_code=200)
async def add_robot(
    request: AnyRequest,
    work: NamedDependency[Work],
    broker_access: NamedDependency[Access],
    edge: NamedDependency[Hashing],
    settings: NamedDependency[Settings],
    pin: NamedDependency[str | None],
    actor: NamedDependency[Actor],
) -> Template:
    form = await request.form()
    given = {key: str(form.get(key, "")).strip() for key in ("device_id", "name", "type")}
    page = AddForm(given["device_id"], given["name"], given["type"])
    try:
        # Somebody who is limited to tags must see what they add.
        tags = list(actor.reach.tags[:1])
        new = msgspec.convert({key: value for key, value in given.items() if value} | {"tags": tags}, NewDevice)
        device = await fleet.register(work, new)
    except msgspec.ValidationError as error:
        return _refused(page, _field_of(error))
    except DeviceExistsError:
        return _refused(page, "device_id", "This id is taken; choose another")
    await _require_reach(work, device, actor)
    await record(work, request, actor, "device.create", device.device_id, after=device)
    return render(await _connect(request, work, broker_access, edge, settings, pin, device, actor))


async def _require_reach(work: Work, device: Device, actor: Actor) -> None:
    """Nobody may add a robot that they cannot see themselves."""
    try:
        await fleet.check_reach(work, device.device_id, actor.reach)
    except DeviceNotFoundError as error:
        raise PermissionDeniedError(
            "Your account is limited to groups of robots; ask an engineer to add one"
        ) from error


def _refused(page: AddForm, name: str, why: str | None = None) -> Template:
    errors = {name: why or _EXPECTED[name]}
    return render(replace(page, field_errors=errors), status=422)


def _field_of(error: msgspec.ValidationError) -> str:
    return next((name for name in _EXPECTED if f"$.{name}" in str(error)), "device_id")


async def _connect(
    request: AnyRequest,
    work: Work,
    access: Access,
    edge: Hashing,
    settings: Settings,
    pin: str | None,
    device: Device,
    actor: Actor,
) -> ConnectFragment:
    """Issue a credential, which is shown this once. The broker learns of it as soon as it is committed."""
    password = OWN_PASSWORD
    if access is not None:
        issued = await fleet.issue_credential(work, edge.hash_device_token, device.device_id, ALL_SCOPES, None)
        password = issued.token
        shown = {"id": issued.id, "username": issued.username, "kind": issued.kind, "expires_at": issued.expires_at}
        await record(work, request, actor, "credential.create", device.device_id, after=shown)
    address = broker_address(settings, request.url.hostname or settings.host, pin)
    command = connect_command(device.type, device.device_id, password, address)
    progress = await _progress(work, device, address, 0.0)
    return ConnectFragment(device, command, access is not None, address, progress, format_time(now()))


async def _progress(work: Work, device: Device, address: BrokerAddress, waited_s: float) -> Checklist:
    has_sample = bool(await telemetry.streams(work.connection, device.device_id))
    return checklist(device, has_sample, address, waited_s)


@post("/robots/{device_id:str}/credential", opt=WRITE, status_code=200)
async def new_credential(
    request: AnyRequest,
    device_id: FromPath[str],
    work: NamedDependency[Work],
    broker_access: NamedDependency[Access],
    edge: NamedDependency[Hashing],
    settings: NamedDependency[Settings],
    pin: NamedDependency[str | None],
    actor: NamedDependency[Actor],
) -> Template:
    """A new command for a device; the credential before it ends."""
    device = await fleet.get(work, device_id, actor.reach)
    return render(await _connect(request, work, broker_access, edge, settings, pin, device, actor))


@get("/robots/{device_id:str}/checklist", opt=READ)
async def show_checklist(
    request: AnyRequest,
    device_id: FromPath[str],
    work: NamedDependency[Work],
    settings: NamedDependency[Settings],
    actor: NamedDependency[Actor],
) -> Template:
    device = await fleet.get(work, device_id, actor.reach)
    since = str(request.query_params.get("since", ""))
    address = broker_address(settings, request.url.hostname or settings.host)
    progress = await _progress(work, device, address, _seconds_since(since))
    return render(ChecklistFragment(device, progress, since))


def _seconds_since(since: str) -> float:
    try:
        return (now() - parse_time(since)).total_seconds()
    except ValueError:
        return 0.0
