"""A RabbitMQ that asks RosFit, in a network namespace of its own: it opens ports on every address there is.

`python -m tests.access.rabbitmq` plays the scenes and prints their outcomes as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from rosfit.infra.embedded import debian_packages
from tests.access.beside import HOOK_TOKEN
from tests.access.mqtt import RefusedError, Session
from tests.server import RunningServer, running_server, server_folder, until

PORT = 1884
# The will of robot b, heard when it is lost.
LAST = ("rosfit/b/log", b"last", 1)
# RabbitMQ's own account, which it takes from loopback only.
GUEST = {"username": "guest", "password": "guest"}


def in_a_namespace() -> dict[str, str]:
    """What became of each scene."""
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    inside = f"ip link set lo up && exec {sys.executable} -m tests.access.rabbitmq"
    command = ["unshare", *rights, "--net", "sh", "-c", inside]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stderr[-4000:]
    outcomes: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return outcomes


@contextlib.contextmanager
def running_rabbitmq(folder: Path, rosfit_port: int) -> Iterator[None]:
    tree = Path(sysconfig.get_path("data")) / "share/rosfit/rabbitmq-server"
    asks = f"http://127.0.0.1:{rosfit_port}/api/v1/mqtt/rabbitmq"
    (folder / "rabbitmq.conf").write_text(
        "auth_backends.1 = internal\nauth_backends.2 = http\nauth_http.http_method = post\n"
        + "".join(f"auth_http.{name}_path = {asks}/{name}/{HOOK_TOKEN}\n" for name in _QUESTIONS)
        + f"mqtt.listeners.tcp.default = {PORT}\nmqtt.allow_anonymous = false\n"
    )
    (folder / "plugins").write_text("[rabbitmq_auth_backend_http,rabbitmq_mqtt].\n")
    programs = (
        next(tree.glob("usr/lib/erlang/erts-*/bin/epmd")),
        *tree.glob("usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server"),
    )
    with (folder / "rabbitmq.log").open("w") as log, contextlib.ExitStack() as stack:
        started = [stack.enter_context(_running(program, _environment(tree, folder), log)) for program in programs]
        until(lambda: _listens() or started[-1].poll() is not None, within_s=60)
        assert started[-1].poll() is None, (folder / "rabbitmq.log").read_text()[-3000:]
        yield


@contextlib.contextmanager
def _running(program: Path, environment: dict[str, str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([program], env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


_QUESTIONS = ("user", "vhost", "resource", "topic")


def fetch() -> None:
    """Debian's package, unpacked into the virtual environment once; not within the namespace, which has no network."""
    tree = Path(sysconfig.get_path("data")) / "share/rosfit/rabbitmq-server"
    if not tree.exists():
        debian_packages.unpack("rabbitmq-server", tree)
    # Debian's Erlang knows no other place than the one it is installed to.
    erl = tree / "usr/lib/erlang/bin/erl"
    erl.write_text(erl.read_text().replace("=/usr/lib/erlang\n", f"={tree}/usr/lib/erlang\n"))


def _environment(tree: Path, folder: Path) -> dict[str, str]:
    erlang = tree / "usr/lib/erlang"
    return {
        "PATH": f"{erlang}/bin:{os.environ['PATH']}",
        "HOME": str(folder),
        "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
        "LD_LIBRARY_PATH": debian_packages.library_path(tree),
        "RABBITMQ_NODENAME": "rosfit@localhost",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
    }


def _listens() -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT), timeout=1):
        return True
    return False


class Scenes:
    """Robot a, robot b, and what a has no business with. Each scene returns one word."""

    def __init__(self, server: RunningServer) -> None:
        self.admin = server.admin
        self.tokens = {name: self._register(name) for name in ("a", "b")}

    def _register(self, name: str) -> str:
        self.admin.device(name)
        return self.admin.device_token(name)

    def play(self) -> dict[str, str]:
        return {
            "its own password": self.connect("a"),
            "a free client id": self.connect("a", client_id="laptop-7"),
            "a wrong password": self.connect("a", password="wrong"),
            "the password of another": self.connect("a", password=self.tokens["b"]),
            "the client id of another": self.connect("a", client_id="b"),
            "a device that never was": self.connect("nobody", password="x"),
            "publish own telemetry": self.publish("rosfit/a/telemetry/odom"),
            "publish another's telemetry": self.publish("rosfit/b/telemetry/odom"),
            "publish an own command": self.publish("rosfit/a/cmd/request"),
            "retain another's status": self.publish("rosfit/b/status", retain=True),
            "leave a will on its own status": self.will("rosfit/a/status"),
            "leave a will on another's status": self.will("rosfit/b/status"),
            "read own commands": self.read("rosfit/a/cmd/request", "rosfit/a/cmd/request"),
            "read everything of its own": self.read("rosfit/a/#", "rosfit/a/cmd/request"),
            "read another's commands": self.read("rosfit/b/cmd/request", "rosfit/b/cmd/request"),
            "read everything": self.read("#", "rosfit/b/cmd/request"),
            "read through a wildcard": self.read("rosfit/+/cmd/request", "rosfit/b/cmd/request"),
            "after it was revoked": self.revoked(),
        }

    def robot(self, name: str = "a", **options: Any) -> Session:
        given = {"client_id": name, "username": name, "password": self.tokens.get(name)} | options
        return _session(**given)

    def connect(self, name: str, **options: Any) -> str:
        try:
            with self.robot(name, **options):
                return "in"
        except RefusedError:
            return "refused"

    def publish(self, topic: str, *, retain: bool = False) -> str:
        """Whether anybody hears it; who may not publish there loses the connection."""
        with _session(client_id="observer", **GUEST) as observer:
            observer.subscribe("rosfit/#")
            with self.robot() as robot:
                robot._paho.publish(topic, b"1", qos=1, retain=retain)
                until(lambda: robot.lost.is_set() or observer.received, 10)
                return "heard" if topic in observer.topics() else "thrown out"

    def will(self, topic: str) -> str:
        """Whether anybody hears it. The will of another robot that is lost after it shows that no more comes."""
        with _session(client_id="observer", **GUEST) as observer:
            observer.subscribe("rosfit/#")
            with self.robot("a", will=(topic, b"gone", 1)) as robot, self.robot("b", will=LAST) as other:
                robot.drop()
                other.drop()
                until(lambda: LAST[0] in observer.topics(), 10)
            return "heard" if topic in observer.topics() else "unheard"

    def read(self, wanted: str, sent: str) -> str:
        """Whether it gets what is sent to robots there."""
        with self.robot() as robot, _session(client_id="sender", **GUEST) as sender:
            granted: list[Any] = []
            robot._paho.on_subscribe = lambda *about: granted.extend(about[3])
            robot._paho.subscribe(wanted, qos=1)
            until(lambda: granted or robot.lost.is_set(), 10)
            if not granted or granted[0].is_failure:
                return "refused"
            sender.publish(sent, b"1")
            until(lambda: robot.received, 10)
            return "read"

    def revoked(self) -> str:
        for credential in self.admin.got("/devices/a/credentials")["items"]:
            self.admin.delete(f"/devices/a/credentials/{credential['id']}")
        return self.connect("a")


def _session(**options: Any) -> Session:
    return Session(PORT, websocket=False, context=None, protocol=paho.MQTTv311, **options)


def main() -> None:
    with (
        server_folder() as folder,
        running_server(ROSFIT_MQTT_HOOK_TOKEN=HOOK_TOKEN) as server,
        running_rabbitmq(folder, server.port),
    ):
        outcomes = Scenes(server).play()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
