"""What a stranger's browser, proxy or slow client may do at the edge of the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from websockets.sync.client import connect

from rosfit.api import slow_clients
from rosfit.settings import SettingsError, load_settings
from tests.edges.conftest import FRIEND, PROXY_ADDRESS, ClientFrom
from tests.server import PASSWORD, Client, RunningServer, until

MIB = 1024 * 1024


def preflight(client: Client, origin: str) -> httpx.Response:
    asks = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,if-match"}
    return client.request("OPTIONS", "/devices", headers={"Origin": origin, **asks})


# ── CORS ──


def test_a_named_origin_may_call_the_api(admin: Client) -> None:
    asked = preflight(admin, FRIEND)
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "PATCH" in asked.headers["Access-Control-Allow-Methods"]
    answer = admin.get("/devices", headers={"Origin": FRIEND})
    assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_an_error_is_readable_for_a_named_origin(server: RunningServer) -> None:
    answer = server.anonymous().get("/devices", headers={"Origin": FRIEND})
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == FRIEND


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{FRIEND}.evil.example", FRIEND.upper() + "x"])
def test_other_origins_may_not(admin: Client, origin: str) -> None:
    assert "Access-Control-Allow-Origin" not in preflight(admin, origin).headers
    assert "Access-Control-Allow-Origin" not in admin.get("/devices", headers={"Origin": origin}).headers


@pytest.mark.parametrize("origins", ["*", "https://*.example.com", "example.com", "https://a.example/path", "ftp://a"])
def test_wildcards_and_what_is_no_origin_are_refused(monkeypatch: pytest.MonkeyPatch, origins: str) -> None:
    monkeypatch.setenv("ROSFIT_CORS_ORIGINS", origins)
    with pytest.raises(SettingsError, match=r"cors_origins .*without wildcards"):
        load_settings()


# ── WebSocket origins ──


def test_the_session_counts_for_sockets_of_own_pages_only(server: RunningServer, client_from: ClientFrom) -> None:
    """A site that is named for CORS must send a token: the cookie is not its own."""
    email = f"{secrets.token_hex(4)}@example.com"
    server.admin.made("/users", {"email": email, "password": PASSWORD, "role": "operator"})
    page = client_from().post("//sign-in", data={"email": email, "password": PASSWORD})
    cookie = {"Cookie": f"rosfit_session={page.cookies['rosfit_session']}"}
    for origin, code in {server.url: "DEVICE_NOT_FOUND", FRIEND: "AUTH_REQUIRED"}.items():
        url = f"{server.websocket_url}/teleop/none-such"
        with connect(url, origin=origin, additional_headers=cookie) as ws:  # type: ignore[arg-type]
            ws.send("{}")
            assert json.loads(ws.recv(10))["data"]["code"] == code


def opens(server: RunningServer, admin: Client, origin: str | None) -> bool:
    """Whether a socket opens and its owner is let in; False when the handshake is refused with 403."""
    options = {} if origin is None else {"origin": origin}
    try:
        with connect(f"{server.websocket_url}?token={admin.token}", **options) as ws:
            return bool(json.loads(ws.recv(10))["type"] == "auth_result")
    except websockets.InvalidStatus as refused:
        if refused.response.status_code != 403:
            raise
        return False


def test_programs_and_own_pages_open_sockets(server: RunningServer, admin: Client) -> None:
    assert opens(server, admin, None)
    assert opens(server, admin, server.url)
    assert opens(server, admin, FRIEND)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example"]
)
def test_a_foreign_page_opens_no_socket(server: RunningServer, admin: Client, origin: str) -> None:
    """Even with a good token: a page of another site has no business with it."""
    assert not opens(server, admin, origin)


# ── Proxies ──


def logged_request(server: RunningServer, request_id: str) -> dict[str, object]:
    def find() -> dict[str, object] | None:
        lines = [line for line in server.log_text().splitlines() if request_id in line]
        return json.loads(lines[0]) if lines else None

    found = until(find)
    assert found is not None
    return found


def forwarded(client: Client) -> tuple[str, httpx.Response]:
    request_id = secrets.token_hex(8)
    headers = {"X-Forwarded-For": "192.0.2.9, 203.0.113.7", "X-Forwarded-Proto": "https", "X-Request-Id": request_id}
    return request_id, client.get("/auth/me", headers=headers)


def test_a_strangers_forwarded_headers_are_ignored(server: RunningServer, client_from: ClientFrom) -> None:
    """Neither the address in the log nor the scheme can be chosen."""
    request_id, answer = forwarded(client_from("127.0.0.77"))
    assert logged_request(server, request_id)["address"] == "127.0.0.77"
    assert "Strict-Transport-Security" not in answer.headers


def test_a_trusted_proxys_forwarded_headers_count(server: RunningServer, client_from: ClientFrom) -> None:
    """The last address that is no proxy of ours: what stands before it is the client's own word."""
    request_id, answer = forwarded(client_from(PROXY_ADDRESS))
    assert logged_request(server, request_id)["address"] == "203.0.113.7"
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")


