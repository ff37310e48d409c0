"""Identifiers: time-ordered, unguessable enough to show, short enough to read out."""

from __future__ import annotations

import os
import re
import time
import uuid

DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def is_device_id(text: str) -> bool:
    return DEVICE_ID.fullmatch(text) is not None


def uuid7() -> uuid.UUID:
    """RFC 9562 version 7: 48 bits of Unix milliseconds, then random."""
    value = (time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 2 << 62)


def new_id(prefix: str) -> str:
    """`usr_0198f…`: the prefix names the kind, the rest sorts by creation time."""
    return f"{prefix}_{uuid7().hex}"
