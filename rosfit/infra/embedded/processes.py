"""Processes that may outlive us: recognise them after a restart, watch them, signal them."""

import asyncio
import json
import os
import signal
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from rosfit.infra.embedded.data_folder import write_private

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells a process from a later one with the same pid: its start time, in ticks, in this boot."""

    pid: int
    started_ticks: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class Record:
    """What we note about a server we started. `fingerprint` tells whether its configuration is still wanted."""

    identity: Identity
    fingerprint: str

    def write(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return cls(Identity(**raw["identity"]), raw["fingerprint"])
        except (OSError, ValueError, KeyError, TypeError):
            # Not there, or cut short by a full disk: the process is then looked for by its command.
            return None


@dataclass(frozen=True, slots=True)
class _Status:
    state: str
    session: int
    started_ticks: int


def identify(pid: int) -> Identity | None:
    """Who runs as `pid`; None if nobody does, or only a zombie."""
    status = _status(pid)
    if status is None or status.state in "ZX":
        return None
    boot_id = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return Identity(pid, status.started_ticks, boot_id)


def find_by_command(argv: tuple[str, ...], uid: int) -> Identity | None:
    """The session leader of `uid` that runs exactly `argv`; its forks have the same command but no session."""
    wanted = b"".join(os.fsencode(part) + b"\0" for part in argv)
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and _read(entry / "cmdline") == wanted and owner(int(entry.name)) == uid:
            status = _status(int(entry.name))
            if status is not None and status.session == int(entry.name):
                return identify(int(entry.name))
    return None


def owner(pid: int) -> int | None:
    try:
        return (_PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def processes_in(folder: Path) -> list[int]:
    """Pids of living processes whose working folder is `folder`."""
    found = []
    for entry in _PROC.iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")) == folder and identify(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
    return found


class Process:
    """A running process, ours or taken over, watched through a pidfd."""

    def __init__(self, identity: Identity, child: subprocess.Popen[bytes] | None = None) -> None:
        self.identity = identity
        self._child = child
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        try:
            self._pidfd = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            self._ended.set()
            return
        if identify(identity.pid) not in (identity, None):
            os.close(self._pidfd)
            self._ended.set()
            return
        self._loop.add_reader(self._pidfd, self._on_end)

    @property
    def pid(self) -> int:
        return self.identity.pid

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; False if it still runs after `timeout_s`."""
        try:
            await asyncio.wait_for(self._ended.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended is left alone."""
        if self.running:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                return

    def release(self) -> None:
        """Stop watching and leave it running."""
        if self.running:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._ended.set()

    def _on_end(self) -> None:
        self.release()
        if self._child is not None:
            self._child.wait()


def _status(pid: int) -> _Status | None:
    raw = _read(_PROC / str(pid) / "stat")
    if not raw:
        return None
    # The name in parentheses may hold spaces; state, session and start time are fields 3, 6 and 22 of proc(5).
    fields = raw.rpartition(b")")[2].split()
    return _Status(fields[0].decode(), int(fields[3]), int(fields[19]))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
