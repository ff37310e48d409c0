"""Enrolment: tokens for robots, robots that ask to be let in, and certificates renewed by the robot itself."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter

from rosfit.accounts.rights import Right
from rosfit.api.access import actor_of, record
from rosfit.api.auth import sync_broker_after
from rosfit.api.edge import Connection, Edge, address_of
from rosfit.api.idempotency import once
from rosfit.api.parameters import DEFAULT_LIMIT, Cursor, Limit
from rosfit.api.responses import WireResponse
from rosfit.fleet import certificates, credentials, enrolment
from rosfit.fleet.authority import AuthorityFiles
from rosfit.fleet.certificates import IssuedCertificate
from rosfit.fleet.enrolment_models import (
    Enrolment,
    EnrolmentRequest,
    EnrolmentStatus,
    EnrolmentToken,
    EnrolmentTokenWithSecret,
    NewEnrolmentToken,
    Waiting,
)
from rosfit.fleet.models import Credential
from rosfit.fleet.mqtt_passwords import fits
from rosfit.kernel.errors import RateLimitedError, UnauthenticatedError, UnavailableError
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work

# What is let in here belongs to nobody yet, so a credential that is limited to some devices may not deal with it.
READ = {"right": Right.DEVICES_READ, "whole_fleet": True}
WRITE = {"right": Right.DEVICES_WRITE, "whole_fleet": True}
PUBLIC = {"public": True}
WAITING = {202: ResponseSpec(Waiting, description="Nobody has decided yet", generate_examples=False)}

# Enough for a rack of robots that ask every few seconds behind one address, too little to guess 256 bits.
PUBLIC_PER_S = 20


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    claim: str


class Renewal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`csr` in PEM form. Without HTTP Basic authentication: the present certificate, and its key's signature of
    `csr` (SHA-256, base64).
    """

    csr: str
    certificate: str | None = None
    signature: str | None = None


