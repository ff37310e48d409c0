"""Payloads the server itself reads; telemetry stays as the device sent it."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from rosfit.protocol.errors import BadMessageError


class StatusPayload(msgspec.Struct, frozen=True):
    """Presence as the device (or its will) says it."""

    status: Literal["online", "offline", "error"]
    reason: str | None = None


class LogPayload(msgspec.Struct, frozen=True):
    message: str
    level: str = "info"
    logger: str = ""
    fields: dict[str, Any] = {}


class AlertPayload(msgspec.Struct, frozen=True):
    severity: str = "warning"
    message: str = ""


T = TypeVar("T")


def decode_payload(payload: bytes, shape: type[T]) -> T:
    """`payload` as `shape`. Raises BadMessageError `wrong_shape` naming the field."""
    try:
        return msgspec.json.decode(payload, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessageError("wrong_shape", str(error)) from error
