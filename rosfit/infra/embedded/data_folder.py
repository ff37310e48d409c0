"""The data folder: what lies where, who owns it, and that only one server uses it."""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rosfit.infra.embedded.errors import DataFolderBusyError, DataFolderError
from rosfit.infra.embedded.unprivileged import ServerUser, blocking_folder

# A socket address holds 107 bytes; what is left is for the names PostgreSQL adds.
SOCKET_PATH_LIMIT = 100
LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths below the data folder.

    `state` (passwords, process records, lock), `log` and `objects` belong to RosFit's own user; the servers'
    data and `run` (sockets) to the user the servers run as. Each is closed to everybody else.
    """

    root: Path
    user: ServerUser

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def objects(self) -> Path:
        return self.root / "objects"

    @property
    def servers(self) -> Path:
        """Programs we had to copy or unpack."""
        return self.root / "servers"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def valkey(self) -> Path:
        return self.root / "valkey"

    @property
    def mosquitto(self) -> Path:
        return self.root / "mosquitto"

    @property
    def run(self) -> Path:
        """Folder of the sockets: `run`, or a short private one when its path is too long for a socket."""
        run = self.root / "run"
        if len(os.fsencode(run / LONGEST_SOCKET_NAME)) <= SOCKET_PATH_LIMIT:
            return run
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path("/run" if os.geteuid() == 0 else "/tmp") / f"rosfit-{digest}"  # noqa: S108  checked below

    def prepare(self) -> None:
        """Create what is missing; refuse a folder that the servers' user cannot reach."""
        self._create_root()
        for folder in (self.state, self.log, self.objects):
            _private_folder(folder, os.geteuid(), os.getegid())
        for folder in (self.valkey, self.run):
            _private_folder(folder, self.user.uid, self.user.gid)
        for folder in (self.servers, self.mosquitto):
            folder.mkdir(mode=0o755, exist_ok=True)

    def secret(self, name: str) -> str:
        """A random password kept in a file only we can read; made at the first call."""
        path = self.state / name
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32) + "\n")
        return path.read_text(encoding="ascii").strip()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder; a second server with the same folder is refused."""
        descriptor = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
                raise DataFolderBusyError(
                    f"Another rosfit serve (process {holder}) uses the data folder {self.root}. "
                    "Stop it, or give this one another folder with --data-dir."
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Whether a RosFit holds the folder."""
        try:
            descriptor = os.open(self.state / "lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _create_root(self) -> None:
        try:
            # Missing parents get the usual mode; only the data folder itself is closed.
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self.root.mkdir(mode=self._root_mode(), exist_ok=True)
            if not any(self.root.iterdir()):
                # Like initdb: an empty folder was made for us, so its mode is ours to set.
                self.root.chmod(self._root_mode())
        except OSError as error:
            raise DataFolderError(
                f"The data folder {self.root} cannot be used: {error.strerror}. "
                "Choose another with --data-dir or ROSFIT_DATA_DIR."
            ) from error
        self._check_reach()

    def _root_mode(self) -> int:
        """The servers' user must pass through, so as root everybody may enter but not list."""
        return 0o711 if self.user.switch else 0o700

    def _check_reach(self) -> None:
        blocking = blocking_folder(self.user, self.root)
        if blocking is not None:
            raise DataFolderError(
                f"The data folder {self.root} cannot be reached by the user {self.user.name}, as which the servers "
                f"run: that user may not enter {blocking}. Choose another folder with --data-dir, "
                f"or allow it: chmod o+x {blocking}"
            )


def write_private(path: Path, text: str, user: ServerUser | None = None) -> None:
    """Replace `path` in one step by a file that only its owner (`user`, else ourselves) can read."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
        if user is not None and user.switch:
            os.fchown(descriptor, user.uid, user.gid)
    partial.replace(path)


def _private_folder(folder: Path, uid: int, gid: int) -> None:
    """A 0700 folder of `uid`. One that is there already must be that, or somebody else made it."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        _check_private(folder, uid)
        return
    os.chown(folder, uid, gid)


def _check_private(folder: Path, uid: int) -> None:
    stat = folder.lstat()
    if folder.is_symlink() or stat.st_uid != uid or stat.st_mode & 0o077:
        raise DataFolderError(
            f"The folder {folder} must belong to the user id {uid} and be closed to others (mode 700), but belongs "
            f"to {stat.st_uid} with mode {stat.st_mode & 0o777:o}. Run RosFit as the user who made it, or correct it: "
            f"chown -R {uid} {folder} && chmod 700 {folder}"
        )
