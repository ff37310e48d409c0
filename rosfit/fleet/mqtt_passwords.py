"""Hashes of MQTT passwords in Mosquitto's `$7$` form: PBKDF2 with SHA-512."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

# What mosquitto_passwd uses. Passwords here are random and long, so more rounds would only slow every connect.
ITERATIONS = 101
_SALT_BYTES = 12  # Mosquitto refuses any other length.


def hash_password(password: str) -> str:
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"$7${ITERATIONS}${_base64(salt)}${_base64(_digest(password, salt, ITERATIONS))}"


def fits(hashed: str, password: str) -> bool:
    """Whether `password` is the one of `hashed`; takes the same time either way."""
    _, _, rounds, salt, digest = hashed.split("$")
    found = _digest(password, base64.b64decode(salt), int(rounds))
    return hmac.compare_digest(found, base64.b64decode(digest))


def _digest(password: str, salt: bytes, rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
