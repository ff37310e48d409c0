"""Answers as JSON, or as MessagePack where `Accept` asks for it."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from litestar import Litestar, Request, Response
from litestar.response.base import ASGIResponse

from rosfit.protocol.envelope import JSON, MSGPACK
from rosfit.protocol.numbers import msgpack_from_json

T = TypeVar("T")


class WireResponse(Response[T]):
    """Structs and raw JSON as they are; MessagePack is made from the JSON, so that both say the same."""

    def render(self, content: Any, media_type: str, enc_hook: Any = None) -> bytes:
        if media_type == MSGPACK:
            return msgpack_from_json(msgspec.json.encode(content))
        if media_type.startswith("application/") and "json" in media_type:
            return msgspec.json.encode(content)
        return super().render(content, media_type, enc_hook or (lambda value: value))

    def to_asgi_response(self, app: Litestar | None, request: Request[Any, Any, Any], **kwargs: Any) -> ASGIResponse:
        if MSGPACK in request.headers.get("accept", "") and self.media_type in {None, JSON}:
            self.media_type = kwargs["media_type"] = MSGPACK
        return super().to_asgi_response(app, request, **kwargs)
