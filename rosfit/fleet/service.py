"""What can be done with devices. Callers own the unit of work."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from rosfit.fleet import credentials, groups, presence, query, repository
from rosfit.fleet.errors import (
    DeviceDecommissionedError,
    DeviceExistsError,
    DeviceNotFoundError,
    StatusTransitionError,
    TypeImmutableError,
    UnstorableError,
)
from rosfit.fleet.models import (
    EVERYWHERE,
    Admitted,
    Credential,
    Device,
    DeviceChange,
    DeviceFilter,
    NewDevice,
    Reach,
    StatusChange,
)
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import FieldError, InvalidError
from rosfit.kernel.feed import Event
from rosfit.kernel.ids import is_device_id
from rosfit.kernel.paging import Page, decode_cursor, page_of
from rosfit.kernel.work import Work
from rosfit.protocol.access import Scope

# Every list of devices shows it.
METADATA_LIMIT_BYTES = 64 * 1024

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class BrokerAccess(Protocol):
    """The accounts of the broker that RosFit manages."""

    async def sync(self, read: Callable[[], Awaitable[Admitted]]) -> None:
        """Let in exactly the devices that `read` names, others are disconnected; return when the broker knows.

        One at a time, so that what was read first is never written last.
        """
        ...


async def register(work: Work, new: NewDevice) -> Device:
    """Raises DeviceExistsError."""
    _check_metadata(new.metadata)
    device_id = new.device_id or made_up_id(new.type)
    if not await repository.insert_device(work.connection, device_id, new):
        raise exists(device_id)
    return await get(work, device_id)


def made_up_id(device_type: str) -> str:
    return f"{device_type.replace('_', '-')}-{secrets.token_hex(4)}"


def exists(device_id: str) -> DeviceExistsError:
    return DeviceExistsError(f"{device_id!r} is registered already; choose another device_id")


def _check_metadata(value: object) -> None:
    encoded = msgspec.json.encode(value)
    if len(encoded) > METADATA_LIMIT_BYTES:
        told = f"takes {len(encoded)} bytes as JSON; at most {METADATA_LIMIT_BYTES}"
        raise InvalidError("Keep large documents elsewhere", errors=(FieldError("metadata", told),))
    # PostgreSQL's text and jsonb cannot hold U+0000. A backslash that is itself escaped begins nothing.
    if _NUL.search(encoded):
        raise UnstorableError(errors=(FieldError("metadata", "must not contain the character U+0000"),))


async def get(work: Work, device_id: str, reach: Reach = EVERYWHERE) -> Device:
    """Raises DeviceNotFoundError, also for one out of reach."""
    where = query.all_of([await groups.visible(work, reach), query.id_condition(device_id)])
    found = await groups.with_groups(work, await repository.list_devices(work.connection, where, None, 1))
    if not found:
        raise not_found(device_id)
    return found[0]


async def check_reach(work: Work, device_id: str, reach: Reach) -> None:
    """Raises DeviceNotFoundError when there is no such device within reach."""
    if not is_device_id(device_id):
        raise not_found(device_id)
    if reach.is_everything:
        known = bool(await repository.statuses(work.connection, [device_id]))
    else:
        where = query.all_of([await groups.visible(work, reach), query.id_condition(device_id)])
        known = bool(await repository.device_ids(work.connection, where))
    if not known:
        raise not_found(device_id)


async def within_reach(work: Work, reach: Reach) -> frozenset[str] | None:
    """The ids of the devices in reach, or None for all."""
    if reach.is_everything:
        return None
    return frozenset(await repository.device_ids(work.connection, await groups.visible(work, reach)))


def not_found(device_id: str) -> DeviceNotFoundError:
    return DeviceNotFoundError(f"No device {device_id[:64]!r} is registered")


async def find(
    work: Work, wanted: DeviceFilter, cursor: str | None, limit: int, reach: Reach = EVERYWHERE
) -> Page[Device]:
    """Devices by id."""
    key = decode_cursor(cursor, tuple[str])
    where = await groups.where(work, wanted, reach)
    rows = await repository.list_devices(work.connection, where, key[0] if key else None, limit + 1)
    page = page_of(rows, limit, lambda device: (device.device_id,))
    return Page(await groups.with_groups(work, page.items), page.next_cursor)


async def counts(work: Work, wanted: DeviceFilter, reach: Reach = EVERYWHERE) -> dict[str, int]:
    """How many devices are in each status; the filter's own status does not count."""
    where = await groups.where(work, wanted, reach, with_status=False)
    return await repository.count_by_status(work.connection, where)


