"""The object store's promises, on a folder and on a real S3 server (rclone's)."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import pytest
from botocore.config import Config

from rosfit.infra.objects import FolderStore
from rosfit.infra.s3 import PART_BYTES, S3Store
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.ports import ObjectStore
from tests.ota.conftest import Site, Updatable
from tests.server import free_ports, running_server, until

RCLONE = Path(sys.executable).with_name("rclone")
ACCESS_KEY, SECRET_KEY = "rosfit-test", "not-a-secret-at-all"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An `s3://` URL whose credentials are in the environment."""
    folder, port = tmp_path_factory.mktemp("s3"), free_ports(1)[0]
    address = f"127.0.0.1:{port}"
    command = [RCLONE, "serve", "s3", "--addr", address, "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen([*command, "--vfs-cache-mode", "writes", folder], stderr=subprocess.DEVNULL) as process,
    ):
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3", endpoint_url=f"http://{address}", config=Config(retries={"max_attempts": 1}))
        until(lambda: answers(f"http://{address}"))
        client.create_bucket(Bucket="artifacts")
        yield f"s3://artifacts?endpoint=http://{address}"
        process.terminate()


def answers(url: str) -> bool:
    try:
        return bool(httpx.get(url).status_code)
    except httpx.TransportError:
        return False


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return FolderStore(tmp_path) if request.param == "folder" else S3Store(request.getfixturevalue("bucket"))


async def put(store: ObjectStore, data: bytes) -> str:
    key = f"artifacts/{secrets.token_hex(8)}"
    upload = await store.begin(key)
    for start in range(0, len(data), 100_000):
        await upload.write(data[start : start + 100_000])
    await upload.commit()
    return key


async def whole(store: ObjectStore, key: str, start: int, length: int) -> bytes:
    return b"".join([piece async for piece in store.read(key, start, length)])


@pytest.mark.parametrize("size", [1, 300_000, 2 * PART_BYTES + 12_345])
async def test_what_is_put_is_read(store: ObjectStore, size: int) -> None:
    data = os.urandom(size)
    key = await put(store, data)
    assert await whole(store, key, 0, size) == data
    assert await whole(store, key, size // 3, size // 2) == data[size // 3 : size // 3 + size // 2]
    await store.delete(key)
    await store.delete(key)
    with pytest.raises(UnavailableError):
        await whole(store, key, 0, size)


async def test_nothing_is_there_before_all_of_it(store: ObjectStore) -> None:
    key = f"artifacts/{secrets.token_hex(8)}"
    upload = await store.begin(key)
    await upload.write(os.urandom(2 * PART_BYTES))
    with pytest.raises(UnavailableError):
        await whole(store, key, 0, 10)
    await upload.discard()
    with pytest.raises(UnavailableError):
        await whole(store, key, 0, 10)


async def test_a_broken_upload_can_be_swept(store: ObjectStore, tmp_path: Path) -> None:
    key = f"artifacts/{secrets.token_hex(8)}"
    await (await store.begin(key)).write(os.urandom(PART_BYTES))
    await store.delete(key)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_a_presigned_url_is_the_stores_own(bucket: str) -> None:
    store = S3Store(bucket)
    data = os.urandom(1000)
    url = await store.presign(await put(store, data), 60)
    assert url is not None
    assert httpx.get(url).content == data
    # S3 says 206 here, rclone 200.
    assert httpx.get(url, headers={"Range": "bytes=10-19"}).content == data[10:20]
    assert httpx.get(url.replace("X-Amz-Signature=", "X-Amz-Signature=0")).status_code == 403


async def test_a_folder_signs_nothing(tmp_path: Path) -> None:
    assert await FolderStore(tmp_path).presign("x", 60) is None


async def test_a_store_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="missing"):
        await FolderStore(tmp_path / "gone").check()
    with pytest.raises(UnavailableError, match="does not answer"):
        await S3Store(f"s3://none?endpoint=http://127.0.0.1:{free_ports(1)[0]}").check()


def test_an_update_from_s3(bucket: str) -> None:
    """Uploaded in parts, presigned by the store, downloaded without RosFit."""
    data = os.urandom(PART_BYTES + 1000)
    with running_server(ROSFIT_S3_URL=bucket) as server:
        site = Site(server)
        with Updatable(server, "bot-s3") as robot:
            deployment = site.deploy(site.upload(data), ["bot-s3"])
            url = robot.triggered()["artifact"]["url"]
            assert url.startswith(bucket.partition("endpoint=")[2])
            assert httpx.get(url).content == data
            assert httpx.get(url, headers={"Range": f"bytes={len(data) - 5}-"}).content == data[-5:]
            robot.result(deployment, "succeeded")
            site.becomes(deployment, "finished")
