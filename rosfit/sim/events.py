"""What happens in a simulation, in order: what robots publish and what becomes of their links.

The same events drive a live run, a recording and its replay.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Publish(msgspec.Struct, frozen=True, tag="publish", omit_defaults=True):
    """One message. `at` and `sampled_at` are seconds since the session began.

    `payload` goes into an envelope; `data`, instead, is sent as it stands (frames, malformed messages).
    """

    at: float
    device_id: str
    row: str
    message_id: str = ""
    seq: int = 0
    sampled_at: float = 0.0
    payload: dict[str, Any] | None = None
    data: bytes | None = None
    qos: int = 1
    content_type: str | None = None


class Link(msgspec.Struct, frozen=True, tag="link"):
    """`up` connects; `drop` cuts the connection without a word, so that the will speaks."""

    at: float
    device_id: str
    action: Literal["up", "drop"]


Event = Publish | Link
