"""`/ota/artifacts` and `/ota/keys`: what can be installed, and whose signatures count."""

from __future__ import annotations

import msgspec
from litestar import Controller, Response, delete, get, post

from rosfit.accounts.rights import Right
from rosfit.api.access import actor_of, record
from rosfit.api.edge import Edge
from rosfit.api.idempotency import once
from rosfit.api.ota_upload import FORM_SCHEMA, AnyRequest, receive
from rosfit.api.parameters import DEFAULT_LIMIT, Cursor, Limit
from rosfit.fleet.models import DeviceType
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work
from rosfit.ota import artifacts, keys
from rosfit.ota.keys import TrustedKey
from rosfit.ota.models import Artifact, NewArtifact, Stored, UpdateKey

READ = {"right": Right.DEVICES_READ}
WRITE = {"right": Right.OTA_WRITE}


class ArtifactController(Controller):
    path = "/ota/artifacts"
    tags = ("ota",)

    @get(opt=READ)
    async def list_artifacts(
        self,
        work: Work,
        name: str | None = None,
        device_type: DeviceType | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[Artifact]:
        """Newest first."""
        return await artifacts.find(work, name, device_type, cursor, limit)

    # Without a unit of work of its own, which would be open for as long as the upload lasts.
    @post(opt=WRITE | {"form": FORM_SCHEMA}, request_max_body_size=None)
    async def upload_artifact(self, request: AnyRequest, edge: Edge) -> Response[Artifact]:
        """A file of any size, streamed. The same name, version and bytes again give the artifact that is there."""
        new, stored = await receive(request, edge.open_work, edge.objects)
        async with artifacts.swept_if_refused(edge.open_work, stored), edge.open_work() as work:

            async def create() -> Artifact:
                return await _create(work, request, new, stored)

            told = msgspec.json.encode((new, stored.size, stored.sha256))
            return await once(work, request, actor_of(request).id, 201, create, streamed=told)

    @get("/{artifact_id:str}", opt=READ)
    async def get_artifact(self, artifact_id: str, work: Work) -> Artifact:
        return await artifacts.get(work, artifact_id)

    @delete("/{artifact_id:str}", opt=WRITE)
    async def delete_artifact(self, artifact_id: str, request: AnyRequest, work: Work) -> None:
        """409 ARTIFACT_IN_USE while a deployment needs its bytes."""
        before = await artifacts.get(work, artifact_id)
        await artifacts.delete(work, artifact_id)
        await record(work, request, "artifact.delete", artifact_id, before=before)


async def _create(work: Work, request: AnyRequest, new: NewArtifact, stored: Stored) -> Artifact:
    artifact, is_new = await artifacts.create(work, new, stored, actor_of(request).id)
    if is_new:
        await record(work, request, "artifact.upload", artifact.artifact_id, after=artifact)
    return artifact


class UpdateKeys(msgspec.Struct, frozen=True):
    items: list[UpdateKey]


class UpdateKeyController(Controller):
    path = "/ota/keys"
    tags = ("ota",)

    @get(opt=READ)
    async def list_update_keys(self, work: Work) -> UpdateKeys:
        """Public keys, newest first: robots check signatures against them."""
        return UpdateKeys(await keys.listing(work))

    @post(opt=WRITE)
    async def trust_update_key(self, data: TrustedKey, request: AnyRequest, work: Work) -> Response[UpdateKey]:
        """Take signatures that are brought along and made with this key."""
        actor = actor_of(request)

        async def create() -> UpdateKey:
            key = await keys.trust(work, data, actor.id)
            await record(work, request, "update_key.trust", key.key_id, after=key)
            return key

        return await once(work, request, actor.id, 201, create)

    @post("/rotate", opt={"right": Right.KEYS_WRITE})
    async def rotate_update_key(self, request: AnyRequest, work: Work) -> Response[UpdateKey]:
        """Sign with a new key from now on; give robots its public key first."""
        actor = actor_of(request)

        async def create() -> UpdateKey:
            key = await keys.rotate(work, actor.id)
            await record(work, request, "update_key.rotate", key.key_id)
            return key

        return await once(work, request, actor.id, 201, create)

    @delete("/{key_id:str}", opt={"right": Right.KEYS_WRITE}, status_code=200)
    async def retire_update_key(self, key_id: str, request: AnyRequest, work: Work) -> UpdateKey:
        """Take no new artifacts signed with it; what it has signed stays."""
        key = await keys.retire(work, key_id)
        await record(work, request, "update_key.retire", key_id)
        return key
