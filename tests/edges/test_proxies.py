"""Behind the real Caddy and nginx, with the files that we ship: addresses, sockets, streams, uploads, robots."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import paho.mqtt.client as paho
import pytest
from websockets.sync.client import connect

from tests.edges.proxies import Proxy, running_proxy
from tests.server import ADMIN_EMAIL, PASSWORD, Client, RunningServer, running_server, until

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(ROSFIT_TRUSTED_PROXIES="127.0.0.1") as server:
        assert server.admin
        yield server


@pytest.fixture(scope="module", params=["caddy", "nginx"])
def proxy(
    request: pytest.FixtureRequest, server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy") / request.param
    with running_proxy(request.param, folder, server.port, server.mqtt_ws_port) as proxy:
        yield proxy


@pytest.fixture
def admin(server: RunningServer, proxy: Proxy) -> Client:
    return Client(proxy.url, server.admin.token, verify=proxy.trust)


def test_the_address_is_the_clients_own(server: RunningServer, proxy: Proxy) -> None:
    """What the client says of itself is dropped; the log has what the proxy saw."""
    request_id = secrets.token_hex(8)
    transport = httpx.HTTPTransport(verify=proxy.trust, local_address="127.0.0.42")
    headers = {"X-Forwarded-For": "203.0.113.5", "X-Request-Id": request_id}
    answer = httpx.Client(transport=transport).get(f"{proxy.url}/version", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
    line = until(lambda: [line for line in server.log_text().splitlines() if request_id in line])[0]
    assert json.loads(line)["address"] == "127.0.0.42"


def test_pages_know_that_they_are_behind_tls(proxy: Proxy) -> None:
    form = {"email": ADMIN_EMAIL, "password": PASSWORD}
    same = {"Origin": proxy.url}
    answer = httpx.post(f"{proxy.url}/sign-in", data=form, headers=same, verify=proxy.trust)
    assert answer.status_code == 303, answer.text
    assert "Secure" in answer.headers["Set-Cookie"]


def test_sockets_open_for_own_pages_and_carry_messages(server: RunningServer, proxy: Proxy) -> None:
    device_id = f"bot-{secrets.token_hex(4)}"
    url = f"{proxy.url.replace('https', 'wss')}/ws?token={server.admin.token}"
    with server.robot(device_id) as robot, connect(url, ssl=proxy.trust, origin=proxy.url) as ws:
        assert json.loads(ws.recv(10))["type"] == "auth_result"
        ws.send(json.dumps({"type": "subscribe", "channel": f"telemetry:{device_id}"}))
        assert json.loads(ws.recv(10))["type"] == "subscribed"
        robot.sample("odom", {"x": 1.5})
        message = json.loads(ws.recv(10))
        assert message["data"]["payload"]["x"] == 1.5


def test_live_pages_are_not_buffered(server: RunningServer, proxy: Proxy) -> None:
    """An event of the page's own stream comes when it happens, not when a buffer is full."""
    device_id = f"bot-{secrets.token_hex(4)}"
    client = httpx.Client(base_url=proxy.url, verify=proxy.trust, timeout=10)
    client.post("/sign-in", data={"email": ADMIN_EMAIL, "password": PASSWORD})
    with server.robot(device_id) as robot, client.stream("GET", f"/robots/{device_id}/events") as events:
        assert events.headers["Content-Type"].startswith("text/event-stream")
        chunks = events.iter_text()
        next(chunks)
        robot.sample("odom", {"marker": 4711})
        assert any("4711" in chunk for chunk in chunks)


def test_large_bodies_reach_the_server(admin: Client) -> None:
    """The refusal of 11 MiB is RosFit's own, so the proxies (nginx stops at 1 MiB by default) let it pass."""
    answer = admin.post("/devices", content=b" " * (11 * MIB), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["code"] == "TOO_LARGE"


def test_a_robot_reaches_the_broker_through_port_443(server: RunningServer, proxy: Proxy) -> None:
    device_id = f"bot-{secrets.token_hex(4)}"
    server.admin.device(device_id)
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, transport="websockets", protocol=paho.MQTTv5)
    client.username_pw_set(device_id, server.admin.device_token(device_id))
    client.ws_set_options(path="/mqtt")
    client.tls_set_context(proxy.trust)
    client.connect("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    client.loop_start()
    client.publish(f"rosfit/{device_id}/telemetry/odom", '{"x": 2}', qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
    assert until(lambda: server.admin.got(f"/telemetry/{device_id}/latest")["items"])


# ── streams, with a server that waits to be told ──


class Slow(BaseHTTPRequestHandler):
    """Sends, or takes, a first part, and goes on only when the other side has seen that."""

    go_on: threading.Event
    first_part_came: threading.Event

    def do_GET(self) -> None:
        """A camera stream."""
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        self.wfile.write(b"--frame\r\nfirst\r\n")
        self.go_on.wait(10)
        self.wfile.write(b"--frame\r\nsecond\r\n")

    def do_PUT(self) -> None:
        """An upload."""
        if self.headers.get("Transfer-Encoding"):
            self.rfile.readline()
        self.rfile.read(1024)
        self.first_part_came.set()
        self.close_connection = True
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def slow() -> Iterator[ThreadingHTTPServer]:
    Slow.go_on, Slow.first_part_came = threading.Event(), threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("name", [pytest.param("caddy", marks=pytest.mark.full), "nginx"])
def test_camera_streams_and_uploads_are_not_buffered(name: str, slow: ThreadingHTTPServer, tmp_path: Path) -> None:
    """The first frame is here before the second is made; the first kilobyte is there before the rest is sent."""

    def body() -> Iterator[bytes]:
        yield b"x" * 1024
        assert Slow.first_part_came.wait(10), "the proxy waits for the whole body"
        yield b"x"

    with running_proxy(name, tmp_path / name, slow.server_address[1], 1) as proxy:
        with httpx.stream("GET", f"{proxy.url}/camera", verify=proxy.trust, timeout=5) as answer:
            frames = answer.iter_bytes()
            assert b"first" in next(frames)
            Slow.go_on.set()
            assert b"second" in b"".join(frames)
        assert httpx.put(f"{proxy.url}/upload", content=body(), verify=proxy.trust).status_code == 204
