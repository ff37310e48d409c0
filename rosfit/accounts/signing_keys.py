"""The keys that sign access tokens: which are in use, and how to change to a new one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from psycopg.rows import dict_row

from rosfit.accounts import repository, tokens
from rosfit.accounts.repository import QUERIES
from rosfit.accounts.throttle import OpenWork
from rosfit.accounts.tokens import ACCESS_TTL_S, Signer
from rosfit.kernel.clock import WireTime
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.work import Work

# What the trigger on signing_keys notifies; and how often they are looked at for having run out.
CHANGED = "rosfit_signing_keys"
LOOK_EVERY_S = 30.0

# An old key outlives its last token by this: a server signs with it until it has heard of the new one.
MARGIN_S = 120


class SigningKey(msgspec.Struct, frozen=True):
    """`verifies_until` is null for the key that signs."""

    id: str
    created_at: WireTime
    verifies_until: WireTime | None


async def live_keys(work: Work) -> list[SigningKey]:
    """The key that signs, and then those whose tokens have not run out."""
    cursor = work.connection.cursor(row_factory=dict_row)
    rows = await (await cursor.execute(QUERIES["list_signing_keys"])).fetchall()
    return [msgspec.convert(row, SigningKey) for row in rows]


async def rotate(work: Work, *, at_once: bool = False) -> SigningKey:
    """Sign with a new key from now on. `at_once` refuses the old ones' tokens, too: for a key that was stolen."""
    await repository.lock_signing_keys(work.connection)
    overlap_s = 0 if at_once else ACCESS_TTL_S + MARGIN_S
    await work.connection.execute(QUERIES["retire_signing_keys"], {"overlap_s": overlap_s})
    key_id, jwk = tokens.new_signing_key()
    await repository.insert_signing_key(work.connection, key_id, jwk)
    return (await live_keys(work))[0]


async def follow(signer: Signer, open_work: OpenWork, changes: AsyncIterator[None]) -> None:
    """Keep the signer on the keys that are in use, whoever changes them."""
    async for _ in changes:
        try:
            async with open_work() as work:
                keys = await repository.signing_keys(work.connection)
        except UnavailableError:
            continue  # the next change, or look, comes
        if keys:
            signer.use([jwk for _, jwk in keys])
