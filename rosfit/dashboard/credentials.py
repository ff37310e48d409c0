"""What one robot connects with: user names and passwords, tokens and certificates; rotated and revoked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar, get_args

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect, Template

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, record
from rosfit.dashboard.forms import see_other, text
from rosfit.dashboard.injected import Access, Issuing
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.fleet import certificates, credentials
from rosfit.fleet import service as fleet
from rosfit.fleet.authority import AuthorityFiles
from rosfit.fleet.certificates import IssuedCertificate
from rosfit.fleet.credentials import Wanted
from rosfit.fleet.errors import DeviceDecommissionedError, NoAuthorityError, SigningRequestError
from rosfit.fleet.models import Certificate, Credential, CredentialInfo, CredentialKind, Device
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import BadRequestError
from rosfit.kernel.work import Work
from rosfit.settings import Settings

READ: dict[str, Any] = {"right": Right.DEVICES_READ}
WRITE: dict[str, Any] = {"right": Right.DEVICES_WRITE}

KINDS: tuple[CredentialKind, ...] = get_args(CredentialKind)
OVERLAPS_H = {"0": "Ends them at once", "1": "1 hour", "24": "1 day", "168": "7 days"}
LIVES_H = {"720": "30 days", "2160": "90 days", "8766": "1 year", "43830": "5 years"}

LARGEST_CSR = 20_000


@dataclass(frozen=True)
class State:
    """Where a credential is in its life: `live`, `expired` or `revoked`, with the time of its end."""

    word: str
    at: str | None = None


@dataclass(frozen=True)
class CredentialRow:
    info: CredentialInfo
    state: State


@dataclass(frozen=True)
class CertificateRow:
    info: Certificate
    state: State


@dataclass(frozen=True)
class CredentialsPage(Page):
    """`managed` is false where the broker's accounts are somebody else's business."""

    template: ClassVar[str] = "robot_credentials.html"
    shell: Shell
    device: Device
    passwords: list[CredentialRow]
    certificates: list[CertificateRow]
    may_write: bool
    managed: bool
    has_authority: bool
    overlaps: dict[str, str]
    lives: dict[str, str]
    csr: str = ""
    csr_error: str = ""


@dataclass(frozen=True)
class CredentialMadePage(Page):
    template: ClassVar[str] = "credential_made.html"
    shell: Shell
    device: Device
    credential: Credential


@dataclass(frozen=True)
class CertificateMadePage(Page):
    template: ClassVar[str] = "certificate_made.html"
    shell: Shell
    device: Device
    issued: IssuedCertificate


@get("/robots/{device_id:str}/credentials", opt=READ)
async def show_credentials(
    device_id: FromPath[str],
    work: NamedDependency[Work],
    broker_access: NamedDependency[Access],
    settings: NamedDependency[Settings],
    actor: NamedDependency[Actor],
) -> Template:
    return render(await _page(work, device_id, actor, settings, broker_access is not None))


async def _page(work: Work, device_id: str, actor: Actor, settings: Settings, managed: bool) -> CredentialsPage:
    device = await fleet.get(work, device_id, actor.reach)
    at = format_time(now())
    return CredentialsPage(
        shell_for(actor),
        device,
        [CredentialRow(one, _state(one, at)) for one in await credentials.list_for(work, device_id)],
        [CertificateRow(one, _state(one, at)) for one in await certificates.list_for(work, device_id)],
        actor.may(Right.DEVICES_WRITE) and device.status != "decommissioned",
        managed,
        AuthorityFiles(settings.data_dir).load() is not None,
        OVERLAPS_H,
        LIVES_H,
    )


def _state(one: CredentialInfo | Certificate, at: str) -> State:
    if one.revoked_at is not None:
        return State("revoked", one.revoked_at)
    if one.expires_at is None:
        return State("live")
    return State("expired" if one.expires_at <= at else "live", one.expires_at)


@post("/robots/{device_id:str}/credentials", opt=WRITE, status_code=200)
async def rotate_credential(
    request: AnyRequest,
    device_id: FromPath[str],
    work: NamedDependency[Work],
    edge: NamedDependency[Issuing],
    actor: NamedDependency[Actor],
) -> Template:
    """A new credential; those before it live on for the overlap. The broker learns of it with the commit."""
    device = await fleet.get(work, device_id, actor.reach)
    wanted = _wanted(await request.form())
    issued = await credentials.issue(work, device_id, wanted, edge.hash_device_token, edge.signer.sign_device)
    shown = {"id": issued.id, "username": issued.username, "kind": issued.kind, "expires_at": issued.expires_at}
    await record(work, request, actor, "credential.create", device_id, after=shown)
    return render(CredentialMadePage(shell_for(actor), device, issued))


def _wanted(form: Any) -> Wanted:
    kind, overlap, life = text(form, "kind"), text(form, "overlap_hours"), text(form, "ttl_hours")
    if kind not in KINDS or overlap not in OVERLAPS_H or life not in LIVES_H:
        raise BadRequestError("Choose kind, overlap and life from their lists")
    return Wanted(
        "jwt" if kind == "jwt" else "password",
        ttl=timedelta(hours=int(life)),
        overlap=timedelta(hours=int(overlap)),
    )


@post("/robots/{device_id:str}/credentials/{credential_id:str}/revoke", opt=WRITE, status_code=200)
async def revoke_credential(
    request: AnyRequest,
    device_id: FromPath[str],
    credential_id: FromPath[str],
    work: NamedDependency[Work],
    actor: NamedDependency[Actor],
) -> Redirect:
    """At once: who is connected with it is disconnected."""
    await fleet.check_reach(work, device_id, actor.reach)
    await credentials.revoke(work, device_id, credential_id)
    await record(work, request, actor, "credential.revoke", device_id, before={"id": credential_id})
    return see_other(f"/robots/{device_id}/credentials")


@post("/robots/{device_id:str}/certificates", opt=WRITE, status_code=200)
async def sign_certificate(
    request: AnyRequest,
    device_id: FromPath[str],
    work: NamedDependency[Work],
    broker_access: NamedDependency[Access],
    settings: NamedDependency[Settings],
    actor: NamedDependency[Actor],
) -> Response[Any]:
    """A certificate for a signing request, in the name of this robot whatever the request says."""
    csr = text(await request.form(), "csr")[:LARGEST_CSR]
    page = await _page(work, device_id, actor, settings, broker_access is not None)
    try:
        issued = await certificates.sign(work, AuthorityFiles(settings.data_dir).require(), device_id, csr)
    except (NoAuthorityError, SigningRequestError, DeviceDecommissionedError) as error:
        return render(replace(page, csr=csr, csr_error=f"{error.title}. {error.detail}."), status=error.status)
    shown = {"serial": issued.serial, "expires_at": issued.expires_at}
    await record(work, request, actor, "certificate.create", device_id, after=shown)
    return render(CertificateMadePage(shell_for(actor), page.device, issued))


@post("/robots/{device_id:str}/certificates/{serial:str}/revoke", opt=WRITE, status_code=200)
async def revoke_certificate(
    request: AnyRequest,
    device_id: FromPath[str],
    serial: FromPath[str],
    work: NamedDependency[Work],
    actor: NamedDependency[Actor],
) -> Redirect:
    await fleet.check_reach(work, device_id, actor.reach)
    await certificates.revoke(work, device_id, serial)
    await record(work, request, actor, "certificate.revoke", device_id, before={"serial": serial})
    return see_other(f"/robots/{device_id}/credentials")
