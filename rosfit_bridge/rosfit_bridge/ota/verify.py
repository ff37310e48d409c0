"""Whether the bytes are those that were promised, and signed by somebody this robot trusts."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from pathlib import Path

from rosfit_bridge.ota.errors import RejectedError, UpdateError
from rosfit_bridge.ota.trigger import Artifact

BLOCK = 1 << 20


class CorruptError(UpdateError):
    """The bytes are not those that were promised; another download may bring them."""


def check_bytes(file: Path, artifact: Artifact) -> None:
    """Size and SHA-256. Raises CorruptError."""
    size = file.stat().st_size
    if size != artifact.size:
        raise CorruptError("WRONG_SIZE", f"{size} bytes arrived instead of {artifact.size}")
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while block := source.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != artifact.sha256:
        raise CorruptError("WRONG_HASH", f"SHA-256 is {digest.hexdigest()} instead of {artifact.sha256}")


def check_signature(artifact: Artifact, keys: Iterable[Path]) -> None:
    """Ed25519 over the 32 bytes of the SHA-256. Raises RejectedError."""
    if artifact.signature is None:
        return None
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        signature = base64.b64decode(artifact.signature, validate=True)
    except binascii.Error as error:
        raise RejectedError("BAD_SIGNATURE", "the signature is not base64") from error
    signed = bytes.fromhex(artifact.sha256)
    for key in keys:
        public = public_key(key)
        assert isinstance(public, Ed25519PublicKey)
        try:
            return public.verify(signature, signed)
        except InvalidSignature:
            continue
    raise RejectedError("BAD_SIGNATURE", f"none of ota.public_keys made the signature (its key is {artifact.key_id})")


def public_key(path: Path) -> object:
    """Raises RejectedError when the file holds no Ed25519 public key in PEM form."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RejectedError("BAD_KEY", f"{path} cannot be used as a public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise RejectedError("BAD_KEY", f"{path} is not an Ed25519 public key")
    return key
