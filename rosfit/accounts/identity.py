"""Who is behind a Bearer token: a person's access token, an API key, or a key's access token.

Rights come from the database and not from the token, so that a demotion or a revocation counts: at once on the server
that made it, within two seconds on every other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec

from rosfit.accounts import repository
from rosfit.accounts.errors import TokenInvalidError
from rosfit.accounts.models import Actor
from rosfit.accounts.tokens import KEY_PREFIX, Signer, secret_hash
from rosfit.kernel.feed import Event
from rosfit.kernel.work import Work

# How long a look-up serves: at 100 requests/s of a credential it saves 199 of 200 queries.
FRESH_S = 2.0
CACHE_LIMIT = 10_000


class _Known(msgspec.Struct, frozen=True):
    actor: Actor
    valid_from: float
    until: float


# An API key's secret, hashed; or whom a token speaks of, with its family.
Subject = bytes | tuple[str, str | None]


class Identities:
    def __init__(self, open_work: Callable[[], AbstractAsyncContextManager[Work]], signer: Signer) -> None:
        self._open_work = open_work
        self._signer = signer
        self._known: dict[Subject, _Known] = {}

    def forget(self, _: Event) -> None:
        """Somebody's rights changed. That is rare, so that all are looked up again."""
        self._known.clear()

    async def identify(self, token: str) -> Actor:
        """Raises TokenExpiredError or TokenInvalidError."""
        if token.startswith(KEY_PREFIX):
            return (await self._look_up(secret_hash(token))).actor
        claims = self._signer.verify(token)
        known = await self._look_up((claims.subject, claims.family))
        if claims.issued_at < known.valid_from:
            raise TokenInvalidError("The token was revoked; sign in again")
        expires_at = min(claims.expires_at, known.actor.expires_at or claims.expires_at)
        return msgspec.structs.replace(known.actor, expires_at=expires_at)

    async def _look_up(self, key: Subject) -> _Known:
        known = self._known.get(key)
        at = time.monotonic()
        if known is not None and at < known.until:
            return known
        async with self._open_work() as work:
            found = await _find(work, key)
        if found is None:
            self._known.pop(key, None)
            raise TokenInvalidError("The credential is not known, or was revoked; ask for a new one")
        if len(self._known) >= CACHE_LIMIT:
            self._known.clear()
        self._known[key] = known = _Known(*found, at + FRESH_S)
        return known


async def _find(work: Work, key: Subject) -> tuple[Actor, float] | None:
    if isinstance(key, bytes):
        actor = await repository.key_actor(work.connection, secret_hash=key)
    elif key[0].startswith("key_"):
        actor = await repository.key_actor(work.connection, key_id=key[0])
    else:
        return await repository.user_actor(work.connection, *key)
    if actor is None:
        return None
    await repository.note_key_use(work.connection, actor.id)
    return actor, 0.0
