"""Keep one server running: take over or start, wait until ready, restart when it dies, stop."""

import asyncio
import hashlib
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from rosfit.infra.embedded import logs
from rosfit.infra.embedded.data_folder import DataFolder
from rosfit.infra.embedded.errors import EmbeddedServerError
from rosfit.infra.embedded.processes import Identity, Process, Record, find_by_command, identify, owner

Report = Callable[[str], None]

READY_POLL_S = 0.03
PROGRESS_EVERY_S = 5.0
LOG_CHECK_S = 60.0
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 10.0
# A server that ran this long before it died starts again without waiting.
HEALTHY_AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class Command:
    """How a server is started. `configuration` is what it read at its start, beside its arguments."""

    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    configuration: str = ""

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.argv, self.configuration)).encode()).hexdigest()


class Server(ABC):
    """What is particular to one kind of server."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    # Sent when the time to stop has run out.
    last_signal: ClassVar[signal.Signals] = signal.SIGKILL
    # None: as long as it needs, as long as it runs.
    ready_within_s: ClassVar[float | None] = 30.0

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder

    @property
    def log_path(self) -> Path:
        return self.folder.log / f"{self.name}.log"

    @abstractmethod
    def command(self) -> Command:
        """The command; finding its program may take time. Called in a thread."""

    def before_start(self, command: Command) -> None:  # noqa: B027  most have nothing to do
        """Make files and check ports before a new process starts. Called in a thread."""

    @abstractmethod
    async def is_ready(self) -> bool: ...

    async def after_start(self) -> None:  # noqa: B027
        """What is left to do once it answers."""


class Keeper:
    """Keeps one server running from `start` to `stop`."""

    def __init__(self, server: Server, report: Report) -> None:
        self.server = server
        self._report = report
        self._command: Command | None = None
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.running else None

    async def start(self) -> None:
        """Take over the process a previous RosFit left, or start one; return when it is ready."""
        self._command = await asyncio.to_thread(self.server.command)
        left = await asyncio.to_thread(self._find_left, self._command)
        if left is None or not await self._take_over(left, self._command):
            await self._launch(self._command)
        await self._until_ready()
        self._watch = asyncio.create_task(self._keep(), name=f"keep {self.server.name}")

    async def stop(self, within_s: float) -> None:
        """Stop in order; what has not ended after `within_s` gets the last signal."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        if self._process is not None and self._process.running:
            await self._end(self._process, within_s)
        self._record_path.unlink(missing_ok=True)

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send(number)

    async def restart(self, within_s: float = 30.0) -> None:
        """Start it anew with the command as it is now; return when it is ready."""
        self._command = await asyncio.to_thread(self.server.command)
        before, deadline = self.restarts, time.monotonic() + within_s
        self.send(self.server.stop_signal)
        while self.restarts == before:
            if time.monotonic() > deadline:
                raise self._failure(f"did not start anew within {within_s:.0f} s")
            await asyncio.sleep(READY_POLL_S)

    @property
    def _record_path(self) -> Path:
        return self.server.folder.state / f"{self.server.name}.json"

    def _find_left(self, command: Command) -> Identity | None:
        uid = self.server.folder.user.uid
        record = Record.read(self._record_path)
        if record is not None and identify(record.identity.pid) == record.identity:
            return record.identity if owner(record.identity.pid) == uid else None
        # Killed between starting it and noting it down: its command gives it away.
        return find_by_command(command.argv, uid)

    async def _take_over(self, left: Identity, command: Command) -> bool:
        """True if `left` is kept; one that runs with another configuration is stopped first."""
        process = Process(left)
        record = Record.read(self._record_path)
        if record is not None and record.identity == left and record.fingerprint == command.fingerprint:
            self._process = process
            self._report(f"{self.server.name}: took over process {left.pid}")
            return process.running
        self._report(f"{self.server.name}: stopping process {left.pid}, whose settings have changed")
        await self._end(process, within_s=60.0)
        return False

    async def _launch(self, command: Command) -> None:
        await asyncio.to_thread(self.server.before_start, command)
        logs.bound(self.server.log_path)
        child = self._spawn(command)
        identity = identify(child.pid)
        if identity is None:
            raise self._failure(f"ended at once with code {child.wait()}")
        self._process = Process(identity, child)
        Record(identity, command.fingerprint).write(self._record_path)

    def _spawn(self, command: Command) -> subprocess.Popen[bytes]:
        descriptor = os.open(self.server.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            child: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603
                command.argv,
                cwd=command.cwd,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **command.environment},
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
                umask=0o077,
                **self.server.folder.user.popen_arguments(),  # type: ignore[call-overload]
            )
            return child
        except OSError as error:
            raise self._failure(f"cannot run {command.argv[0]}: {error.strerror}") from error
        finally:
            os.close(descriptor)

    async def _until_ready(self) -> None:
        began = time.monotonic()
        said = began
        while not await self.server.is_ready():
            if self._process is None or await self._process.wait(READY_POLL_S):
                raise self._failure("ended before it was ready")
            waited = time.monotonic() - began
            if self.server.ready_within_s is not None and waited > self.server.ready_within_s:
                raise self._failure(f"did not answer within {self.server.ready_within_s:.0f} s")
            if time.monotonic() - said > PROGRESS_EVERY_S:
                said = time.monotonic()
                last = logs.tail(self.server.log_path, 1)
                self._report(f"{self.server.name}: not ready after {waited:.0f} s; its log says: {last}")
        await self.server.after_start()

    async def _keep(self) -> None:
        """Start it again whenever it ends, with growing pauses while it does not stay up."""
        backoff = FIRST_BACKOFF_S
        while True:
            began = time.monotonic()
            await self._watch_one()
            if time.monotonic() - began > HEALTHY_AFTER_S:
                backoff = FIRST_BACKOFF_S
            self._report(f"{self.server.name}: ended unexpectedly; starting it again in {backoff:.1f} s")
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_S)
            await self._restart()

    async def _watch_one(self) -> None:
        while self._process is not None and not await self._process.wait(LOG_CHECK_S):
            await asyncio.to_thread(logs.bound, self.server.log_path)

    async def _restart(self) -> None:
        assert self._command is not None
        try:
            await self._launch(self._command)
            await self._until_ready()
        except (EmbeddedServerError, OSError) as error:
            self._report(f"{self.server.name}: {error}")
            if self._process is not None and self._process.running:
                await self._end(self._process, within_s=5.0)
            return
        self.restarts += 1
        self._report(f"{self.server.name}: running again as process {self.pid}")

    async def _end(self, process: Process, within_s: float) -> None:
        process.send(self.server.stop_signal)
        if not await process.wait(within_s):
            self._report(f"{self.server.name}: still running after {within_s:.1f} s; ending it now")
            process.send(self.server.last_signal)
            if not await process.wait(1.0):
                process.send(signal.SIGKILL)
                await process.wait()

    def _failure(self, what: str) -> EmbeddedServerError:
        said = logs.tail(self.server.log_path)
        return EmbeddedServerError(f"{self.server.name} {what}. The end of {self.server.log_path}:\n{said}")
