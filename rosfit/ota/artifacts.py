"""Artifacts: taken as a stream, kept for ever as they are, and swept up where an upload broke."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rosfit.kernel.ids import new_id
from rosfit.kernel.paging import Page, decode_cursor, page_of
from rosfit.kernel.ports import ObjectStore, Upload
from rosfit.kernel.work import OpenWork, Work
from rosfit.ota import artifact_rows, keys
from rosfit.ota.errors import (
    ArtifactExistsError,
    ArtifactInUseError,
    ArtifactNotFoundError,
    SignatureInvalidError,
    UploadBrokenError,
)
from rosfit.ota.models import Artifact, NewArtifact, Stored

# An upload that takes longer than this is taken for broken.
UPLOAD_LIMIT_S = 86_400.0


class Incoming:
    """An upload on its way into the store: hashed as it passes, and discarded later unless it is claimed."""

    def __init__(self, upload: Upload, object_key: str) -> None:
        self._upload = upload
        self._object_key = object_key
        self._hash = hashlib.sha256()
        self.size = 0

    @classmethod
    async def begin(cls, open_work: OpenWork, objects: ObjectStore) -> Incoming:
        object_key = f"artifacts/{new_id('obj')}"
        async with open_work() as work:
            await artifact_rows.note_unclaimed(work.connection, object_key, UPLOAD_LIMIT_S)
        return cls(await objects.begin(object_key), object_key)

    async def write(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        await self._upload.write(data)

    async def finish(self, file_name: str) -> Stored:
        """The bytes are safe in the store when this returns."""
        if self.size == 0:
            raise UploadBrokenError("The file is empty")
        await self._upload.commit()
        return Stored(self._object_key, self.size, self._hash.hexdigest(), file_name)

    async def discard(self, open_work: OpenWork) -> None:
        """Keep nothing of it: what cannot be removed now goes with the next sweep."""
        await self._upload.discard()
        async with open_work() as work:
            await artifact_rows.note_unclaimed(work.connection, self._object_key, 0)


@asynccontextmanager
async def swept_if_refused(open_work: OpenWork, stored: Stored) -> AsyncIterator[None]:
    """Around `create` and its commit: the bytes of what is refused go with the next sweep.

    After any other error they may have become an artifact, and wait for their day.
    """
    try:
        yield
    except (ArtifactExistsError, SignatureInvalidError):
        async with open_work() as work:
            await artifact_rows.note_unclaimed(work.connection, stored.object_key, 0)
        raise


async def create(work: Work, new: NewArtifact, stored: Stored, created_by: str) -> tuple[Artifact, bool]:
    """The artifact, and whether it is new: the same name, version and bytes again is the one that is there.

    Raises ArtifactExistsError for other bytes, SignatureInvalidError.
    """
    signed = await keys.signed(work, new, stored.sha256)
    artifact_id = new_id("art")
    if not await artifact_rows.insert_artifact(work.connection, artifact_id, signed, stored, created_by):
        return await _same(work, new, stored), False
    if not await artifact_rows.claim_object(work.connection, stored.object_key):
        raise UploadBrokenError("The upload took more than a day and was given up; send it again")
    return await get(work, artifact_id), True


async def _same(work: Work, new: NewArtifact, stored: Stored) -> Artifact:
    found = await artifact_rows.find_artifact(work.connection, new.name, new.version)
    assert found is not None, "its name and version are taken"
    if found.deleted_at is not None:
        raise ArtifactExistsError(f"{new.name} {new.version} was deployed and deleted; choose a new version")
    if found.sha256 != stored.sha256:
        raise ArtifactExistsError(
            f"{new.name} {new.version} is {found.artifact_id} with SHA-256 {found.sha256}; choose a new version"
        )
    if set(found.device_types) != set(new.device_types) or found.from_versions != new.from_versions:
        raise ArtifactExistsError(f"{new.name} {new.version} is {found.artifact_id}, for other devices")
    await artifact_rows.note_unclaimed(work.connection, stored.object_key, 0)
    return found


async def get(work: Work, artifact_id: str) -> Artifact:
    """Raises ArtifactNotFoundError."""
    found = await artifact_rows.get_artifact(work.connection, artifact_id)
    if found is None or found.deleted_at is not None:
        raise ArtifactNotFoundError(f"There is no artifact {artifact_id[:64]!r}")
    return found


async def find(
    work: Work, name: str | None, device_type: str | None, cursor: str | None, limit: int
) -> Page[Artifact]:
    """Newest first."""
    key = decode_cursor(cursor, tuple[str])
    rows = await artifact_rows.list_artifacts(work.connection, name, device_type, key[0] if key else None, limit + 1)
    return page_of(rows, limit, lambda artifact: (artifact.artifact_id,))


async def delete(work: Work, artifact_id: str) -> None:
    """Raises ArtifactInUseError while a deployment needs its bytes. They go with the next sweep."""
    locked = await artifact_rows.lock_artifact(work.connection, artifact_id)
    if locked is None or locked[1]:
        raise ArtifactNotFoundError(f"There is no artifact {artifact_id[:64]!r}")
    if users := (await artifact_rows.artifact_users(work.connection, [artifact_id])).get(artifact_id):
        raise ArtifactInUseError(f"{', '.join(users[:5])} need it: abort them first, or wait for their end")
    await artifact_rows.delete_artifact(work.connection, artifact_id)
    await artifact_rows.note_unclaimed(work.connection, locked[0], 0)


async def sweep(open_work: OpenWork, objects: ObjectStore) -> int:
    """Discard what no artifact names; how many objects."""
    swept = 0
    while True:
        async with open_work() as work:
            object_key = await artifact_rows.lock_unclaimed(work.connection)
            if object_key is None:
                return swept
            await objects.delete(object_key)
            await artifact_rows.claim_object(work.connection, object_key)
        swept += 1
