"""One message of `cmd/request`, read and judged."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from rosfit_bridge.down import msgpack_read

# The year 9999.
_LATEST_MS = 253_402_300_800_000


class BadRequestError(Exception):
    """What is wrong with it; `command_id` is known when it can still be answered."""

    def __init__(self, message: str, command_id: str | None = None, correlation_id: str | None = None) -> None:
        super().__init__(message)
        self.command_id, self.correlation_id = command_id, correlation_id


@dataclass(frozen=True)
class Request:
    """`deadline` is a time of the monotonic clock after which it is not to be begun."""

    command_id: str
    correlation_id: str | None
    command: str
    data: dict[str, Any]
    deadline: float | None

    @property
    def expired(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline


def decode(payload: bytes, properties: Any) -> dict[str, Any]:
    """A JSON or MessagePack object, by content type. Raises ValueError."""
    content_type = getattr(properties, "ContentType", "") or ""
    if content_type.partition(";")[0].strip().lower() == "application/msgpack":
        value = msgpack_read.unpack(payload)
    else:
        try:
            value = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"neither JSON nor declared as application/msgpack: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {type(value).__name__}")
    return value


def read(payload: bytes, properties: Any) -> Request:
    try:
        envelope = decode(payload, properties)
    except ValueError as error:
        raise BadRequestError(str(error)) from error
    body = envelope.get("payload", envelope)
    if not isinstance(body, dict):
        raise BadRequestError("payload: expected an object")
    command_id = body.get("command_id")
    if not isinstance(command_id, str) or not 1 <= len(command_id) <= 100:
        raise BadRequestError("command_id: expected text of 1 to 100 characters")
    correlation_id = body.get("correlation_id")
    if correlation_id is not None and not isinstance(correlation_id, str):
        raise BadRequestError("correlation_id: expected text", command_id)
    command, data = body.get("command"), body.get("data")
    if not isinstance(command, str) or not command:
        raise BadRequestError("command: expected text", command_id, correlation_id)
    if data is not None and not isinstance(data, dict):
        raise BadRequestError("data: expected an object", command_id, correlation_id)
    try:
        left = _seconds_left(body.get("expires_at"), envelope.get("timestamp"), properties)
    except ValueError as error:
        raise BadRequestError(str(error), command_id, correlation_id) from error
    deadline = None if left is None else time.monotonic() + left
    return Request(command_id, correlation_id, command, data or {}, deadline)


def _seconds_left(expires_at: Any, sent_at: Any, properties: Any) -> float | None:
    """How long it may still be begun.

    A robot's clock may be years off. The broker counts MQTT's message expiry down, so when it is there, and the
    sender's own times say that the command was alive when sent, the robot's clock is not asked.
    """
    remaining = getattr(properties, "MessageExpiryInterval", None)
    if expires_at is None:
        return remaining
    expiry = seconds_of(expires_at, "expires_at")
    if remaining is not None and sent_at is not None:
        lifetime = expiry - seconds_of(sent_at, "timestamp")
        return min(remaining, lifetime) if lifetime > 0 else lifetime
    return expiry - time.time()


def seconds_of(value: Any, name: str) -> float:
    """Unix seconds of a wire time: RFC 3339, or Unix seconds or milliseconds as a number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LATEST_MS:
        return value / 1000 if abs(value) > 1e11 else float(value)
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value.strip().replace("Z", "+00:00").replace("z", "+00:00"))
        except ValueError as error:
            raise ValueError(f"{name}: expected an RFC 3339 time, got {value[:40]!r}") from error
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)).timestamp()
    raise ValueError(f"{name}: expected an RFC 3339 time, or Unix seconds or milliseconds")
