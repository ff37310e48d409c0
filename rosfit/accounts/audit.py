"""Who did what: append-only, each entry chained to the one before by a hash, so that a changed row shows."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from rosfit.accounts import repository
from rosfit.accounts.models import Actor, AuditEntry
from rosfit.kernel.clock import now
from rosfit.kernel.paging import Page, decode_cursor, page_of
from rosfit.kernel.work import Work

_GENESIS = b"\0" * 32


class Origin(msgspec.Struct, frozen=True):
    """Where a request came from."""

    address: str | None = None
    request_id: str | None = None


class Broken(msgspec.Struct, frozen=True):
    """The first entry that does not fit the chain."""

    id: int
    why: str


async def record(
    work: Work,
    actor: Actor | str,
    action: str,
    target: str,
    *,
    before: Any = None,
    after: Any = None,
    origin: Origin | None = None,
    result: str = "ok",
) -> None:
    """Append one entry in this work. `action` is like `device.update`; `before` and `after` hold no secrets."""
    # Held until the commit: entries are numbered and chained one after the other.
    await repository.lock_audit(work.connection)
    last_id, last_hash = await repository.last_audit(work.connection) or (0, _GENESIS)
    kept_before, kept_after = await repository.as_kept(work.connection, _plain(before), _plain(after))
    at = now()
    origin = origin or Origin()
    entry = {
        "id": last_id + 1,
        # All as the database keeps it (times to the microsecond): the hash is checked against what comes back.
        "at": at.isoformat(),
        "actor": actor if isinstance(actor, str) else actor.id,
        "action": action,
        "target": target,
        "before": kept_before,
        "after": kept_after,
        "address": origin.address,
        "request_id": origin.request_id,
        "result": result,
    }
    await repository.insert_audit(work.connection, entry, _hash(last_hash, entry))


def _plain(value: Any) -> Any:
    return None if value is None else msgspec.to_builtins(value)


def _hash(previous: bytes, entry: dict[str, Any]) -> bytes:
    return hashlib.sha256(previous + msgspec.json.encode(entry, order="deterministic")).digest()


async def find(work: Work, wanted: dict[str, str | None], cursor: str | None, limit: int) -> Page[AuditEntry]:
    """Newest first; `wanted` may name actor, action and target."""
    key = decode_cursor(cursor, tuple[int])
    rows = await repository.list_audit(work.connection, wanted, key[0] if key else None, limit + 1)
    return page_of(rows, limit, lambda entry: (entry.id,))


async def export(work: Work) -> AsyncIterator[bytes]:
    """Every entry, oldest first, one JSON object a line."""
    async for entry, _ in repository.all_audit(work.connection):
        yield msgspec.json.encode(entry) + b"\n"


async def verify(work: Work) -> tuple[int, Broken | None]:
    """How many entries fit the chain, and the first that does not."""
    previous, expected_id = _GENESIS, 1
    async for entry, stored in repository.all_audit(work.connection):
        if entry["id"] != expected_id:
            return expected_id - 1, Broken(expected_id, "the entry is missing")
        computed = _hash(previous, entry)
        if computed != stored:
            return expected_id - 1, Broken(expected_id, "the entry was changed")
        previous, expected_id = stored, expected_id + 1
    return expected_id - 1, None
