"""Starts the servers that no setting replaces, watches them, stops them, and tells where each dependency is."""

import asyncio
import contextlib
import resource
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from rosfit.infra.embedded.broker_accounts import SERVER_PASSWORD, BrokerAccounts
from rosfit.infra.embedded.data_folder import DataFolder
from rosfit.infra.embedded.errors import NotRunningError
from rosfit.infra.embedded.mosquitto import MosquittoServer, RunningMosquitto
from rosfit.infra.embedded.postgres import PostgresServer
from rosfit.infra.embedded.server import Keeper
from rosfit.infra.embedded.unprivileged import server_user
from rosfit.infra.embedded.valkey import ValkeyServer
from rosfit.infra.tls import server_pair
from rosfit.settings import Settings

# All servers together; with the application's own 3 s a SIGTERM ends within the promised 10 s.
STOP_WITHIN_S = 5.5
WANTED_OPEN_FILES = 65_536

Report = Callable[[str], None]


def report_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where each dependency is. URLs hold passwords, so they are left out when this is printed."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    mqtt_url: str = field(repr=False)
    objects: Path | str
    """A folder, or an `s3://` URL."""
    broker_accounts: BrokerAccounts | None = None
    """Accounts of the broker we started; None with a broker of one's own, and beside a running server."""

    @classmethod
    def discover(cls, settings: Settings) -> "Endpoints":
        """The endpoints of a server that runs already, for commands beside it. Starts nothing."""
        folder = DataFolder(settings.data_dir, server_user())
        postgres, valkey = PostgresServer(folder), ValkeyServer(folder)
        if settings.database_url is None:
            _require(folder, folder.run / ".s.PGSQL.5432")
        if settings.redis_url is None:
            _require(folder, valkey.socket)
        return cls(
            database_url=settings.database_url or postgres.url,
            redis_url=settings.redis_url or valkey.url,
            mqtt_url=settings.mqtt_url or _broker_url(folder, settings),
            objects=settings.s3_url or folder.objects,
        )


class Supervisor:
    """`async with Supervisor(settings) as endpoints:` — the servers run inside the block."""

    def __init__(self, settings: Settings, report: Report = report_to_stderr) -> None:
        self._settings = settings
        self._report = report
        self._folder = DataFolder(settings.data_dir, server_user())
        self._held = contextlib.ExitStack()
        # In the order in which they are stopped: the broker first, so that nothing more comes in.
        self.keepers: dict[str, Keeper] = {}

    async def __aenter__(self) -> Endpoints:
        await asyncio.to_thread(self._folder.prepare)
        self._held.enter_context(self._folder.lock())
        try:
            _raise_open_files()
            endpoints = self._plan()
            await self._start_all()
        except BaseException:
            await self._stop_all()
            raise
        return endpoints

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_all()

    def _plan(self) -> Endpoints:
        """Decide what to start; the endpoints are known before anything runs."""
        settings, folder = self._settings, self._folder
        mqtt_url, accounts = settings.mqtt_url, None
        if mqtt_url is None:
            accounts = BrokerAccounts(folder)
            mqtt_url = self._plan_broker(accounts)
        redis_url, database_url = settings.redis_url, settings.database_url
        if redis_url is None:
            valkey = ValkeyServer(folder)
            self.keepers[valkey.name] = Keeper(valkey, self._report)
            redis_url = valkey.url
        if database_url is None:
            postgres = PostgresServer(folder)
            self.keepers[postgres.name] = Keeper(postgres, self._report)
            database_url = postgres.url
        return Endpoints(database_url, redis_url, mqtt_url, settings.s3_url or folder.objects, accounts)

    def _plan_broker(self, accounts: BrokerAccounts) -> str:
        if self._settings.tls:
            pair = server_pair(self._settings)
            accounts.certificates.install_pair(pair.certificate, pair.key)
        broker = MosquittoServer(self._folder, self._settings, accounts, self._report)
        keeper = Keeper(broker, self._report)
        self.keepers[broker.name] = keeper
        accounts.connect(RunningMosquitto(broker, keeper))
        return broker.url

    async def _start_all(self) -> None:
        began = time.monotonic()
        if self.keepers:
            self._report(f"Starting {', '.join(self.keepers)} in {self._folder.root}")
        try:
            async with asyncio.TaskGroup() as group:
                for keeper in self.keepers.values():
                    group.create_task(keeper.start())
        except ExceptionGroup as failures:
            # The first reason is the one to mend; the others were mostly cancelled by it.
            raise _first(failures) from None
        if self.keepers:
            self._report(f"Servers ready after {time.monotonic() - began:.1f} s")

    async def _stop_all(self) -> None:
        """Stop in order within the time given. Whoever cancels us meanwhile, and be it twice, has to wait for it."""
        stopping, cancelled = asyncio.ensure_future(self._stop_in_order()), False
        while not stopping.done():
            try:
                await asyncio.wait({stopping})
            except asyncio.CancelledError:
                cancelled = True
        self._held.close()
        stopping.result()
        if cancelled:
            raise asyncio.CancelledError

    async def _stop_in_order(self) -> None:
        deadline = time.monotonic() + STOP_WITHIN_S
        for left, keeper in zip(range(len(self.keepers), 0, -1), self.keepers.values(), strict=True):
            # Each may use what it needs but must leave the later ones a second.
            await keeper.stop(within_s=max(0.5, deadline - time.monotonic() - (left - 1)))


def _first(failures: ExceptionGroup[Exception]) -> BaseException:
    first: BaseException = failures
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def _require(folder: DataFolder, path: Path) -> None:
    """Refuse unless somebody listens on the socket `path`."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
    except PermissionError as error:
        raise NotRunningError(
            f"The server of the data folder {folder.root} cannot be reached: {path.parent} is closed to this user. "
            "Run this as the user who runs `rosfit serve`."
        ) from error
    except OSError as error:
        raise _not_running(folder) from error


def _not_running(folder: DataFolder) -> NotRunningError:
    return NotRunningError(
        f"unreachable: no server runs with data folder {folder.root}; start `rosfit serve --data-dir {folder.root}`, "
        "or name another folder with --data-dir."
    )


def _broker_url(folder: DataFolder, settings: Settings) -> str:
    if not (folder.state / SERVER_PASSWORD).exists():
        raise _not_running(folder)
    return MosquittoServer(folder, settings, BrokerAccounts(folder), report_to_stderr).url


def _raise_open_files() -> None:
    """Each robot is one open file of the broker, which inherits our limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_OPEN_FILES if hard == resource.RLIM_INFINITY else min(WANTED_OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
