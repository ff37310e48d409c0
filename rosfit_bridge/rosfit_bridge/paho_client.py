"""What differs between paho-mqtt 1.6 (Debian, Ubuntu) and 2.x, and between MQTT 5 and 3.1.1."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from rosfit_bridge import presence
from rosfit_bridge.envelope import Outgoing

_V3_REFUSALS = {
    1: "it does not speak MQTT 3.1.1 as we do",
    2: "the client id is not allowed; check connection.client_id",
    3: "it is not available",
    4: "wrong user name or password; check connection.auth",
    5: "not authorised; check connection.auth",
}
_V5_HINTS = {
    0x84: "; set connection.protocol to 3.1.1",
    0x85: "; check connection.client_id",
    0x86: "; check connection.auth",
    0x87: "; check connection.auth",
}


@dataclass(frozen=True)
class Peer:
    """The broker, and who we are to it. `credentials` is asked anew for every connection: token files rotate."""

    host: str
    port: int
    address: str
    websocket_path: str | None
    version: int
    client_id: str
    keepalive_s: int
    connect_timeout_s: float
    status_topic: str
    credentials: Callable[[], tuple[str | None, str | None]]
    tls: Callable[[], ssl.SSLContext] | None
    session_s: int = 0


@dataclass(frozen=True)
class Refusal:
    value: int
    text: str


@dataclass(frozen=True)
class Connack:
    refusal: str | None
    receive_maximum: int
    maximum_packet_size: int  # 0: no limit known

    @classmethod
    def read(cls, code: Any, properties: Any) -> Connack:
        limits = _limits(properties)
        return cls(_connect_refusal(code), *limits)


def new_client(peer: Peer) -> mqtt.Client:
    client = _bare_client(peer)
    if peer.websocket_path is not None:
        client.ws_set_options(path=peer.websocket_path)
    username, password = peer.credentials()
    if username is not None:
        client.username_pw_set(username, password)
    if peer.tls is not None:
        context = peer.tls()
        client.tls_set_context(context)
        # paho turns check_hostname on unless told, and that turns the verification of the chain on.
        client.tls_insecure_set(not context.check_hostname)
    client.will_set(peer.status_topic, presence.WILL, presence.QOS, presence.RETAIN)
    client.max_inflight_messages_set(0)  # the outbox has its own window
    client.on_socket_open = _on_socket_open
    # With this set, paho writes in loop_write only: so a callback says in which of read and write it happened.
    client.on_socket_register_write = _later
    if hasattr(client, "connect_timeout"):
        client.connect_timeout = peer.connect_timeout_s
    return client


def _bare_client(peer: Peer) -> mqtt.Client:
    transport = "tcp" if peer.websocket_path is None else "websockets"
    clean = {} if peer.version == mqtt.MQTTv5 else {"clean_session": not peer.session_s}
    kind: dict[str, Any] = {"client_id": peer.client_id, "protocol": peer.version, "transport": transport, **clean}
    if hasattr(mqtt, "CallbackAPIVersion"):
        return mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, **kind)
    return mqtt.Client(**kind)


def _on_socket_open(_client: mqtt.Client, _userdata: Any, sock: Any) -> None:
    # Without it Nagle holds a small message back until the broker has acknowledged the last: 40 ms.
    with socket.socket(fileno=os.dup(sock.fileno())) as same:
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if isinstance(sock, _WEBSOCKET):
        sock.send = _whole_frames(sock.send)


def _later(_client: mqtt.Client, _userdata: Any, _sock: Any) -> None:
    """The link looks at want_write() itself."""


_WEBSOCKET: Any = getattr(mqtt, "WebsocketWrapper", None) or mqtt._WebsocketWrapper


def _whole_frames(send: Callable[[bytes], int]) -> Callable[[bytes], int]:
    """paho's WebSocket answers 0 when the socket took part of a frame, and its caller then forgets the packet.

    As BlockingIOError it keeps the packet and offers it again, which is how the wrapper sends the rest.
    """

    def whole(data: bytes) -> int:
        count = send(data)
        if count == 0 and data:
            raise BlockingIOError
        return count

    return whole


def session_of(peer: Peer) -> dict[str, Any]:
    """What `connect` is told of the session in which the broker keeps commands while we are away."""
    if peer.version != mqtt.MQTTv5:
        return {}
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = peer.session_s
    return {"clean_start": not peer.session_s, "properties": properties}


def properties_of(message: Outgoing, version: int) -> Properties | None:
    if version != mqtt.MQTTv5 or not (message.content_type or message.user):
        return None
    properties = Properties(PacketTypes.PUBLISH)
    if message.content_type:
        properties.ContentType = message.content_type
    if message.user:
        properties.UserProperty = list(message.user)
    return properties


def refusal_of(code: Any) -> Refusal | None:
    """What a PUBACK complains of. paho 1.6 does not say, and MQTT 3.1.1 has no such answer."""
    value = getattr(code, "value", code)
    return Refusal(value, str(code)) if isinstance(value, int) and value >= 0x80 else None


def _connect_refusal(code: Any) -> str | None:
    value = getattr(code, "value", code)
    if value == 0:
        return None
    if isinstance(code, int):
        return _V3_REFUSALS.get(code, f"code {code}")
    return f"{code}{_V5_HINTS.get(value, '')}"


def _limits(properties: Any) -> tuple[int, int]:
    receive = getattr(properties, "ReceiveMaximum", 65535)
    packet = getattr(properties, "MaximumPacketSize", 0)
    return receive, packet
