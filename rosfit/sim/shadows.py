"""What simulated robots say to a desired configuration: they have it, at once."""

from __future__ import annotations

from typing import Any

import msgspec


class _Desired(msgspec.Struct):
    state: dict[str, Any]


def report(message: bytes) -> bytes | None:
    """The payload of `shadow/reported`; None for a message that asks for nothing."""
    try:
        desired = msgspec.json.decode(message, type=_Desired)
    except msgspec.MsgspecError:
        return None
    return msgspec.json.encode({"state": desired.state}) if desired.state else None
