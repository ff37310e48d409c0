"""The keys that sign updates, and those of others whose signatures are taken."""

from __future__ import annotations

from typing import Annotated

import msgspec

from rosfit.kernel.work import Work
from rosfit.ota import artifact_rows, signing
from rosfit.ota.errors import SignatureInvalidError, UpdateKeyInUseError, UpdateKeyNotFoundError
from rosfit.ota.models import NewArtifact, UpdateKey

KeyName = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]


class TrustedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`public_key` is an Ed25519 key: PEM, or base64 of its 32 bytes."""

    name: KeyName
    public_key: Annotated[str, msgspec.Meta(max_length=1000)]


async def listing(work: Work) -> list[UpdateKey]:
    """Newest first; the first that signs is RosFit's own."""
    await _own_key(work)
    return await artifact_rows.list_keys(work.connection)


async def rotate(work: Work, created_by: str) -> UpdateKey:
    """Sign with a new key from now on. What the old one has signed keeps its signature."""
    await artifact_rows.lock_keys(work.connection)
    await artifact_rows.retire_own_keys(work.connection)
    key_id = await _make(work, created_by)
    return await _get(work, key_id)


async def trust(work: Work, new: TrustedKey, created_by: str) -> UpdateKey:
    """Take signatures made with this key. Again is no change but of the name."""
    public = signing.read_public_key(new.public_key)
    key_id = signing.key_id_of(public)
    await artifact_rows.insert_key(work.connection, key_id, new.name, public, None, created_by)
    return await _get(work, key_id)


async def retire(work: Work, key_id: str) -> UpdateKey:
    """Take no new artifacts signed with it. RosFit's own key that signs is changed by `rotate`."""
    if (await _get(work, key_id)).signs:
        raise UpdateKeyInUseError(f"{key_id} signs updates; POST /api/v1/ota/keys/rotate makes another one")
    await artifact_rows.retire_key(work.connection, key_id)
    return await _get(work, key_id)


async def signed(work: Work, new: NewArtifact, sha256: str) -> NewArtifact:
    """With RosFit's signature, or with the one that was brought along. Raises SignatureInvalidError."""
    if new.signature is None:
        key_id, private = await _own_key(work)
        return msgspec.structs.replace(new, signature=signing.sign(private, sha256), key_id=key_id)
    public = await artifact_rows.verifying_key(work.connection, new.key_id or "")
    if public is None:
        raise SignatureInvalidError(f"No trusted key {new.key_id!r}: POST its public key to /api/v1/ota/keys first")
    if not signing.is_signed(public, sha256, new.signature):
        raise SignatureInvalidError(f"The key {new.key_id} has not signed the SHA-256 of this file ({sha256})")
    return new


async def _own_key(work: Work) -> tuple[str, bytes]:
    """The key that signs; made when it is first needed."""
    if (found := await artifact_rows.signing_key(work.connection)) is None:
        await artifact_rows.lock_keys(work.connection)
        if (found := await artifact_rows.signing_key(work.connection)) is None:
            await _make(work, "rosfit")
            found = await artifact_rows.signing_key(work.connection)
    assert found is not None, "it was just made"
    return found


async def _make(work: Work, created_by: str) -> str:
    pair = signing.new_key()
    await artifact_rows.insert_key(work.connection, pair.key_id, "RosFit", pair.public, pair.private, created_by)
    return pair.key_id


async def _get(work: Work, key_id: str) -> UpdateKey:
    found = next((one for one in await artifact_rows.list_keys(work.connection) if one.key_id == key_id), None)
    if found is None:
        raise UpdateKeyNotFoundError(f"There is no update key {key_id[:64]!r}")
    return found
