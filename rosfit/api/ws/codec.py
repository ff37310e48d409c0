"""Messages of a socket as JSON text or, under the subprotocol `rosfit.msgpack`, as MessagePack."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import msgspec

from rosfit.kernel.feed import Event
from rosfit.protocol.envelope import to_wire
from rosfit.protocol.errors import BadMessageError
from rosfit.protocol.numbers import msgpack_from_json

MSGPACK_SUBPROTOCOL = "rosfit.msgpack"

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, BadMessageError)


# A socket remembers those of the commands it follows.
RequestId = Annotated[str, msgspec.Meta(max_length=256)] | int | None


class ClientMessage(msgspec.Struct, frozen=True):
    type: str
    data: dict[str, Any] | None = None
    channel: str | None = None
    request_id: RequestId = None


class _Marked(msgspec.Struct, frozen=True):
    request_id: RequestId = None


class Codec(Protocol):
    def decode(self, data: str | bytes) -> ClientMessage:
        """Raises one of UNREADABLE."""
        ...

    def request_id(self, data: str | bytes) -> str | int | None:
        """That of a message which is not otherwise as it should be."""
        ...

    def encode(self, message: dict[str, Any]) -> str | bytes: ...

    def encode_event(self, event: Event, channel: str, seq: int) -> str | bytes: ...


class JsonCodec:
    _decode = staticmethod(msgspec.json.Decoder(ClientMessage).decode)
    _decode_marked = staticmethod(msgspec.json.Decoder(_Marked).decode)
    _encode = staticmethod(msgspec.json.Encoder().encode)

    def decode(self, data: str | bytes) -> ClientMessage:
        return self._decode(data)

    def request_id(self, data: str | bytes) -> str | int | None:
        try:
            return self._decode_marked(data).request_id
        except UNREADABLE:
            return None

    def encode(self, message: dict[str, Any]) -> str:
        return self._encode(message).decode()

    def encode_event(self, event: Event, channel: str, seq: int) -> str:
        """The event's data is JSON already and is not parsed again."""
        head = self._encode({"type": event.kind, "channel": channel, "timestamp": event.at, "seq": seq})
        return f'{head[:-1].decode()},"data":{event.data.decode()}}}'


class MsgpackCodec:
    _decode = staticmethod(msgspec.msgpack.Decoder(ClientMessage).decode)
    _decode_marked = staticmethod(msgspec.msgpack.Decoder(_Marked).decode)

    def decode(self, data: str | bytes) -> ClientMessage:
        """With `data` as JSON would have it: what MessagePack knows beyond that can be neither kept nor sent on."""
        message = self._decode(_as_bytes(data))
        return msgspec.structs.replace(message, data=to_wire(message.data))

    def request_id(self, data: str | bytes) -> str | int | None:
        try:
            return self._decode_marked(_as_bytes(data)).request_id
        except UNREADABLE:
            return None

    def encode(self, message: dict[str, Any]) -> bytes:
        return msgpack_from_json(msgspec.json.encode(message))

    def encode_event(self, event: Event, channel: str, seq: int) -> bytes:
        data = msgspec.Raw(msgpack_from_json(event.data))
        message = {"type": event.kind, "channel": channel, "timestamp": event.at, "seq": seq, "data": data}
        return msgspec.msgpack.encode(message)


def _as_bytes(data: str | bytes) -> bytes:
    return data if isinstance(data, bytes) else data.encode()


def codec_for(subprotocols: list[str]) -> tuple[Codec, str | None]:
    """The codec a client asks for, and the subprotocol to answer with."""
    if MSGPACK_SUBPROTOCOL in subprotocols:
        return MsgpackCodec(), MSGPACK_SUBPROTOCOL
    return JsonCodec(), None
