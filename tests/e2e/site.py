"""A running server with its three stores, as the tests look at it, load it and hurt it."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg

from rosfit.sim.accounts import RobotAccount
from rosfit.supervisor import Endpoints
from tests.load.plan import Load
from tests.server import RunningServer, until


class Site:
    def __init__(self, server: RunningServer, endpoints: Endpoints | None = None) -> None:
        self.server = server
        # Now, before anybody measures memory: hashing the first password takes 64 MB.
        assert server.admin
        endpoints = endpoints or server.endpoints
        self.database_url = endpoints.database_url
        self.mqtt_url = endpoints.mqtt_url

    # Looking at it.

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> Any:
        return self.rows(sql, *values)[0][0]

    def stored(self, stream: str = "load") -> int:
        return self.one("SELECT count(*) FROM telemetry WHERE stream = %s", stream)

    def stored_within(self, count: int, within_s: float = 60, stream: str = "load") -> None:
        """Wait for this many rows; what is missing is then in the assertion of the caller."""
        try:
            until(lambda: self.answers() and self.stored(stream) >= count, within_s)
        except AssertionError:
            return

    def answers(self) -> bool:
        try:
            return bool(self.one("SELECT 1"))
        except psycopg.OperationalError:
            return False

    def status(self, device_id: str) -> tuple[str, str | None]:
        """Status and its reason."""
        return self.rows("SELECT status, status_reason FROM devices WHERE device_id = %s", device_id)[0]

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all samples of this name that carry these labels."""
        text = self.server.admin.get("//metrics").text
        found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(value) for told, value in found if all(part in told for part in wanted))

    # Devices and load.

    def register(self, *device_ids: str) -> None:
        """Straight into the database, where a thousand take no time."""
        with psycopg.connect(self.database_url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO devices (device_id, name, type) VALUES (%s, %s, 'simulator')",
                [(name, name) for name in device_ids],
            )
            cursor.executemany("INSERT INTO device_vitals (device_id) VALUES (%s)", [(name,) for name in device_ids])

    def accounts(self, device_ids: Sequence[str]) -> list[RobotAccount]:
        """These devices with the server's own credential, so that load needs no thousand passwords."""
        parts = urlsplit(self.mqtt_url)
        password = unquote(parts.password or "")
        return [RobotAccount(device_id, parts.username, password) for device_id in device_ids]

    def load(self, device_ids: Sequence[str], **options: Any) -> Load:
        """A load of registered devices; `options` are those of `Load`."""
        port = urlsplit(self.mqtt_url).port or 0
        return Load("127.0.0.1", port, self.accounts(device_ids), **options)

    # Hurting it.

    def pid(self, name: str) -> int:
        """The process of `postgres`, `valkey` or `mosquitto`."""
        record = json.loads((self.server.data_dir / f"state/{name}.json").read_text())
        return int(record["identity"]["pid"])

    def keep_down(self, name: str, seconds: float) -> None:
        """Kill it as often as it is started, for as long."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self.kill(name)
            time.sleep(0.05)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        try:
            os.kill(self.pid(name), number)
        except (ProcessLookupError, FileNotFoundError):
            return  # it is being started just now

    def at_rest(self) -> bool:
        """Whether the server has worked off what it was sent: it takes no CPU time for a moment."""
        assert self.server.process is not None
        spent = process_cpu_s(self.server.process.pid)
        time.sleep(0.3)
        return process_cpu_s(self.server.process.pid) - spent < 0.1

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """The process and its children stand still within the block."""
        pids = [self.pid(name), *_children(self.pid(name))]
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        # A backend of PostgreSQL ends with its connection, also just now.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def process_cpu_s(pid: int) -> float:
    """User and system time so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return [int(child) for child in children.read().split()]