def test_the_session_cookie_is_secure_behind_tls(server: RunningServer, admin: Client, client_from: ClientFrom) -> None:
    email = f"lin-{secrets.token_hex(4)}@example.com"
    admin.made("/auth/register", {"email": email, "password": "a long password", "name": "", "role": "viewer"})
    form = {"email": email, "password": "a long password"}
    plain = client_from().post("//sign-in", data=form).headers["Set-Cookie"]
    behind = client_from(PROXY_ADDRESS).post("//sign-in", data=form, headers={"X-Forwarded-Proto": "https"})
    assert "HttpOnly" in plain
    assert "Secure" not in plain
    assert "Secure" in behind.headers["Set-Cookie"]


# ── Limits ──


def test_too_large_a_body_is_refused_as_a_problem(admin: Client) -> None:
    answer = admin.post("/devices", content=b"x" * (10 * MIB + 1), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "TOO_LARGE"


def test_a_body_of_unknown_length_is_counted(admin: Client) -> None:
    """Chunks announce no length, so they are counted as they come."""

    def chunks() -> Iterator[bytes]:
        for _ in range(11):
            yield b" " * MIB

    try:
        answer = admin.post("/devices", content=chunks(), headers={"Content-Type": "application/json"})
    except httpx.WriteError:
        return  # the refusal closed the connection while the client was still writing
    assert answer.status_code == 413


def raw(server: RunningServer, data: bytes, within_s: float = 5) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=within_s) as connection:
        connection.sendall(data)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while chunk := connection.recv(65536):
                answer += chunk
        return answer


def test_headers_that_are_too_large_are_refused(server: RunningServer) -> None:
    answer = raw(server, b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Big: " + b"x" * 33_000)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"HEADERS_TOO_LARGE" in answer


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"\r\n\0\r\n\r\n"]
)
def test_what_is_not_http_is_refused(server: RunningServer, data: bytes) -> None:
    head, _, body = raw(server, data + b"\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    request_id = json.loads(body)["request_id"]
    assert f"x-request-id: {request_id}".encode() in head
    until(lambda: request_id in server.log_text())


@pytest.mark.parametrize("extra", [b"X-Long: " + b"x" * 9_000 + b"\r\n", b"X-Many: x\r\n" * 200])
def test_an_upgrade_that_cannot_be_read_is_refused_and_not_left_waiting(server: RunningServer, extra: bytes) -> None:
    head = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    answer = raw(server, head + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + extra + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


@pytest.mark.parametrize("path", ["..%2f..%2fpyproject.toml", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "app.css%00"])
def test_static_files_are_those_of_their_folder(server: RunningServer, path: str) -> None:
    assert server.anonymous().get(f"//static/{path}").status_code == 404


@pytest.mark.parametrize("path", ["/setup", "/sign-in", "/api/v1/auth/login", "/api/v1/auth/token"])
def test_public_forms_that_trickle_in_leave_the_database_to_others(
    server: RunningServer, admin: Client, path: str
) -> None:
    """More of them than there are database connections."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 100\r\n"
    head += f"Content-Type: application/{'json' if 'login' in path else 'x-www-form-urlencoded'}\r\n\r\na"
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            slow.sendall(head.encode())
        assert admin.get("/devices", timeout=5).status_code == 200


async def test_headers_that_trickle_in_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header now and then does not push the deadline back (shortened, on a server of the same protocol)."""
    monkeypatch.setattr(slow_clients, "HEADERS_WITHIN_S", 0.5)
    async with small_server() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
        began, ended = time.monotonic(), asyncio.ensure_future(reader.read())
        while not (await asyncio.wait({ended}, timeout=0.1))[0]:
            writer.write(b"X: y\r\n")
            assert time.monotonic() - began < 5
        assert time.monotonic() - began >= 0.5
        writer.close()


async def test_a_body_that_stops_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that goes on, however slowly, does not (pauses shortened, on a server of the same protocol)."""
    monkeypatch.setattr(slow_clients, "BODY_PAUSE_S", 0.4)
    async with small_server() as port:
        assert await upload(port, pauses=[0.2] * 4) == b"HTTP/1.1 200 OK"
        assert await upload(port, pauses=[0.1, 2.0]) == b""


@contextlib.asynccontextmanager
async def small_server() -> AsyncIterator[int]:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(app, port=0, http=slow_clients.ImpatientProtocol, lifespan="off", log_config=None)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


async def upload(port: int, pauses: list[float]) -> bytes:
    """The status line of the answer to a body sent in pieces; empty when the server hung up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = len(pauses)
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length)
    with contextlib.suppress(ConnectionError):
        for pause in pauses:
            await asyncio.sleep(pause)
            writer.write(b"x")
            await writer.drain()
    line = await reader.readline()
    writer.close()
    return line.strip()
