"""A Mosquitto of the tests' own: on a free port, in a temporary folder, with a session store that survives it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rosfit.infra.embedded import mosquitto_package

READY_S = 10.0


class Broker:
    """Start, stop and kill it as often as needed; port and stored sessions stay."""

    def __init__(self, folder: Path, *, password: str | None = None) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "mosquitto.log"
        self._installed = mosquitto_package.find()
        assert self._installed, "no mosquitto here: run make setup"
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(self._settings(password))

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def _settings(self, password: str | None) -> str:
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'false' if password else 'true'}",
            "set_tcp_nodelay true",
            "max_queued_messages 0",
            "max_inflight_messages 1000",
            "persistence true",
            f"persistence_location {self._folder}/",
            "autosave_interval 1",
            f"user {'root' if os.geteuid() == 0 else 'nobody'}",
        ]
        if password:
            accounts = self._folder / "accounts"
            # Mosquitto takes plain text only through its own tool, which turns it into a hash in place.
            accounts.write_text(f"sim:{password}\n")
            self._hash(accounts)
            lines.append(f"password_file {accounts}")
        return "\n".join(lines) + "\n"

    def _hash(self, accounts: Path) -> None:
        assert self._installed
        tool = self._installed.program.parent.parent / "bin/mosquitto_passwd"
        environment = os.environ | self._installed.environment
        subprocess.run([tool, "-U", accounts], env=environment, check=True, capture_output=True)

    def start(self) -> None:
        assert self._installed
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._installed.program, "-c", self._configuration],
                env=os.environ | self._installed.environment,
                stdout=log,
                stderr=log,
            )
        self._wait_ready()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            assert self._process
            assert self._process.poll() is None, self._log.read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(f"mosquitto does not listen after {READY_S} s: {self._log.read_text()}")

    def freeze(self) -> None:
        """Make it deaf, so that what is sent now stays without an answer."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None


@contextmanager
def running_broker(folder: Path, *, password: str | None = None) -> Iterator[Broker]:
    broker = Broker(folder, password=password)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop(signal.SIGKILL)


def free_port() -> int:
    """A free port below the ephemeral ones; a random one, since several test runs look at the same time."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
