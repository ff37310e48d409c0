"""Enrolment: tokens with which robots register themselves, and the robots that wait to be let in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import msgspec
import segno
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect, Template
from markupsafe import Markup

from rosfit.accounts import service as accounts
from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.access import AnyRequest, record, require_everywhere
from rosfit.dashboard.forms import PAGE_SIZE, next_page, see_other, text, words, wrong_fields
from rosfit.dashboard.keys import public_address
from rosfit.dashboard.rendering import Page, Shell, render, shell_for
from rosfit.fleet import enrolment
from rosfit.fleet.enrolment_models import Enrolment, EnrolmentToken, EnrolmentTokenWithSecret, NewEnrolmentToken
from rosfit.fleet.errors import DeviceExistsError, EnrolmentDecidedError
from rosfit.fleet.models import DEVICE_TYPES
from rosfit.kernel.work import Work
from rosfit.settings import Settings

WRITE: dict[str, Any] = {"right": Right.DEVICES_WRITE}

WAITING_SHOWN = 100
DECIDED_SHOWN = 20

LIVES_H = {"1": "1 hour", "24": "1 day", "168": "7 days", "720": "30 days", "8766": "1 year"}


@dataclass(frozen=True)
class EnrolmentPage(Page):
    template: ClassVar[str] = "enrolment.html"
    shell: Shell
    waiting: list[Enrolment]
    decided: list[Enrolment]
    tokens: list[EnrolmentToken]
    people: dict[str, str]
    next_url: str | None
    error: str = ""


@dataclass(frozen=True)
class TokenDraft:
    """A token as the form shows it."""

    name: str = ""
    device_type: str = "ros2_robot"
    tags: str = ""
    ttl_hours: str = "24"
    max_uses: str = "1"
    approval: bool = True


@dataclass(frozen=True)
class NewTokenPage(Page):
    template: ClassVar[str] = "enrolment_new.html"
    shell: Shell
    draft: TokenDraft
    types: tuple[str, ...] = DEVICE_TYPES
    lives: dict[str, str] = field(default_factory=lambda: LIVES_H)
    field_errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenMadePage(Page):
    """`qr` is an SVG that holds the address and the token as JSON."""

    template: ClassVar[str] = "enrolment_made.html"
    shell: Shell
    token: EnrolmentTokenWithSecret
    command: str
    qr: Markup


@get("/enrolment", opt=WRITE)
async def show_enrolment(request: AnyRequest, work: NamedDependency[Work], actor: NamedDependency[Actor]) -> Template:
    require_everywhere(actor)
    return render(await _page(work, actor, request.query_params.get("cursor")))


async def _page(work: Work, actor: Actor, cursor: str | None = None) -> EnrolmentPage:
    waiting = (await enrolment.find(work, "waiting", None, WAITING_SHOWN)).items
    recent = (await enrolment.find(work, None, None, DECIDED_SHOWN + len(waiting))).items
    decided = [one for one in recent if one.status != "waiting"][:DECIDED_SHOWN]
    tokens = await enrolment.list_tokens(work, cursor, PAGE_SIZE)
    ids = [one.created_by for one in tokens.items] + [one.decided_by for one in decided]
    people = await accounts.names(work, (one for one in ids if one))
    shell = shell_for(actor)
    return EnrolmentPage(shell, waiting, decided, tokens.items, people, next_page("/enrolment", tokens.next_cursor))


@get("/enrolment/new", opt=WRITE)
async def show_new_token(actor: NamedDependency[Actor]) -> Template:
    require_everywhere(actor)
    return render(NewTokenPage(shell_for(actor), TokenDraft()))


@post("/enrolment/new", opt=WRITE, status_code=200)
async def make_token(
    request: AnyRequest,
    work: NamedDependency[Work],
    settings: NamedDependency[Settings],
    pin: NamedDependency[str | None],
    actor: NamedDependency[Actor],
) -> Response[Any]:
    require_everywhere(actor)
    form = await request.form()
    names = ("name", "device_type", "tags", "ttl_hours", "max_uses")
    draft = TokenDraft(approval="approval" in form, **{name: text(form, name) for name in names})
    values: dict[str, Any] = {name: getattr(draft, name) for name in names} | {"tags": words(draft.tags)}
    if wrong := wrong_fields(values, NewEnrolmentToken):
        return render(NewTokenPage(shell_for(actor), draft, field_errors=wrong), status=422)
    new = msgspec.convert(values | {"approval": draft.approval}, NewEnrolmentToken, strict=False)
    made = await enrolment.create_token(work, new, actor.id)
    await record(work, request, actor, "enrolment_token.create", made.id, after=new)
    address = f"{public_address(request, settings)}/api/v1/enrolment"
    command = enrol_command(address, made.token, pin)
    return render(TokenMadePage(shell_for(actor), made, command, qr_code(address, made.token)))


_ENROL = """\
python3 - <<'EOF'
import hashlib, json, os, re, socket, ssl, time
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

