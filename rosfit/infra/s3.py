"""Artifact bytes in a bucket of S3 or of a server that speaks like it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import boto3
from anyio import CapacityLimiter, to_thread
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from rosfit.infra.objects import PIECE_BYTES
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.ports import Upload

T = TypeVar("T")

# S3 takes 10,000 parts: the first thousand of 8 MiB, each later thousand of twice the size, is more than it takes.
PART_BYTES = 8 * 1024 * 1024
PARTS_OF_A_SIZE = 1000
# Calls to S3 at a time; each needs a thread.
S3_CALLS = 8


class S3Store:
    """A bucket of S3 or MinIO: `s3://bucket?endpoint=http://…`; credentials as boto3 finds them."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._bucket = parts.netloc
        endpoint = parse_qs(parts.query).get("endpoint", [None])[0]
        # Servers other than S3 know nothing of the newer checksums, and presign by version 4 only.
        config = Config(
            signature_version="s3v4",
            response_checksum_validation="when_required",
            request_checksum_calculation="when_required",
            connect_timeout=3,
            read_timeout=60,
            retries={"max_attempts": 3},
        )
        self._client: Any = boto3.client("s3", endpoint_url=endpoint, config=config)
        self._limiter = CapacityLimiter(S3_CALLS)

    async def check(self) -> None:
        await self.call("head_bucket")

    async def begin(self, key: str) -> Upload:
        return S3Upload(self, key)

    async def read(self, key: str, start: int, length: int) -> AsyncIterator[bytes]:
        if length <= 0:
            return
        found = await self.call("get_object", Key=key, Range=f"bytes={start}-{start + length - 1}")
        with found["Body"] as body:
            while piece := await self._in_thread(partial(body.read, PIECE_BYTES)):
                yield piece

    async def delete(self, key: str) -> None:
        await self.call("delete_object", Key=key)
        for left in await self._in_thread(partial(self._uploads, key)):
            await self.call("abort_multipart_upload", Key=left["Key"], UploadId=left["UploadId"])

    def _uploads(self, key: str) -> list[dict[str, str]]:
        """Uploads of this key that were never completed."""
        try:
            answer = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=key)
        except ClientError as error:
            # What rclone says where S3 and MinIO give an empty list.
            if error.response.get("Error", {}).get("Code") == "NoSuchUpload":
                return []
            raise
        return list(answer.get("Uploads", []))

    async def presign(self, key: str, expires_s: int) -> str | None:
        values = {"Bucket": self._bucket, "Key": key}
        sign = partial(self._client.generate_presigned_url, "get_object", values, ExpiresIn=expires_s)
        return str(await self._in_thread(sign))

    async def call(self, name: str, **values: Any) -> Any:
        return await self._in_thread(partial(getattr(self._client, name), Bucket=self._bucket, **values))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        try:
            return await to_thread.run_sync(call, limiter=self._limiter)
        except (ClientError, BotoCoreError, OSError) as error:
            raise UnavailableError(f"the bucket {self._bucket} does not answer ({error})") from error


class S3Upload:
    """A multipart upload; what fits into one part is put at once."""

    def __init__(self, store: S3Store, key: str) -> None:
        self._store = store
        self._key = key
        self._upload_id: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._waiting = bytearray()
        self._done = False

    async def write(self, data: bytes) -> None:
        self._waiting += data
        if len(self._waiting) >= PART_BYTES << (len(self._parts) // PARTS_OF_A_SIZE):
            await self._send_part()

    async def _send_part(self) -> None:
        if self._upload_id is None:
            self._upload_id = (await self._store.call("create_multipart_upload", Key=self._key))["UploadId"]
        number, body = len(self._parts) + 1, bytes(self._waiting)
        self._waiting = bytearray()
        about = {"Key": self._key, "UploadId": self._upload_id, "PartNumber": number}
        answer = await self._store.call("upload_part", Body=body, **about)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    async def commit(self) -> None:
        if self._upload_id is None:
            await self._store.call("put_object", Key=self._key, Body=bytes(self._waiting))
        else:
            if self._waiting:
                await self._send_part()
            await self._store.call(
                "complete_multipart_upload",
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._parts},
            )
        self._done = True

    async def discard(self) -> None:
        if self._upload_id is not None and not self._done:
            self._done = True
            await self._store.call("abort_multipart_upload", Key=self._key, UploadId=self._upload_id)
