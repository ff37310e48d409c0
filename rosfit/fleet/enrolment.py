"""Enrolment: a token lets robots register themselves, at once or after somebody's approval."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta

from rosfit.fleet import credentials, enrolment_repository, repository, service
from rosfit.fleet.credentials import Hash, Wanted
from rosfit.fleet.enrolment_models import (
    Enrolment,
    EnrolmentRequest,
    EnrolmentStatus,
    EnrolmentToken,
    EnrolmentTokenWithSecret,
    NewEnrolmentToken,
    Waiting,
)
from rosfit.fleet.errors import (
    EnrolmentDecidedError,
    EnrolmentDeniedError,
    EnrolmentNotFoundError,
    EnrolmentTokenError,
)
from rosfit.fleet.models import Credential, NewDevice
from rosfit.kernel.clock import now
from rosfit.kernel.ids import new_id
from rosfit.kernel.paging import Page, decode_cursor, page_of
from rosfit.kernel.work import Work

TOKEN_PREFIX = "rfe_"  # noqa: S105  by it people recognise what it is


async def create_token(work: Work, new: NewEnrolmentToken, created_by: str) -> EnrolmentTokenWithSecret:
    token_id, token = new_id("ent"), TOKEN_PREFIX + secrets.token_urlsafe(32)
    expires_at = now() + timedelta(hours=new.ttl_hours)
    wire = await enrolment_repository.insert_token(work.connection, token_id, new, _hash(token), created_by, expires_at)
    return EnrolmentTokenWithSecret(
        token_id, new.name, new.device_type, new.tags, new.approval, new.max_uses, wire, token
    )


async def list_tokens(work: Work, cursor: str | None, limit: int) -> Page[EnrolmentToken]:
    """Those not revoked, newest first."""
    key = decode_cursor(cursor, tuple[str])
    rows = await enrolment_repository.list_tokens(work.connection, key[0] if key else None, limit + 1)
    return page_of(rows, limit, lambda row: (row.id,))


async def revoke_token(work: Work, token_id: str) -> None:
    """Raises EnrolmentNotFoundError."""
    if not await enrolment_repository.revoke_token(work.connection, token_id):
        raise EnrolmentNotFoundError(f"There is no enrolment token {token_id[:64]!r} in use")


async def enrol(work: Work, wish: EnrolmentRequest, hash_token: Hash, address: str | None) -> Credential | Waiting:
    """A credential for a new device, or the claim to one.

    Raises EnrolmentTokenError, and DeviceExistsError: a token lets nobody become a device that is there already.
    """
    used = await enrolment_repository.use_token(work.connection, _hash(wish.token))
    if used is None:
        raise EnrolmentTokenError("It is unknown, used up, revoked or past its time; ask for a new one")
    new = NewDevice(used.device_type, wish.device_id, wish.name, used.tags)
    if not used.approval:
        return await _let_in(work, new, hash_token)
    device_id = wish.device_id or service.made_up_id(used.device_type)
    if await repository.statuses(work.connection, [device_id]):
        raise service.exists(device_id)
    waiting = Waiting(new_id("enr"), device_id, secrets.token_urlsafe(32))
    name = wish.name or device_id
    await enrolment_repository.insert(work.connection, waiting, used.token_id, name, _hash(waiting.claim), address)
    return waiting


async def _let_in(work: Work, new: NewDevice, hash_token: Hash) -> Credential:
    device = await service.register(work, new)
    return await credentials.issue(work, device.device_id, Wanted(), hash_token)


async def check_claim(work: Work, enrolment_id: str, claim: str) -> EnrolmentStatus:
    """Where the enrolment stands, for whoever holds its claim; locked until the end of the work.

    Raises EnrolmentNotFoundError for a wrong claim, too, and EnrolmentDeniedError.
    """
    found = await enrolment_repository.lock(work.connection, enrolment_id)
    if found is None or not hmac.compare_digest(found.claim_hash, _hash(claim)):
        raise EnrolmentNotFoundError("Send the enrolment_id and the claim of the answer to POST /enrolment")
    if found.status == "denied":
        raise EnrolmentDeniedError(f"{found.device_id} was not let in; ask who runs this server")
    return found.status


async def collect(work: Work, enrolment_id: str, hash_token: Hash) -> Credential:
    """The credential of an approved enrolment, once. Raises EnrolmentDecidedError."""
    found = await enrolment_repository.lock(work.connection, enrolment_id)
    if found is None or found.status != "approved":
        raise EnrolmentDecidedError("Its credential was handed out before; enrol again with a new token")
    await enrolment_repository.decide(work.connection, enrolment_id, "claimed", None)
    return await credentials.issue(work, found.device_id, Wanted(), hash_token)


async def find(work: Work, status: str | None, cursor: str | None, limit: int) -> Page[Enrolment]:
    """Newest first."""
    key = decode_cursor(cursor, tuple[str])
    rows = await enrolment_repository.list_(work.connection, status, key[0] if key else None, limit + 1)
    return page_of(rows, limit, lambda row: (row.id,))


async def approve(work: Work, enrolment_id: str, decided_by: str) -> Enrolment:
    """Register the device; it fetches its credential with its claim."""
    found = await _waiting(work, enrolment_id)
    await service.register(work, NewDevice(found.device_type, found.device_id, found.name, found.tags))
    return await _decide(work, enrolment_id, "approved", decided_by)


async def deny(work: Work, enrolment_id: str, decided_by: str) -> Enrolment:
    await _waiting(work, enrolment_id)
    return await _decide(work, enrolment_id, "denied", decided_by)


async def _waiting(work: Work, enrolment_id: str) -> enrolment_repository.Locked:
    found = await enrolment_repository.lock(work.connection, enrolment_id)
    if found is None:
        raise EnrolmentNotFoundError(f"There is no enrolment {enrolment_id[:64]!r}")
    if found.status != "waiting":
        raise EnrolmentDecidedError(f"It is {found.status} already")
    return found


async def _decide(work: Work, enrolment_id: str, status: EnrolmentStatus, decided_by: str) -> Enrolment:
    await enrolment_repository.decide(work.connection, enrolment_id, status, decided_by)
    return await enrolment_repository.get(work.connection, enrolment_id)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
