"""A real `rosfit serve` in a folder of its own: started, signed in to, spoken to over REST and MQTT, killed.

with running_server() as server:
    server.admin.post("/devices", json={"device_id": "bot-01"})
    with server.mqtt("bot-01") as robot:
        robot.publish("telemetry/odom", {"x": 1})
"""

from __future__ import annotations

import json
import os
import random
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from rosfit.infra.embedded.mosquitto_package import default_target, fetch, find
from rosfit.infra.embedded.ports import why_taken
from rosfit.settings import Settings
from rosfit.supervisor import Endpoints

ADMIN_EMAIL = "admin@example.com"
PASSWORD = "correct horse battery staple"

# A first start makes a cluster and copies PostgreSQL for the unprivileged user; two busy cores are slow at that.
READY_WITHIN_S = 60
STOP_WITHIN_S = 15

T = TypeVar("T")


def until(condition: Callable[[], T], within_s: float = 10.0) -> T:
    """The first truthy outcome of `condition`; the deadline only ends a failure."""
    deadline = time.monotonic() + within_s
    while not (outcome := condition()):
        assert time.monotonic() < deadline, f"not true within {within_s} s; the last outcome was {outcome!r}"
        time.sleep(0.02)
    return outcome


def free_ports(count: int) -> list[int]:
    """Free loopback ports below the ephemeral ones, at random so that parallel runs rarely meet."""
    found: set[int] = set()
    while len(found) < count:
        port = random.SystemRandom().randrange(10_000, 31_000)
        if why_taken("127.0.0.1", port) is None:
            found.add(port)
    return list(found)


class Client(httpx.Client):
    """REST under /api/v1 with one credential. Paths that begin with `//` are outside of the base."""

    def __init__(self, url: str, token: str | None = None, **options: Any) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        super().__init__(headers=headers | options.pop("headers", {}), timeout=15, **options)
        self.origin = url
        self.token = token

    def request(self, method: str, url: Any, **options: Any) -> httpx.Response:
        path = str(url)
        whole = self.origin + (path[1:] if path.startswith("//") else f"/api/v1{path}")
        return super().request(method, whole, **options)

    def made(self, path: str, body: Any = None, status: int = 201) -> Any:
        """POST that must succeed; the answer."""
        answer = self.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def got(self, path: str, **params: Any) -> Any:
        """GET that must succeed; the answer."""
        answer = self.get(path, params={name.rstrip("_"): value for name, value in params.items()})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def device(self, device_id: str, **fields: Any) -> dict[str, Any]:
        """Register a device."""
        return self.made("/devices", {"device_id": device_id, **fields})

    def device_token(self, device_id: str, **fields: Any) -> str:
        """An MQTT password of a device; its user name is its id."""
        return self.made("/auth/devices/token", {"device_id": device_id, **fields})["token"]


