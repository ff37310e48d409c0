"""Incoming webhooks: who may send them, whether one is genuine, fresh and new, and what came."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from rosfit.accounts.models import Actor
from rosfit.accounts.repository import QUERIES
from rosfit.kernel.clock import WireTime, format_time, now, parse_time
from rosfit.kernel.errors import BadRequestError, ConflictError, NotFoundError, UnauthenticatedError
from rosfit.kernel.feed import Event
from rosfit.kernel.ids import new_id
from rosfit.kernel.paging import Page, decode_cursor, page_of
from rosfit.kernel.work import Work

BODY_LIMIT_BYTES = 64 * 1024
WINDOW = timedelta(minutes=5)
# After a rotation the sender has this long to change over.
OVERLAP_S = 86_400
SECRET_PREFIX = "rfh_"  # noqa: S105 - by it scanners of leaked secrets recognise one

_NOBODYS_SECRET = secrets.token_hex(32)
_SIGNATURE_PREFIX = "sha256="

SourceName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$(?!\n)")]


class NewSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: SourceName


class Source(msgspec.Struct, frozen=True):
    """`previous_until`: until when the secret from before the last rotation is taken, too."""

    source: str
    created_by: str | None
    created_at: WireTime
    previous_until: WireTime | None = None


class SourceSecret(msgspec.Struct, frozen=True):
    """`secret` signs deliveries; it is shown this once."""

    source: str
    secret: str


class Delivery(msgspec.Struct, frozen=True):
    delivery_id: str
    source: str
    sent_at: WireTime
    received_at: WireTime
    body: Any


class Accepted(msgspec.Struct, frozen=True):
    delivery_id: str


class SourceExistsError(ConflictError):
    code = "HOOK_SOURCE_EXISTS"
    title = "A webhook source with this name exists already"


class SourceNotFoundError(NotFoundError):
    code = "HOOK_SOURCE_NOT_FOUND"
    title = "There is no such webhook source"


class SignatureError(UnauthenticatedError):
    """Also for a source that does not exist, so that nobody learns which do."""

    code = "HOOK_SIGNATURE_INVALID"
    title = "The webhook's signature is not right"


class StaleError(UnauthenticatedError):
    code = "HOOK_STALE"
    title = "The webhook was not sent within the last five minutes"


class ReplayError(ConflictError):
    code = "HOOK_REPLAYED"
    title = "This webhook was taken already"


class HookBodyError(BadRequestError):
    code = "HOOK_BODY_INVALID"
    title = "The webhook's body is not JSON that can be kept"


def sign(secret: str, timestamp: str, body: bytes) -> bytes:
    """HMAC-SHA256 over `timestamp + "." + body`."""
    signed = timestamp.encode("latin-1", "replace") + b"." + body
    return hmac.digest(secret.encode(), signed, hashlib.sha256)


async def take(work: Work, source: str, timestamp: str, signature: str, body: bytes) -> Accepted:
    """Keep and announce a delivery. `timestamp` and `signature` are the headers' text.

    Raises SignatureError, StaleError, HookBodyError or ReplayError.
    """
    given = await _check_signature(work, source, timestamp, signature, body)
    sent_at = _check_fresh(timestamp)
    _check_json(body)
    delivery_id = new_id("dlv")
    row = {"delivery_id": delivery_id, "source": source, "signature": given, "sent_at": sent_at, "body": body.decode()}
    try:
        kept = await work.connection.execute(QUERIES["insert_delivery"], row)
    except psycopg.DataError as error:
        raise HookBodyError(f"PostgreSQL cannot keep it: {error.diag.message_primary}") from error
    if await kept.fetchone() is None:
        raise ReplayError("Sign again with a new timestamp if it is meant twice")
    data = msgspec.json.encode({"delivery_id": delivery_id, "source": source, "body": msgspec.Raw(body)})
    work.announce(Event("hooks", source, delivery_id, data, format_time(now())))
    return Accepted(delivery_id)


async def _check_signature(work: Work, source: str, timestamp: str, signature: str, body: bytes) -> bytes:
    """The signature's bytes. As much work for a source that does not exist as for one that does."""
    row = await (await work.connection.execute(QUERIES["hook_secrets"], {"source": source})).fetchone()
    known = [secret or _NOBODYS_SECRET for secret in (row or (None, None))]
    given = _signature_bytes(signature)
    fits = [hmac.compare_digest(sign(secret, timestamp, body), given) for secret in known]
    if row is None or not any(fits):
        raise SignatureError(
            "Send X-RosFit-Timestamp and X-RosFit-Signature: sha256=HEX, the HMAC-SHA256 of timestamp, a dot and body "
            "with the source's secret"
        )
    return given


