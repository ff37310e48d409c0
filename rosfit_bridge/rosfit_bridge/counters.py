"""What happened to messages, since the bridge started."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Counters:
    """Each field is written by one thread, or under the link's lock."""

    received: int = 0
    throttled: int = 0
    failed: int = 0
    sent: int = 0
    acknowledged: int = 0
    spooled: int = 0
    dropped_offline: int = 0
    dropped_slow_link: int = 0
    dropped_spool: int = 0
    too_large: int = 0
    refused: int = 0
    connects: int = 0
    commands: int = 0
    repeated: int = 0
    bad_commands: int = 0
    injected: int = 0
    not_injected: int = 0
    stale: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)
