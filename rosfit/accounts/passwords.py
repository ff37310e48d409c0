"""Argon2id, off the event loop: one hash is some tens of milliseconds of CPU by design."""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_hasher = PasswordHasher()

# Verified when there is no such user, so that the answer takes as long as for one who exists. It is the hash of a
# random text nobody knows, made with the parameters of `_hasher` (a test compares them); making one takes 0.1 s.
NOBODY = (
    "$argon2id$v=19$m=65536,t=3,p=4$nYU++Y4A2mCdz4awm73gCw$"
    "jw2Y3VKEcBGd3ujp0AfRen/mvMtiEcIJC+pN7li+MB4"
)


async def hash_password(password: str) -> str:
    return await asyncio.to_thread(_hasher.hash, password)


async def verify_password(password_hash: str | None, password: str) -> bool:
    """Whether the password fits; always false, and as slow, without a hash."""
    fits = await asyncio.to_thread(_verify, password_hash or NOBODY, password)
    return fits and password_hash is not None


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
