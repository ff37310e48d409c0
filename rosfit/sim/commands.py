"""What simulated robots do at people's word: they are driven, stopped and let go on, and refuse what is not theirs."""

from __future__ import annotations

from typing import Any

import msgspec

from rosfit.protocol import envelope
from rosfit.sim.remote import Remote, Velocity

REFUSAL = {"code": "SIMULATED", "message": "a simulated robot knows ping, emergency_stop and resume only"}
REPLAYED = {"code": "SIMULATED", "message": "a recorded robot does what it did then"}

_NAMES = ("ping", "emergency_stop", "resume")
OFFERS = {"commands": [{"name": name, "kind": "builtin", "type": f"sim/{name}", "request": {}} for name in _NAMES]}


class _Request(msgspec.Struct):
    command_id: str
    correlation_id: str
    command: str


class _Envelope(msgspec.Struct):
    payload: _Request


class _Linear(msgspec.Struct):
    x: float


class _Angular(msgspec.Struct):
    z: float


class _Twist(msgspec.Struct):
    linear: _Linear
    angular: _Angular


class _Driving(msgspec.Struct):
    payload: _Twist


def answer(device_id: str, message: bytes, remote: Remote | None) -> bytes | None:
    """The payload of `cmd/response`; None for a message that is no command. Without a remote it is a recorded robot."""
    try:
        request = msgspec.json.decode(message, type=_Envelope).payload
    except msgspec.MsgspecError:
        return None
    ids = {"command_id": request.command_id, "correlation_id": request.correlation_id}
    end = _obey(request.command, remote)
    return envelope.encode(ids | end, type="response", device_id=device_id, correlation_id=request.correlation_id)


def _obey(command: str, remote: Remote | None) -> dict[str, Any]:
    if command == "ping":
        return {"status": "succeeded"}
    if remote is None:
        return {"status": "rejected", "error": REPLAYED}
    match command:
        case "list_graph":
            return {"status": "succeeded", "result": OFFERS}
        case "emergency_stop":
            remote.stop()
        case "resume":
            remote.resume()
        case _:
            return {"status": "rejected", "error": REFUSAL}
    return {"status": "succeeded"}


def velocity(message: bytes) -> Velocity | None:
    """What `cmd/cmd_vel` asks for; None for what is no twist."""
    try:
        twist = msgspec.json.decode(message, type=_Driving).payload
    except msgspec.MsgspecError:
        return None
    return twist.linear.x, twist.angular.z
