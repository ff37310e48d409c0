"""A real broker, a cable that can be cut, a listener, and the bridge as a process."""

from __future__ import annotations

import glob
import os
import random
import selectors
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent
ROOT = PACKAGE.parent


def find_mosquitto() -> tuple[str, dict[str, str]]:
    """The broker's executable and the environment it needs."""
    unpacked = sorted(glob.glob(str(ROOT / ".venv/share/rosfit/mosquitto/**/usr/sbin/mosquitto"), recursive=True))
    candidates = [os.environ.get("ROSFIT_MOSQUITTO"), shutil.which("mosquitto"), "/usr/sbin/mosquitto", *unpacked]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return candidate, _broker_env(Path(candidate))
    pytest.fail("mosquitto is not installed: run `make setup`, or set ROSFIT_MOSQUITTO to its executable")


def _broker_env(executable: Path) -> dict[str, str]:
    env = clean_env()
    prefix = executable.resolve().parents[2]
    libraries = [*prefix.glob("usr/lib/*-linux-gnu*"), *prefix.glob("lib/*-linux-gnu*")]
    if prefix != Path("/"):
        env["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
    return env


def clean_env() -> dict[str, str]:
    """Without what the ROS wheels set when they restart Python."""
    return {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")}


def free_port() -> int:
    for _ in range(200):
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise RuntimeError("no free port between 20000 and 32000")


def wait_until(condition, timeout_s: float = 20.0, what: str = ""):
    """The first true value of `condition()`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"did not happen within {timeout_s:g} s: {what or condition}")


class Broker:
    def __init__(self, folder: Path, extra: str = "", listener: str = "") -> None:
        self.port = free_port()
        self.conf = folder / "mosquitto.conf"
        head = f"listener {self.port} 127.0.0.1\n{listener}\n"
        options = f"allow_anonymous true\nset_tcp_nodelay true\nuser root\nmax_queued_messages 100000\n{extra}\n"
        self.conf.write_text(head + options)
        self.log = folder / "mosquitto.log"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        executable, env = find_mosquitto()
        with self.log.open("ab") as out:
            self.process = subprocess.Popen([executable, "-c", str(self.conf)], stdout=out, stderr=out, env=env)
        wait_until(self._listening, what=f"the broker listens; {self.log}")

    def _listening(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Listener:
    """What an MQTT 5 subscriber of `rosfit/#` hears, in order."""

    def __init__(self, port: int) -> None:
        self.messages: list[mqtt.MQTTMessage] = []
        self._ready = threading.Event()
        if hasattr(mqtt, "CallbackAPIVersion"):
            self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        else:
            self.client = mqtt.Client(protocol=mqtt.MQTTv5)
        self.client.on_connect = lambda client, *_: client.subscribe("rosfit/#", 1)
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_disconnect = lambda *_: self._ready.clear()
        self.client.on_message = lambda _client, _userdata, message: self.messages.append(message)
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.wait_ready()

    def wait_ready(self) -> None:
        assert self._ready.wait(20), "the listener is not subscribed"

    def of(self, suffix: str, device_id: str = "bot-01") -> list[mqtt.MQTTMessage]:
        return [m for m in list(self.messages) if m.topic == f"rosfit/{device_id}/{suffix}"]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Cable:
    """A TCP connection to the broker that can be cut and mended."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.port = self._listener.getsockname()[1]
        self._whole = threading.Event()
        self._whole.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole.clear()
        for pair in self._pairs:
            for end in pair:
                end.close()
        self._pairs.clear()

    def mend(self) -> None:
        self._whole.set()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                robot, _ = self._listener.accept()
            except OSError:
                return
            if not self._whole.is_set():
                robot.close()
                continue
            threading.Thread(target=self._carry, args=(robot,), daemon=True).start()

    def _carry(self, robot: socket.socket) -> None:
        try:
            broker = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            robot.close()
            return
        for end in (robot, broker):
            # Nagle's algorithm would add 40 ms to what the two ends send at once.
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs.append((robot, broker))
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(robot, selectors.EVENT_READ, broker)
                selector.register(broker, selectors.EVENT_READ, robot)
                while all(self._forward(key) for key, _ in selector.select(0.1)) and robot.fileno() >= 0:
                    pass
        except (OSError, ValueError):
            pass  # cut
        for end in (robot, broker):
            end.close()

    @staticmethod
    def _forward(key: selectors.SelectorKey) -> bool:
        data = key.fileobj.recv(65536)
        key.data.sendall(data)
        return bool(data)


class BridgeProcess:
    """The bridge as a user starts it."""

    def __init__(self, folder: Path, config: str) -> None:
        self.config = folder / "rosfit-bridge.yaml"
        self.config.write_text(config)
        self.log = folder / "bridge.log"
        self.paths: list[str] = []  # of further Python packages
        self.process: subprocess.Popen | None = None

    def start(self) -> BridgeProcess:
        env = {**clean_env(), "PYTHONPATH": os.pathsep.join([str(PACKAGE), *self.paths])}
        command = [sys.executable, str(PACKAGE / "scripts/bridge"), "--config", str(self.config)]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=env)
        return self

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(15)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Politely, so that its readers leave the graph before the next test."""
        if self.process.poll() is None:
            self.terminate()
