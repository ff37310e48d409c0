"""Everybody against every message and channel of `/ws`, and the stick of `/ws/teleop`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.accounts.cast import KEYS, PEOPLE, Cast, Somebody
from tests.server import RunningServer

# What each channel needs, with a device or a wildcard.
CHANNELS = {
    "telemetry:{device}": "telemetry:read",
    "telemetry:*": "telemetry:read",
    "telemetry:{device}:odom": "telemetry:read",
    "logs:{device}": "telemetry:read",
    "status:{device}": "devices:read",
    "status:*": "devices:read",
    "shadow:{device}": "devices:read",
    "shadow:*": "devices:read",
    "commands:{device}": "devices:read",
    "commands:*": "devices:read",
    "params:{device}": "devices:read",
    "ota:dep_1": "devices:read",
    "ota:*": "devices:read",
    "alerts:*": "devices:read",
}


def ask(socket: ClientConnection, type_: str, **fields: Any) -> str:
    """The type of the answer, or the code of the refusal."""
    socket.send(json.dumps({"type": type_, **fields}))
    answer = json.loads(socket.recv(5))
    return answer["data"]["code"] if answer["type"] == "error" else answer["type"]


def close_code(socket: ClientConnection) -> int | None:
    try:
        while True:
            socket.recv(5)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


def signed_in(somebody: Somebody) -> ClientConnection:
    url = somebody.client.origin.replace("http", "ws", 1)
    return connect(f"{url}/ws?token={somebody.client.token}")


@pytest.mark.parametrize("name", [*PEOPLE, *KEYS])
def test_channels_and_commands(cast: Cast, name: str) -> None:
    somebody = cast.get(name)
    with signed_in(somebody) as socket:
        assert json.loads(socket.recv(5))["type"] == "auth_result"
        for channel, right in CHANNELS.items():
            wanted = "subscribed" if right in somebody.rights else "PERMISSION_DENIED"
            assert ask(socket, "subscribe", channel=channel.format(device="red-1")) == wanted, f"{name}: {channel}"
            if somebody.limited and "{device}" in channel and wanted == "subscribed":
                assert ask(socket, "subscribe", channel=channel.format(device="blue-1")) == "INVALID_CHANNEL", channel
        may_command = "commands:write" in somebody.rights
        unknown = ask(socket, "command", data={"device_id": "none-such", "command": "beep"})
        assert unknown == ("DEVICE_NOT_FOUND" if may_command else "PERMISSION_DENIED")
        if somebody.limited:
            assert ask(socket, "command", data={"device_id": "blue-1", "command": "beep"}) == unknown
        assert ask(socket, "command", data={"nonsense": True}) == (
            "INVALID_MESSAGE" if may_command else "PERMISSION_DENIED"
        )
        assert ask(socket, "ping") == "pong"


@pytest.mark.parametrize("type_", ["subscribe", "unsubscribe", "command", "ping", "nonsense"])
def test_nothing_but_auth_is_taken_first(server: RunningServer, type_: str) -> None:
    with connect(server.websocket_url) as socket:
        assert ask(socket, type_, channel="status:*") == "AUTH_REQUIRED"
        assert close_code(socket) == 4401


def test_what_is_no_token_opens_no_socket(server: RunningServer) -> None:
    device_token = server.admin.device_token("red-1")
    for token in ("", "admin", device_token):
        for place in ("/ws", "/ws/teleop/red-1"):
            with connect(server.websocket_url.removesuffix("/ws") + place) as socket:
                assert ask(socket, "auth", data={"token": token}) == "AUTH_REQUIRED"
                assert close_code(socket) == 4401


@pytest.mark.parametrize("name", [*PEOPLE, *KEYS])
def test_the_stick(cast: Cast, name: str) -> None:
    """Devices here are not connected, so who may drive is told that; nobody learns of a device out of reach."""
    somebody = cast.get(name)
    url = somebody.client.origin.replace("http", "ws", 1)
    may = "commands:write" in somebody.rights
    beyond = "DEVICE_NOT_FOUND" if somebody.limited else "DEVICE_OFFLINE"
    for device, code in {"red-1": "DEVICE_OFFLINE", "blue-1": beyond, "none-such": "DEVICE_NOT_FOUND"}.items():
        with connect(f"{url}/ws/teleop/{device}?token={somebody.client.token}") as socket:
            assert json.loads(socket.recv(5))["data"]["code"] == (code if may else "PERMISSION_DENIED"), device
            assert close_code(socket) == 4403