class EnrolmentTokenController(Controller):
    path = "/enrolment-tokens"
    tags = ("enrolment",)

    @post(opt=WRITE)
    async def create_enrolment_token(
        self, data: NewEnrolmentToken, request: Request[Any, Any, Any], work: Work
    ) -> Response[EnrolmentTokenWithSecret]:
        """A token with which robots register themselves; shown once."""
        actor = actor_of(request)

        async def create() -> EnrolmentTokenWithSecret:
            made = await enrolment.create_token(work, data, actor.id)
            await record(work, request, "enrolment_token.create", made.id, after=data)
            return made

        return await once(work, request, actor.id, 201, create)

    @get(opt=WRITE)
    async def list_enrolment_tokens(
        self, request: Request[Any, Any, Any], work: Work, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> Page[EnrolmentToken]:
        """Those not revoked, newest first, without their secrets."""
        return await enrolment.list_tokens(work, cursor, limit)

    @delete("/{token_id:str}", opt=WRITE)
    async def revoke_enrolment_token(self, token_id: str, request: Request[Any, Any, Any], work: Work) -> None:
        """At once. Robots that it has let in stay."""
        await enrolment.revoke_token(work, token_id)
        await record(work, request, "enrolment_token.revoke", token_id)


class EnrolmentController(Controller):
    tags = ("enrolment",)

    @post("/enrolment", opt=PUBLIC, responses=WAITING)
    async def enrol_device(
        self, data: EnrolmentRequest, request: Request[Any, Any, Any], work: Work, edge: Edge
    ) -> Response[Any]:
        """Register with an enrolment token: 201 with a credential, or 202 with a claim while somebody must approve."""
        await limit_by_address(request, edge)

        async def create() -> Credential | Waiting:
            made = await enrolment.enrol(work, data, edge.hash_device_token, address_of(request))
            await record(work, request, "device.enrol", made.device_id)
            sync_broker_after(work, edge)
            return made

        answer = await once(work, request, _anonymous(data.token), 201, create)
        if _is_waiting(answer.content):
            answer.status_code = 202
        return answer

    @post("/enrolment/{enrolment_id:str}/claim", opt=PUBLIC, responses=WAITING)
    async def claim_enrolment(
        self, enrolment_id: str, data: Claim, request: Request[Any, Any, Any], work: Work, edge: Edge
    ) -> Response[Any]:
        """202 while nobody has decided, 201 with the credential, once; 403 when it was denied."""
        await limit_by_address(request, edge)
        status = await enrolment.check_claim(work, enrolment_id, data.claim)
        if status == "waiting":
            return WireResponse({"status": status}, status_code=202)

        async def collect() -> Credential:
            credential = await enrolment.collect(work, enrolment_id, edge.hash_device_token)
            await record(work, request, "enrolment.claim", enrolment_id, after={"device_id": credential.device_id})
            sync_broker_after(work, edge)
            return credential

        return await once(work, request, _anonymous(data.claim), 201, collect)

    @post("/enrolment/renew", opt=PUBLIC)
    async def renew_certificate(
        self, data: Renewal, request: Request[Any, Any, Any], work: Work, edge: Edge
    ) -> Response[IssuedCertificate]:
        """A certificate for the robot that asks: by its MQTT user name and password (HTTP Basic), or by its present
        certificate.
        """
        await limit_by_address(request, edge)
        authority = AuthorityFiles(edge.settings.data_dir).require()
        if data.certificate is not None:
            device_id = await certificates.holder(work, authority, data.certificate, _decoded(data.signature), data.csr)
        else:
            device_id = await _basic_device(request, work, edge)
        if device_id is None:
            raise UnauthenticatedError("Send the device's MQTT user name and password, or its present certificate")
        issued = await certificates.sign(work, authority, device_id, data.csr)
        await record(work, request, "certificate.renew", device_id, after={"serial": issued.serial})
        sync_broker_after(work, edge)
        return WireResponse(issued, status_code=201)

    @get("/enrolments", opt=READ)
    async def list_enrolments(
        self,
        request: Request[Any, Any, Any],
        work: Work,
        status: Annotated[EnrolmentStatus | None, Parameter(description="only these")] = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[Enrolment]:
        """Robots that asked to be let in, newest first."""
        return await enrolment.find(work, status, cursor, limit)

    @post("/enrolments/{enrolment_id:str}/approve", opt=WRITE, status_code=200)
    async def approve_enrolment(self, enrolment_id: str, request: Request[Any, Any, Any], work: Work) -> Enrolment:
        """Register the robot; it fetches its credential itself."""
        approved = await enrolment.approve(work, enrolment_id, actor_of(request).id)
        await record(work, request, "enrolment.approve", enrolment_id, after=approved)
        return approved

    @post("/enrolments/{enrolment_id:str}/deny", opt=WRITE, status_code=200)
    async def deny_enrolment(self, enrolment_id: str, request: Request[Any, Any, Any], work: Work) -> Enrolment:
        denied = await enrolment.deny(work, enrolment_id, actor_of(request).id)
        await record(work, request, "enrolment.deny", enrolment_id, after=denied)
        return denied


async def limit_by_address(request: Connection, edge: Edge) -> None:
    """Raises RateLimitedError when an address asks too often."""
    try:
        wait_s = await edge.hot.count_request(f"enrolment:{address_of(request)}", PUBLIC_PER_S)
    except UnavailableError:
        return  # as for every limit: without its counter it would only keep everybody out
    if wait_s > 0:
        raise RateLimitedError(f"At most {PUBLIC_PER_S} requests a second from one address", retry_after_s=wait_s)


async def _basic_device(request: Connection, work: Work, edge: Edge) -> str | None:
    """The device behind `Authorization: Basic`, or None."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    username, _, password = _decoded(encoded).decode(errors="replace").partition(":")
    found = await credentials.who(work, username, password, fits, edge.signer.read_device)
    return found.device_id if found else None


def _decoded(text: str | None) -> bytes:
    try:
        return base64.b64decode(text or "", validate=True)
    except (ValueError, binascii.Error):
        return b""


def _anonymous(secret: str) -> str:
    """Whose Idempotency-Keys these are, where no account asks: those of the holder of this secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _is_waiting(content: Any) -> bool:
    """Also when it is an answer that was kept for its Idempotency-Key."""
    kept = isinstance(content, msgspec.Raw) and "claim" in msgspec.json.decode(content)
    return kept or isinstance(content, Waiting)
