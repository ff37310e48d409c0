"""The user the servers run as: never root, since PostgreSQL refuses it and the others should."""

import hashlib
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rosfit.infra.embedded.errors import DataFolderError

PREFERRED_USER = "rosfit"
FALLBACK_USER = "nobody"


@dataclass(frozen=True, slots=True)
class ServerUser:
    """Who the servers run as. `switch` is False when that is who we are already."""

    name: str
    uid: int
    gid: int
    switch: bool

    def popen_arguments(self) -> dict[str, object]:
        """Arguments of `subprocess.Popen` that drop to this user, groups included."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    def own(self, path: Path) -> None:
        if self.switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def server_user() -> ServerUser:
    """As root the user `rosfit` if it exists, else `nobody`; otherwise ourselves."""
    if os.geteuid() != 0:
        return ServerUser(str(os.geteuid()), os.geteuid(), os.getegid(), switch=False)
    for name in (PREFERRED_USER, FALLBACK_USER):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerUser(name, entry.pw_uid, entry.pw_gid, switch=True)
    raise DataFolderError(
        f"RosFit runs as root, and its servers must not. Create a user for them: useradd --system {PREFERRED_USER}"
    )


def can_enter(user: ServerUser, folder: Path) -> bool:
    """Whether `user` can reach `folder`; tried for real, so access lists and mounts count too."""
    tried = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", 'cd -P "$1"', "sh", str(folder)],
        stderr=subprocess.DEVNULL,
        cwd="/",
        check=False,
        **user.popen_arguments(),  # type: ignore[call-overload]
    )
    return bool(tried.returncode == 0)


def blocking_folder(user: ServerUser, folder: Path) -> Path | None:
    """The first folder on the way to `folder` that `user` cannot enter."""
    if not user.switch or can_enter(user, folder):
        return None
    return next(step for step in (*reversed(folder.parents), folder) if not can_enter(user, step))


def reachable_copy(user: ServerUser, program: Path, tree: Path, target: Path) -> Path:
    """`program`, or its copy below `target` when `user` cannot reach it (a venv under a 700 home).

    `tree` is the folder to copy with it. The copy is made once for each state of the program.
    """
    if blocking_folder(user, program.parent) is None:
        return program
    stat = program.stat()
    mark = hashlib.sha256(f"{program}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    copy = target / f"{tree.name}-{mark}"
    if not copy.exists():
        _copy_tree(tree, copy)
    return copy / program.relative_to(tree)


def _copy_tree(tree: Path, copy: Path) -> None:
    partial = copy.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(tree, partial, symlinks=True)
    partial.chmod(0o755)
    partial.rename(copy)