def _signature_bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text.strip().removeprefix(_SIGNATURE_PREFIX))
    except ValueError:
        return b""


def _check_fresh(timestamp: str) -> datetime:
    """When it was sent: Unix seconds or milliseconds, or RFC 3339."""
    try:
        sent_at = parse_time(float(timestamp) if timestamp.replace(".", "", 1).isdigit() else timestamp)
    except ValueError as error:
        raise StaleError(f"X-RosFit-Timestamp: {error}") from error
    if abs(now() - sent_at) > WINDOW:
        raise StaleError(f"It was signed at {format_time(sent_at)}; the server's clock says {format_time(now())}")
    return sent_at


def _check_json(body: bytes) -> None:
    try:
        msgspec.json.decode(body)
        body.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HookBodyError(f"Send JSON: {error}") from error


def _new_secret() -> str:
    return SECRET_PREFIX + secrets.token_urlsafe(32)


async def add_source(work: Work, new: NewSource, actor: Actor) -> SourceSecret:
    """Raises SourceExistsError."""
    secret = _new_secret()
    row = {"source": new.source, "secret": secret, "created_by": actor.id}
    if await (await work.connection.execute(QUERIES["insert_hook_source"], row)).fetchone() is None:
        raise SourceExistsError(f"{new.source} is taken; choose another name, or rotate its secret")
    return SourceSecret(new.source, secret)


async def rotate_secret(work: Work, source: str) -> SourceSecret:
    """A new secret; the old one is taken for another day. Raises SourceNotFoundError."""
    secret = _new_secret()
    row = {"source": source, "secret": secret, "overlap_s": OVERLAP_S}
    if await (await work.connection.execute(QUERIES["rotate_hook_secret"], row)).fetchone() is None:
        raise _not_found(source)
    return SourceSecret(source, secret)


async def remove_source(work: Work, source: str) -> None:
    """And everything it has sent. Raises SourceNotFoundError."""
    found = await work.connection.execute(QUERIES["delete_hook_source"], {"source": source})
    if await found.fetchone() is None:
        raise _not_found(source)


async def list_sources(work: Work, cursor: str | None, limit: int) -> Page[Source]:
    key = decode_cursor(cursor, tuple[str])
    rows = await _rows(work, "list_hook_sources", Source, after=key[0] if key else None, limit=limit + 1)
    return page_of(rows, limit, lambda row: (row.source,))


async def deliveries(work: Work, source: str, cursor: str | None, limit: int) -> Page[Delivery]:
    """What a source has sent, newest first. Raises SourceNotFoundError."""
    if await (await work.connection.execute(QUERIES["hook_secrets"], {"source": source})).fetchone() is None:
        raise _not_found(source)
    key = decode_cursor(cursor, tuple[str])
    before = key[0] if key else None
    rows = await _rows(work, "list_deliveries", Delivery, source=source, before=before, limit=limit + 1)
    return page_of(rows, limit, lambda row: (row.delivery_id,))


async def trim(work: Work) -> None:
    """Old deliveries; never one whose timestamp would still be taken, or it could be replayed."""
    await work.connection.execute(QUERIES["trim_deliveries"])


def _not_found(source: str) -> SourceNotFoundError:
    return SourceNotFoundError(f"No webhook source is called {source[:64]!r}")


async def _rows(work: Work, query: str, kind: type[Any], **values: Any) -> list[Any]:
    cursor = work.connection.cursor(row_factory=dict_row)
    return [msgspec.convert(row, kind) for row in await (await cursor.execute(QUERIES[query], values)).fetchall()]
