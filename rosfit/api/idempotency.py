"""`Idempotency-Key`: the same request twice has one effect and gets the first answer again.

The key's row is written in the transaction of the request itself, so a second request waits for the first on the
row's lock, and a request that failed leaves nothing behind. The kept answer may hold a secret that is shown once;
it is therefore encrypted with the key, of which only a hash is kept.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from cryptography.fernet import Fernet
from litestar import Request, Response

from rosfit.api.responses import WireResponse
from rosfit.kernel.errors import BadRequestError, InvalidError
from rosfit.kernel.work import Work

HEADER = "idempotency-key"


class KeyReusedError(InvalidError):
    code = "IDEMPOTENCY_KEY_REUSED"
    title = "This Idempotency-Key was used with another request"


class KeyInvalidError(BadRequestError):
    code = "IDEMPOTENCY_KEY_INVALID"
    title = "The Idempotency-Key is not valid"


_CLAIM = """
INSERT INTO idempotency_keys (actor, key, fingerprint) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING RETURNING true
"""
_KEPT = "SELECT fingerprint, status, body FROM idempotency_keys WHERE actor = %s AND key = %s"
_KEEP = "UPDATE idempotency_keys SET status = %s, body = %s WHERE actor = %s AND key = %s"


async def once(
    work: Work,
    request: Request[Any, Any, Any],
    actor_id: str,
    status: int,
    create: Callable[[], Awaitable[Any]],
    *,
    streamed: bytes | None = None,
) -> Response[Any]:
    """`create()` and its answer; or the answer that the same key got before.

    `streamed` stands for a body that is gone once it has been read.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return WireResponse(await create(), status_code=status)
    if not 1 <= len(key) <= 255:
        raise KeyInvalidError("An Idempotency-Key has 1 to 255 characters")
    kept_key = hashlib.sha256(key.encode()).hexdigest()
    safe = Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"answer" + key.encode()).digest()))
    fingerprint = _fingerprint(request, await request.body() if streamed is None else streamed)
    claim = await work.connection.execute(_CLAIM, [actor_id, kept_key, fingerprint])
    if await claim.fetchone() is None:
        return await _kept(work, actor_id, kept_key, fingerprint, safe)
    answer = await create()
    body = safe.encrypt(msgspec.json.encode(answer))
    await work.connection.execute(_KEEP, [status, body, actor_id, kept_key])
    return WireResponse(answer, status_code=status)


def _fingerprint(request: Request[Any, Any, Any], body: bytes) -> bytes:
    return hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + body).digest()


async def _kept(work: Work, actor_id: str, key: str, fingerprint: bytes, safe: Fernet) -> Response[Any]:
    row = await (await work.connection.execute(_KEPT, [actor_id, key])).fetchone()
    if row is None or bytes(row[0]) != fingerprint:
        raise KeyReusedError("Use a new key for a new request, or send the same body again")
    return WireResponse(msgspec.Raw(safe.decrypt(bytes(row[2]))), status_code=row[1])
