"""An archive into a folder: nothing may end up outside of it, and it may not grow without end."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from rosfit_bridge.ota.errors import UpdateError

# An archive that unpacks to more than this many times its size is an attack or a mistake.
MOST_GROWTH = 100
ROOM = 64 * 1024 * 1024
MOST_ENTRIES = 200_000
BLOCK = 1 << 20


LONGEST_LINK = 4096
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    UnicodeError,
    NotImplementedError,
    RuntimeError,
)


class BadArchiveError(UpdateError):
    def __init__(self, message: str) -> None:
        super().__init__("BAD_ARCHIVE", message)


def unpack(file: Path, into: Path, plain_name: str) -> None:
    """A tar (plain, gz, bz2, xz) or zip; anything else is one file named `plain_name`. Raises UpdateError."""
    into.mkdir(parents=True)
    budget = _Budget(file.stat().st_size * MOST_GROWTH + ROOM)
    try:
        if tarfile.is_tarfile(file):
            _unpack_tar(file, into, budget)
        elif zipfile.is_zipfile(file):
            _unpack_zip(file, into, budget)
        else:
            shutil.copyfile(file, into / plain_name)
    except _DAMAGED as error:
        raise BadArchiveError(f"it cannot be unpacked: {error}") from error
    except OSError as error:
        # gzip and bz2 complain of their data in this way, without a number of the system's.
        if error.errno is None:
            raise BadArchiveError(f"it cannot be unpacked: {error}") from error
        raise


class _Budget:
    def __init__(self, size: int) -> None:
        self._left, self._entries = size, MOST_ENTRIES

    def entry(self) -> None:
        self._entries -= 1
        if self._entries < 0:
            raise BadArchiveError(f"it has more than {MOST_ENTRIES} entries")

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise BadArchiveError(f"it unpacks to more than {MOST_GROWTH} times its size")


def _unpack_tar(file: Path, into: Path, budget: _Budget) -> None:
    with tarfile.open(file) as archive:
        for member in archive:
            budget.entry()
            target = _inside(into, member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                source = archive.extractfile(member)
                assert source is not None
                _write(source, target, member.mode, budget)
            elif member.issym():
                _link(into, target, member.linkname)
            elif member.islnk():
                _copy_within(_inside(into, member.linkname), target, budget)
            else:
                raise BadArchiveError(f"{member.name} is a device or a pipe")


def _unpack_zip(file: Path, into: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            budget.entry()
            target = _inside(into, member.filename)
            mode = member.external_attr >> 16
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif stat.S_ISLNK(mode):
                if member.file_size > LONGEST_LINK:
                    raise BadArchiveError(f"the link {member.filename} is {member.file_size} bytes long")
                _link(into, target, archive.read(member).decode())
            else:
                with archive.open(member) as source:
                    _write(source, target, mode or 0o644, budget)


def _inside(into: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise BadArchiveError(f"{name!r} leads out of its folder")
    target = into.joinpath(*path.parts)
    # An earlier entry may have made one of the parents a link.
    if not target.parent.resolve().is_relative_to(into.resolve()):
        raise BadArchiveError(f"{name!r} leads out of its folder over a link")
    return target


def _link(into: Path, target: Path, leads_to: str) -> None:
    if os.path.isabs(leads_to) or not (target.parent / leads_to).resolve().is_relative_to(into.resolve()):
        raise BadArchiveError(f"the link {target.name} leads out of its folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(leads_to)


def _copy_within(source: Path, target: Path, budget: _Budget) -> None:
    if not source.is_file():
        raise BadArchiveError(f"{target.name} is a link to what is not there")
    with source.open("rb") as opened:
        _write(opened, target, source.stat().st_mode, budget)


def _write(source: object, target: Path, mode: int, budget: _Budget) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        target.unlink()
    with target.open("wb") as file:
        while block := source.read(BLOCK):  # type: ignore[attr-defined]
            budget.spend(len(block))
            file.write(block)
    # No set-user-id, and always readable by its owner.
    target.chmod((mode & 0o755) | 0o600)
