"""Where artifact bytes lie: a folder of ours, or S3 (`s3.py`)."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.ports import ObjectStore, Upload

T = TypeVar("T")

PIECE_BYTES = 256 * 1024
# What an upload gathers before it is written: few enough trips to a thread, little enough memory.
WRITE_BYTES = 1024 * 1024
PARTIAL = ".partial"


class FolderStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def check(self) -> None:
        if not await asyncio.to_thread(self._folder.is_dir):
            raise UnavailableError(f"the folder {self._folder} is missing")

    async def begin(self, key: str) -> Upload:
        return await _on_disk(FolderUpload, self._folder / key)

    async def read(self, key: str, start: int, length: int) -> AsyncIterator[bytes]:
        with await _on_disk(open_to_read, self._folder / key) as file:
            await _on_disk(file.seek, start)
            while length > 0 and (piece := await _on_disk(file.read, min(length, PIECE_BYTES))):
                length -= len(piece)
                yield piece

    async def delete(self, key: str) -> None:
        await _on_disk(self._delete, key)

    def _delete(self, key: str) -> None:
        path = self._folder / key
        path.unlink(missing_ok=True)
        for left in path.parent.glob(f"{path.name}.*{PARTIAL}"):
            left.unlink(missing_ok=True)

    async def presign(self, key: str, expires_s: int) -> str | None:
        return None


class FolderUpload:
    """A file beside its place, put there by a rename once all of it is on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        self._file: BinaryIO | None = self._partial.open("xb")
        self._waiting = bytearray()

    async def write(self, data: bytes) -> None:
        self._waiting += data
        if len(self._waiting) >= WRITE_BYTES:
            waiting, self._waiting = self._waiting, bytearray()
            await _on_disk(self._open.write, waiting)

    async def commit(self) -> None:
        await _on_disk(self._commit)

    def _commit(self) -> None:
        file = self._open
        file.write(self._waiting)
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._file = None
        self._partial.rename(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    async def discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            await _on_disk(self._partial.unlink)

    @property
    def _open(self) -> BinaryIO:
        assert self._file is not None, "an upload is written before it ends"
        return self._file


def open_to_read(path: Path) -> BinaryIO:
    return path.open("rb")


async def _on_disk(call: Callable[..., T], *arguments: Any) -> T:
    try:
        return await asyncio.to_thread(call, *arguments)
    except OSError as error:
        raise UnavailableError(f"the folder of artifacts cannot be used ({error}); see to its disk") from error


def open_objects(where: str | Path) -> ObjectStore:
    if isinstance(where, Path):
        return FolderStore(where)
    # Only here: boto3 takes 0.2 s and 15 MB to load, and most servers have a folder.
    from rosfit.infra.s3 import S3Store

    return S3Store(where)
