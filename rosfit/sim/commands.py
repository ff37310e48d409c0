"""What simulated robots say to commands: they answer `ping` and refuse the rest, which is sooner than silence."""

from __future__ import annotations

from typing import Any

import msgspec

from rosfit.protocol import envelope

REFUSAL = {"code": "SIMULATED", "message": "a simulated robot follows its own script and takes no commands"}


class _Request(msgspec.Struct):
    command_id: str
    correlation_id: str
    command: str


class _Envelope(msgspec.Struct):
    payload: _Request


def answer(device_id: str, message: bytes) -> bytes | None:
    """The payload of `cmd/response`; None for a message that is no command."""
    try:
        request = msgspec.json.decode(message, type=_Envelope).payload
    except msgspec.MsgspecError:
        return None
    end: dict[str, Any] = {"status": "rejected", "error": REFUSAL}
    if request.command == "ping":
        end = {"status": "succeeded"}
    ids = {"command_id": request.command_id, "correlation_id": request.correlation_id}
    return envelope.encode(ids | end, type="response", device_id=device_id, correlation_id=request.correlation_id)