async def change(work: Work, device_id: str, wanted: DeviceChange) -> Device:
    """Change what an operator may: name, tags, metadata, and maintenance on or off."""
    locked = await repository.lock_device(work.connection, device_id)
    if locked is None:
        raise not_found(device_id)
    status, device_type = locked
    if status == "decommissioned":
        raise DeviceDecommissionedError(f"{device_id} cannot be changed any more")
    if wanted.type is not msgspec.UNSET and wanted.type != device_type:
        raise TypeImmutableError(f"{device_id} is a {device_type}; register another device for another type")
    if wanted.metadata is not msgspec.UNSET:
        _check_metadata(wanted.metadata)
    await repository.update_device(work.connection, device_id, wanted)
    if wanted.status is not msgspec.UNSET and wanted.status != status:
        await _set_status(work, device_id, status, wanted.status)
    return await get(work, device_id)


async def _set_status(work: Work, device_id: str, status: str, wanted: str) -> None:
    allowed = presence.MAY_BECOME[status]
    if wanted not in allowed:
        raise StatusTransitionError(
            f"{device_id} is {status} and may become {', '.join(sorted(allowed))}, not {wanted}"
        )
    if wanted == "decommissioned":
        await decommission(work, device_id)
    else:
        await apply_changes(work, [(device_id, status, wanted, "operator")])


async def decommission(work: Work, device_id: str) -> None:
    """Final: credentials are revoked. Doing it again changes nothing."""
    locked = await repository.lock_device(work.connection, device_id)
    if locked is None:
        raise not_found(device_id)
    if locked[0] != "decommissioned":
        await apply_changes(work, [(device_id, locked[0], "decommissioned", "operator")])
        await repository.revoke_credentials(work.connection, device_id)
        await repository.revoke_certificates(work.connection, device_id)


async def apply_changes(work: Work, changes: Sequence[tuple[str, str, str, str | None]]) -> list[StatusChange]:
    """Write (device_id, previous, status, reason) transitions and announce those that took place."""
    done = await repository.change_status(work.connection, changes)
    for changed in done:
        work.announce(status_event(changed))
    return done


def status_event(changed: StatusChange) -> Event:
    return Event("status", changed.device_id, changed.status, msgspec.json.encode(changed), format_time(now()))


async def mark_silent(work: Work, heard_before: datetime) -> list[StatusChange]:
    """Devices that were last heard before that go offline."""
    silent = await repository.silent_devices(work.connection, heard_before)
    changes = [
        (device_id, status, after.status, after.reason)
        for device_id, status in silent
        if (after := presence.after_silence(status))
    ]
    return await apply_changes(work, changes) if changes else []


async def issue_credential(
    work: Work,
    hash_token: credentials.Hash,
    device_id: str,
    scopes: Iterable[Scope],
    ttl: timedelta | None,
) -> Credential:
    """A password under the device's own name, in place of the one before it. The caller then syncs the broker."""
    return await credentials.issue(work, device_id, credentials.Wanted(scopes=list(scopes), ttl=ttl), hash_token)


async def next_expiry(work: Work) -> datetime | None:
    """When the next credential runs out."""
    return await repository.next_expiry(work.connection)


async def sync_broker(work: Work, access: BrokerAccess) -> None:
    """Make the broker know exactly the devices that hold a valid credential or certificate."""

    async def read() -> Admitted:
        return Admitted(
            await repository.live_credentials(work.connection),
            await repository.certified_devices(work.connection),
            await repository.revoked_certificates(work.connection),
        )

    await access.sync(read)