address = {address}
pin = {pin}
trust = None
if pin:
    place = urlsplit(address)
    shown = ssl.get_server_certificate((place.hostname, place.port or 443))
    if hashlib.sha256(ssl.PEM_cert_to_DER_cert(shown)).hexdigest() != pin:
        raise SystemExit("refused: this server does not show the certificate that the command names")
    trust = ssl.create_default_context(cadata=shown)
    trust.check_hostname = False
    trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
device_id = re.sub("[^A-Za-z0-9_-]+", "-", socket.gethostname()).strip("-_")[:64]

def post(path, body):
    headers = {{"Content-Type": "application/json"}}
    try:
        with urlopen(Request(address + path, json.dumps(body).encode(), headers), context=trust) as answer:
            return json.load(answer)
    except HTTPError as refused:
        raise SystemExit("refused: " + json.load(refused)["detail"])

asked = answer = post("", {{"token": {token}, "device_id": device_id}})
while "token" not in answer:
    print("waiting for approval of", asked["device_id"], flush=True)
    time.sleep(5)
    answer = post("/" + asked["enrolment_id"] + "/claim", {{"claim": asked["claim"]}})
with os.fdopen(os.open("rosfit-credential.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
    json.dump(answer, file, indent=2)
print("enrolled as", answer["device_id"] + "; the MQTT user name and token are in rosfit-credential.json")
EOF"""


def enrol_command(address: str, token: str, pin: str | None = None) -> str:
    """For a shell on the robot: register under its host name, wait for approval, keep the credential in a file.

    With `pin` it speaks to the server with exactly this certificate, before it tells the token.
    """
    return _ENROL.format(address=json.dumps(address), token=json.dumps(token), pin=repr(pin))


def qr_code(address: str, token: str) -> Markup:
    """An SVG without styles of its own; black on white in either theme, since cameras expect it."""
    content = json.dumps({"url": address, "token": token}, separators=(",", ":"))
    drawn = segno.make_qr(content, error="m").svg_inline(omitsize=True, border=3, light="#fff", title="QR code")
    return Markup(drawn)  # noqa: S704  made of numbers alone


@post("/enrolment/tokens/{token_id:str}/revoke", opt=WRITE, status_code=200)
async def revoke_token(
    request: AnyRequest, token_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Redirect:
    require_everywhere(actor)
    await enrolment.revoke_token(work, token_id)
    await record(work, request, actor, "enrolment_token.revoke", token_id)
    return see_other("/enrolment")


@post("/enrolment/{enrolment_id:str}/approve", opt=WRITE, status_code=200)
async def approve(
    request: AnyRequest, enrolment_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    return await _decide(request, work, actor, enrolment_id, "approve")


@post("/enrolment/{enrolment_id:str}/deny", opt=WRITE, status_code=200)
async def deny(
    request: AnyRequest, enrolment_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Any]:
    return await _decide(request, work, actor, enrolment_id, "deny")


async def _decide(request: AnyRequest, work: Work, actor: Actor, enrolment_id: str, step: str) -> Response[Any]:
    require_everywhere(actor)
    decide = enrolment.approve if step == "approve" else enrolment.deny
    try:
        async with work.connection.transaction():
            decided = await decide(work, enrolment_id, actor.id)
    except (DeviceExistsError, EnrolmentDecidedError) as error:
        page = replace(await _page(work, actor), error=f"{error.title}. {error.detail}.")
        return render(page, status=error.status)
    await record(work, request, actor, f"enrolment.{step}", enrolment_id, after=decided)
    return see_other("/enrolment")
