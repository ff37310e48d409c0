"""The user the servers run as: never root, since PostgreSQL refuses it and the others should."""

import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
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


def reachable_copy(user: ServerUser, program: Path, trees: Sequence[Path], target: Path) -> Path:
    """`program`, or its copy below `target` when `user` cannot reach it (a venv under a 700 home).

    `trees` are the folders it needs, its own first; they keep their places relative to each other. The copy is
    made once for each installation of them.
    """
    if blocking_folder(user, program.parent) is None:
        return program
    state = repr([(str(tree), tree.stat().st_mtime_ns) for tree in trees])
    copy = target / f"{trees[0].name}-{hashlib.sha256(state.encode()).hexdigest()[:12]}"
    base = Path(os.path.commonpath([tree.parent for tree in trees]))
    if not copy.exists():
        _copy_trees(trees, base, copy)
    return copy / program.relative_to(base)


def _copy_trees(trees: Sequence[Path], base: Path, copy: Path) -> None:
    partial = copy.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for tree in trees:
        shutil.copytree(tree, partial / tree.relative_to(base), symlinks=True)
    for folder in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    partial.rename(copy)
