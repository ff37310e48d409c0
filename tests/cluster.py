"""A PostgreSQL of any build, made by its own initdb, without a TCP port, and thrown away at the end."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Self

from rosfit.infra.embedded.unprivileged import server_user
from tests.server import free_ports


class Cluster:
    """`url` is its only database. `folder` must be one that the servers' unprivileged user can reach."""

    def __init__(self, programs: Path, folder: Path, **settings: str) -> None:
        self._programs, self._data, self._run = programs, folder / "cluster", folder
        self._who = server_user()
        self._port = free_ports(1)[0]
        self._settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off", **settings}
        self.url = f"postgresql://rosfit@/postgres?host={folder}&port={self._port}"

    def __enter__(self) -> Self:
        self._data.mkdir(mode=0o700)
        self._who.own(self._data)
        self._run.chmod(0o777)
        self._call("initdb", "-U", "rosfit", "--auth=trust", "--encoding=UTF8", "--locale=C")
        settings = " ".join(f"-c {name}={value}" for name, value in self._settings.items())
        self._call("pg_ctl", "start", "-w", "-o", f"{settings} -p {self._port}", "-l", str(self._run / "log"))
        return self

    def __exit__(self, *_: object) -> None:
        self._call("pg_ctl", "stop", "-m", "immediate")

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._data), *arguments]
        subprocess.run(command, check=True, cwd="/", **self._who.popen_arguments(), stdout=subprocess.DEVNULL)
