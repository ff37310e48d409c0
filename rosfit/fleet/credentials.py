"""MQTT credentials of devices: issue, rotate, list, revoke, and who is behind a user name and password."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

import msgspec

from rosfit.fleet import repository
from rosfit.fleet.errors import CredentialNotFoundError, DeviceDecommissionedError, DeviceNotFoundError
from rosfit.fleet.models import Credential, CredentialInfo, CredentialKind, LiveCredential
from rosfit.kernel.clock import now
from rosfit.kernel.ids import is_device_id, new_id
from rosfit.kernel.work import Work
from rosfit.protocol.access import ALL_SCOPES, Scope

DEFAULT_TTL = timedelta(hours=8766)
DEFAULT_OVERLAP = timedelta(hours=24)

Hash = Callable[[str], str]
# (device_id, credential_id, scopes, expiry) → a signed token that says so
SignToken = Callable[[str, str, list[str], datetime | None], str]
# A token → (device_id, credential_id), or None for anything forged or run out
ReadToken = Callable[[str], tuple[str, str] | None]


class Wanted(msgspec.Struct, frozen=True):
    """`overlap` is how long the older credentials live on; None ends only the one with the device's own name."""

    kind: CredentialKind = "password"
    scopes: Collection[Scope] = ALL_SCOPES
    ttl: timedelta | None = DEFAULT_TTL
    overlap: timedelta | None = None


async def issue(
    work: Work, device_id: str, wanted: Wanted, hash_token: Hash, sign: SignToken | None = None
) -> Credential:
    """A user name and password for this device alone. The caller then syncs the broker's accounts."""
    await lock_usable(work, device_id)
    username = await _make_room(work, device_id, wanted)
    credential_id = new_id("crd")
    expires_at = now() + wanted.ttl if wanted.ttl else None
    scopes: list[str] = sorted(set(wanted.scopes))
    if wanted.kind == "jwt" and sign is not None:
        token = sign(device_id, credential_id, scopes, expires_at)
    else:
        token = f"rfd_{secrets.token_urlsafe(32)}"
    wire_expiry = await repository.insert_credential(
        work.connection, credential_id, device_id, username, wanted.kind, hash_token(token), scopes, expires_at
    )
    return Credential(device_id, username, token, scopes, wire_expiry, credential_id, wanted.kind)


async def lock_usable(work: Work, device_id: str) -> None:
    locked = await repository.lock_device(work.connection, device_id)
    if locked is None:
        raise DeviceNotFoundError(f"No device {device_id[:64]!r} is registered")
    if locked[0] == "decommissioned":
        raise DeviceDecommissionedError(f"{device_id} gets no new credential")


async def _make_room(work: Work, device_id: str, wanted: Wanted) -> str:
    """The user name of the next credential. The device's own always has every scope."""
    limited = set(wanted.scopes) != set(ALL_SCOPES)
    if wanted.overlap == timedelta(0):
        await repository.revoke_credentials(work.connection, device_id)
    elif wanted.overlap is not None:
        await repository.end_credentials(work.connection, device_id, now() + wanted.overlap)
    elif not limited:
        await repository.revoke_username(work.connection, device_id)
    taken = {one.username for one in await repository.live_credentials(work.connection, device_id)}
    return free_username(device_id, taken | {device_id} if limited else taken)


def free_username(device_id: str, taken: Collection[str]) -> str:
    """The device's id, else `{device_id}.2` and so on; a dot cannot stand in a device id."""
    names = (device_id, *(f"{device_id}.{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def device_of(username: str) -> str:
    """The device that a user name belongs to."""
    return username.partition(".")[0]


async def list_for(work: Work, device_id: str) -> list[CredentialInfo]:
    """Newest first, also those that ended."""
    return await repository.list_credentials(work.connection, device_id)


async def revoke(work: Work, device_id: str, credential_id: str) -> None:
    """At once. Raises CredentialNotFoundError."""
    if not await repository.revoke_credential(work.connection, device_id, credential_id):
        raise CredentialNotFoundError(f"{device_id} has no credential {credential_id[:64]!r} that is in use")


async def who(
    work: Work, username: str, password: str, fits: Callable[[str, str], bool], read: ReadToken
) -> LiveCredential | None:
    """The live credential behind an MQTT user name and password, or None."""
    device_id = device_of(username)
    if not is_device_id(device_id):
        return None
    live = [one for one in await repository.live_credentials(work.connection, device_id) if one.answers_to(username)]
    token = read(password)
    return next((one for one in live if _opens(one, password, token, fits)), None)


def _opens(
    one: LiveCredential, password: str, token: tuple[str, str] | None, fits: Callable[[str, str], bool]
) -> bool:
    if one.kind == "jwt":
        return token == (one.device_id, one.id)
    return fits(one.broker_hash, password)


async def scopes_of(work: Work, username: str) -> frozenset[Scope]:
    """What a user name may do: its live credential's scopes; all with a certificate; nothing otherwise."""
    device_id = device_of(username)
    if not is_device_id(device_id):
        return frozenset()
    live = await repository.live_credentials(work.connection, device_id)
    if username == device_id and await repository.certified_devices(work.connection, device_id):
        return frozenset(ALL_SCOPES)
    return frozenset(scope for one in live if one.answers_to(username) for scope in one.scopes)
