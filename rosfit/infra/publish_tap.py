"""Takes PUBLISH packets out of the byte stream before paho sees it.

paho builds a Properties object per message, which costs two thirds of the loop's time at 10,000 messages/s. What
is read here is the wire of MQTT 5 (OASIS standard, sections 2.1, 2.2 and 3.3), not anything private of paho. All
other packets (CONNACK, SUBACK, PINGRESP, DISCONNECT) pass through to it unchanged.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple

# One read from the socket: some 200 messages of 300 bytes, a few milliseconds of work for the loop.
READ_BYTES = 65_536

_PUBLISH = 0x30
_CONTENT_TYPE = 0x03

# Widths of the properties a PUBLISH may carry, by identifier; the others are text or binary with a length.
_FIXED_WIDTH = {0x01: 1, 0x02: 4, 0x23: 2}
_SUBSCRIPTION_IDENTIFIER = 0x0B
_USER_PROPERTY = 0x26
_LENGTH_PREFIXED = frozenset({_CONTENT_TYPE, 0x08, 0x09})


class Publish(NamedTuple):
    """One PUBLISH as the broker sent it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    content_type: str | None


class MalformedPublishError(OSError):
    """Not MQTT 5; paho takes it for a lost connection, which it is from here on."""


class PublishTap:
    """Stands in for paho's socket. `take` gets each PUBLISH."""

    def __init__(self, raw: Any, take: Callable[[Publish], None]) -> None:
        self._raw = raw
        self._take = take
        self._buffer = bytearray()
        # Bytes at the front of the buffer that belong to a packet for paho.
        self._through = 0
        # When anything came, on the monotonic clock: a sign of the broker's life.
        self.read_at = time.monotonic()

    def recv(self, size: int) -> bytes:
        """Bytes of packets other than PUBLISH; BlockingIOError when there are none."""
        if not self._through:
            self._sift()
        if not self._through:
            self._fill()
            self._sift()
            if not self._through:
                raise BlockingIOError
        count = min(size, self._through)
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._through -= count
        return data

    def pending(self) -> int:
        """What aiomqtt asks of TLS sockets: go on reading while something is buffered for you."""
        beneath = self._raw.pending() if isinstance(self._raw, ssl.SSLSocket) else 0
        return self._through + beneath

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def _fill(self) -> None:
        data = self._raw.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError("the broker closed the connection")
        self._buffer += data
        self.read_at = time.monotonic()

    def _sift(self) -> None:
        """Take every whole PUBLISH from the front; stop at a packet for paho or at an incomplete one."""
        buffer = self._buffer
        at, size = 0, len(buffer)
        while size - at >= 2:
            length, start = _remaining_length(buffer, at + 1)
            if start is None or start + length > size:
                break
            end = start + length
            if buffer[at] & 0xF0 != _PUBLISH:
                del buffer[:at]
                self._through = end - at
                return
            self._take(decode_publish(buffer[at], bytes(buffer[start:end])))
            at = end
        del buffer[:at]


def _remaining_length(data: bytes | bytearray, at: int) -> tuple[int, int | None]:
    """A variable byte integer and where it ends; None when it is not all there."""
    value = shift = 0
    for position in range(at, min(at + 4, len(data))):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    if len(data) - at >= 4:
        raise MalformedPublishError("a length of more than four bytes")
    return 0, None


def decode_publish(first: int, body: bytes) -> Publish:
    """`body` is what follows the fixed header. Raises MalformedPublishError."""
    try:
        qos = first >> 1 & 3
        at = 2 + int.from_bytes(body[:2], "big")
        # Text that is not UTF-8 becomes a topic that nobody knows, and so a dead letter, wherever a broker lets it by.
        topic = body[2:at].decode("utf-8", "replace")
        packet_id = 0
        if qos:
            packet_id = body[at] << 8 | body[at + 1]
            at += 2
        content_type = None
        if body[at]:
            length, start = _remaining_length(body, at)
            if start is None or start + length > len(body):
                raise MalformedPublishError("properties are cut off")
            at = start + length
            content_type = _content_type(body[start:at])
        else:
            at += 1
        return Publish(topic, body[at:], qos, bool(first & 1), bool(first & 8), packet_id, content_type)
    except IndexError as error:
        raise MalformedPublishError(f"not a PUBLISH of MQTT 5 ({error})") from error


def _content_type(properties: bytes) -> str | None:
    at = 0
    while at < len(properties):
        identifier = properties[at]
        at += 1
        if identifier in _FIXED_WIDTH:
            at += _FIXED_WIDTH[identifier]
        elif identifier == _SUBSCRIPTION_IDENTIFIER:
            _, end = _remaining_length(properties, at)
            at = end if end is not None else len(properties)
        elif identifier == _USER_PROPERTY:
            at = _after_text(properties, _after_text(properties, at))
        elif identifier in _LENGTH_PREFIXED:
            end = _after_text(properties, at)
            if identifier == _CONTENT_TYPE:
                return properties[at + 2 : end].decode("utf-8", "replace")
            at = end
        else:
            raise MalformedPublishError(f"property {identifier:#x} has no place in a PUBLISH")
    return None


def _after_text(data: bytes, at: int) -> int:
    return at + 2 + (data[at] << 8 | data[at + 1])
