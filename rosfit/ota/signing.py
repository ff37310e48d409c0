"""Ed25519 signatures of artifacts: over the 32 bytes of the file's SHA-256, so that nobody reads the file twice."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from rosfit.kernel.errors import FieldError, InvalidError

KEY_BYTES = 32


class KeyPair(NamedTuple):
    """Raw bytes; `private` is the seed."""

    key_id: str
    public: bytes
    private: bytes


def new_key() -> KeyPair:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    return KeyPair(key_id_of(public), public, private.private_bytes_raw())


def key_id_of(public: bytes) -> str:
    """The first 16 hexadecimal digits of the public key's SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def read_public_key(text: str) -> bytes:
    """From PEM or from base64 of the 32 bytes. Raises InvalidError."""
    try:
        if "BEGIN PUBLIC KEY" in text:
            key = load_pem_public_key(text.encode())
            if isinstance(key, Ed25519PublicKey):
                return key.public_bytes_raw()
        else:
            raw = base64.b64decode(text, validate=True)
            if len(raw) == KEY_BYTES:
                return raw
    except (ValueError, binascii.Error):
        pass  # said below, with what is expected
    raise InvalidError(errors=(FieldError("public_key", "an Ed25519 public key: PEM, or base64 of its 32 bytes"),))


def sign(private: bytes, sha256: str) -> str:
    """Base64 of the 64 bytes."""
    signature = Ed25519PrivateKey.from_private_bytes(private).sign(bytes.fromhex(sha256))
    return base64.b64encode(signature).decode()


def is_signed(public: bytes, sha256: str, signature: str) -> bool:
    try:
        raw = base64.b64decode(signature, validate=True)
        Ed25519PublicKey.from_public_bytes(public).verify(raw, bytes.fromhex(sha256))
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True


def link_token(secret: bytes, device_id: str, expires: int) -> str:
    """What lets one device download until `expires` (Unix seconds)."""
    return hmac.new(secret, f"{device_id}\n{expires}".encode(), hashlib.sha256).hexdigest()


def is_link_token(secret: bytes, device_id: str, expires: int, token: str) -> bool:
    return hmac.compare_digest(link_token(secret, device_id, expires), token)