class Robot:
    """An MQTT connection with a device's own credential (plain paho, as a stranger would write it)."""

    def __init__(
        self, port: int, device_id: str, token: str, username: str | None = None, protocol: int = paho.MQTTv5
    ) -> None:
        self.device_id = device_id
        self._paho = client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=protocol)
        client.username_pw_set(username or device_id, token)
        self.codes: list[Any] = []
        self.lost = False
        self.lost_at = 0.0
        client.on_connect = lambda _client, _data, _flags, code, _properties: self.codes.append(code)
        client.on_disconnect = self._on_disconnect
        client.connect("127.0.0.1", port)
        client.loop_start()
        until(lambda: self.codes)
        if self.codes[0].is_failure:
            client.loop_stop()
        assert not self.codes[0].is_failure, f"{device_id}: {self.codes[0]}"

    def publish(
        self,
        row: str,
        payload: Any = None,
        *,
        qos: int = 1,
        retain: bool = False,
        content_type: str | None = None,
        prefix: str | None = None,
    ) -> None:
        """Publish below `rosfit/{device_id}/` and, with QoS, wait for the broker's acknowledgement."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        properties = None
        if content_type is not None:
            properties = Properties(PacketTypes.PUBLISH)
            properties.ContentType = content_type
        topic = row if prefix == "" else f"{prefix or f'rosfit/{self.device_id}/'}{row}"
        sent = self._paho.publish(topic, data, qos=qos, retain=retain, properties=properties)
        if qos:
            sent.wait_for_publish(10)

    def sample(self, stream: str, payload: Any, *, qos: int = 1, **envelope: Any) -> None:
        """One sample in an envelope."""
        self.publish(f"telemetry/{stream}", {"payload": payload, **envelope}, qos=qos)

    def close(self) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()

    def _on_disconnect(self, *_: object) -> None:
        self.lost_at = time.monotonic()
        self.lost = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RunningServer:
    """`rosfit serve --data-dir …` as a process; `admin` is its first user."""

    module = "rosfit.cli"

    def __init__(self, folder: Path, **env: str) -> None:
        self.data_dir = folder / "data"
        self.port, self.mqtt_port, self.mqtt_ws_port = free_ports(3)
        self.url = f"http://127.0.0.1:{self.port}"
        self.websocket_url = f"ws://127.0.0.1:{self.port}/ws"
        self.log = folder / "server.log"
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("ROSFIT_")}
        self._env |= {"ROSFIT_MQTT_WS_PORT": str(self.mqtt_ws_port), "ROSFIT_LOG_FORMAT": "json", **env}
        self.process: subprocess.Popen[str] | None = None
        self._admin: Client | None = None

    # ── the process ──

    def start(self, *arguments: str) -> str:
        """Returns the line that says it is ready."""
        where = ["--data-dir", str(self.data_dir), "--port", str(self.port), "--mqtt-port", str(self.mqtt_port)]
        command = [sys.executable, "-m", self.module, "serve", *where, *arguments]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=self._env)
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], READY_WITHIN_S)
        line = self.process.stdout.readline() if readable else ""
        if "ready" not in line:
            self.process.kill()
            raise AssertionError(f"no ready line but {line!r}; its log ends with:\n{self.log_text()[-4000:]}")
        return line

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> None:
        """SIGKILL; the servers it started stay, for the next start to take over."""
        assert self.process is not None
        self.process.kill()
        self._ended()

    def restart(self) -> None:
        self.stop()
        self.start()

    def environment(self) -> dict[str, str]:
        """Of the server process; for commands that run beside it."""
        return dict(self._env)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def rss_bytes(self) -> int:
        """Resident memory of the server process."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def clean_up(self) -> None:
        """Nothing it started is left behind, even after a kill."""
        if not self.alive and self.process is not None and self.process.returncode not in {0, None}:
            self.start()
        if self.alive:
            self.stop()

    def _ended(self) -> int:
        assert self.process is not None
        code = self.process.wait(STOP_WITHIN_S)
        if self.process.stdout:
            self.process.stdout.close()
        return code

    # ── speaking to it ──

    @property
    def endpoints(self) -> Endpoints:
        """Where its PostgreSQL, Redis and broker are."""
        database_url = self._env.get("ROSFIT_DATABASE_URL")
        return Endpoints.discover(
            Settings(data_dir=self.data_dir, mqtt_port=self.mqtt_port, database_url=database_url)
        )

    @property
    def admin(self) -> Client:
        """The first user, made with the set-up token."""
        if self._admin is None:
            token = (self.data_dir / "setup-token").read_text().strip()
            first = {"email": ADMIN_EMAIL, "password": PASSWORD, "name": "Ada", "role": "admin", "setup_token": token}
            Client(self.url).made("/auth/register", first)
            self._admin = self.signed_in(ADMIN_EMAIL)
        return self._admin

    def user(self, role: str, **limits: Any) -> Client:
        """A new user of a role, signed in."""
        email = f"{role}-{secrets.token_hex(4)}@example.com"
        self.admin.made("/auth/register", {"email": email, "password": PASSWORD, "name": role, "role": role} | limits)
        return self.signed_in(email)

    def signed_in(self, email: str) -> Client:
        answer = Client(self.url).made("/auth/login", {"email": email, "password": PASSWORD}, 200)
        return Client(self.url, answer["access_token"])

    def anonymous(self, **options: Any) -> Client:
        return Client(self.url, **options)

    def mqtt(self, device_id: str, **options: Any) -> Robot:
        """Connect as a registered device."""
        return Robot(self.mqtt_port, device_id, self.admin.device_token(device_id), **options)

    def robot(self, device_id: str, **fields: Any) -> Robot:
        """Register a device and connect as it."""
        self.admin.device(device_id, **fields)
        return self.mqtt(device_id)


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder that the servers' unprivileged user can reach; pytest's own are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="rosfit-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_server(folder: Path | None = None, **env: str) -> Iterator[RunningServer]:
    """A server on free ports, in `folder` (which stays) or in a temporary one. `env` are `ROSFIT_…` settings."""
    if folder is None:
        with server_folder() as temporary, running_server(temporary, **env) as server:
            yield server
        return
    if find() is None:
        fetch(default_target())
    server = RunningServer(folder, **env)
    server.start()
    try:
        yield server
    finally:
        server.clean_up()
