"""The few MQTT 5 packets that load needs, written by hand: a client library would cost more than the server."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

CONNACK, PUBLISH, PUBACK, SUBACK, DISCONNECT = 0x20, 0x30, 0x40, 0x90, 0xE0
END = b"\xe0\x00"

_RECEIVE_MAXIMUM = 0x21
# Property identifier → size of its value; 0 stands for text, -1 for a pair of texts, -2 for a variable integer.
_PROPERTY_SIZES = {
    0x11: 4, 0x12: 0, 0x13: 2, 0x15: 0, 0x16: 0, 0x1A: 0, 0x1C: 0, 0x1F: 0, 0x21: 2, 0x22: 2,
    0x24: 1, 0x25: 1, 0x26: -1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip


class WireError(Exception):
    """The broker refused, or said something that is no MQTT 5."""


def parse_url(url: str) -> tuple[str, int, str | None, str | None]:
    """`mqtt://user:password@host:port` as (host, port, user, password)."""
    parts = urlsplit(url)
    if parts.scheme != "mqtt" or not parts.hostname:
        raise WireError("the broker's address must look like mqtt://user:password@host:1883")
    user = unquote(parts.username) if parts.username else None
    return parts.hostname, parts.port or 1883, user, unquote(parts.password) if parts.password else None


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def connect(
    client_id: str,
    username: str | None,
    password: str | None,
    *,
    clean_start: bool = True,
    session_expiry_s: int = 0,
    receive_maximum: int = 65_535,
) -> bytes:
    """CONNECT without keep-alive: load is never silent for long, and who calls watches for stalls."""
    flags = (0x02 if clean_start else 0) | (0x80 if username else 0) | (0x40 if password else 0)
    properties = struct.pack(">BIBH", 0x11, session_expiry_s, _RECEIVE_MAXIMUM, receive_maximum)
    body = text("MQTT") + bytes([5, flags]) + b"\0\0" + varint(len(properties)) + properties + text(client_id)
    body += (text(username) if username else b"") + (text(password) if password else b"")
    return b"\x10" + varint(len(body)) + body


def subscribe(packet_id: int, topic_filter: str, qos: int) -> bytes:
    body = struct.pack(">HB", packet_id, 0) + text(topic_filter) + bytes([qos])
    return b"\x82" + varint(len(body)) + body


def publish(topic: str, payload: bytes, qos: int = 0, packet_id: int = 1, properties: bytes = b"") -> bytes:
    """One whole PUBLISH; the publisher under load builds the same bytes from prepared parts."""
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
    body += varint(len(properties)) + properties + payload
    return bytes([PUBLISH | qos << 1]) + varint(len(body)) + body


def packets(data: bytearray) -> Iterator[tuple[int, memoryview]]:
    """Each whole packet at the front of `data` as (first byte, body); what is left stays in `data`."""
    view, start, end = memoryview(bytes(data)), 0, len(data)
    while start + 2 <= end:
        length, cursor, shift = 0, start + 1, 0
        while cursor < end:
            byte = view[cursor]
            length |= (byte & 127) << shift
            cursor, shift = cursor + 1, shift + 7
            if byte < 128:
                break
        else:
            break
        if cursor + length > end:
            break
        yield view[start], view[cursor : cursor + length]
        start = cursor + length
    del data[:start]


def receive_maximum_of(connack: memoryview) -> int:
    """What a CONNACK body allows in flight. Raises WireError with the reason code if it refuses."""
    if connack[1] != 0:
        raise WireError(f"the broker refused the connection with reason code 0x{connack[1]:02x}")
    cursor, end = 3, 3 + connack[2]
    while cursor < end:
        kind, cursor = connack[cursor], cursor + 1
        if kind == _RECEIVE_MAXIMUM:
            return int.from_bytes(connack[cursor : cursor + 2], "big")
        cursor = _after_property(connack, kind, cursor)
    return 65_535


def _after_property(body: memoryview, kind: int, cursor: int) -> int:
    size = _PROPERTY_SIZES[kind]
    for _ in range(2 if size == -1 else 1):
        cursor += size if size > 0 else 2 + int.from_bytes(body[cursor : cursor + 2], "big")
    return cursor
