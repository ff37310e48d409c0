"""Why a message cannot be taken. `reason` is what dead letters are counted and filtered by."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "bad_topic",
    "not_json",
    "not_msgpack",
    "wrong_shape",
    "bad_envelope",
    "bad_timestamp",
    "too_large",
    "too_deep",
    "device_mismatch",
    "unknown_device",
    "decommissioned",
    "not_storable",
    "unknown_command",
    "unknown_deployment",
    "no_handler",
]

REASONS: tuple[Reason, ...] = Reason.__args__  # type: ignore[attr-defined]


class BadMessageError(Exception):
    """A message that becomes a dead letter; it never stops the stream."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
