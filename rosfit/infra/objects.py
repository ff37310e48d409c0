"""Where artifact bytes lie: a folder of ours, or S3."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.ports import ObjectStore


class FolderStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def check(self) -> None:
        if not await asyncio.to_thread(self._folder.is_dir):
            raise UnavailableError(f"the folder {self._folder} is missing")


class S3Store:
    """A bucket of S3 or MinIO: `s3://bucket?endpoint=http://…`; credentials as boto3 finds them."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._bucket = parts.netloc
        endpoint = parse_qs(parts.query).get("endpoint", [None])[0]
        # Servers other than S3 know nothing of the newer checksums.
        config = Config(
            response_checksum_validation="when_required",
            request_checksum_calculation="when_required",
            connect_timeout=3,
            read_timeout=10,
            retries={"max_attempts": 2},
        )
        self._client = boto3.client("s3", endpoint_url=endpoint, config=config)

    async def check(self) -> None:
        try:
            await asyncio.to_thread(self._client.head_bucket, Bucket=self._bucket)
        except (ClientError, BotoCoreError) as error:
            raise UnavailableError(f"the bucket {self._bucket} does not answer ({error})") from error


def open_objects(where: str | Path) -> ObjectStore:
    return FolderStore(where) if isinstance(where, Path) else S3Store(where)
