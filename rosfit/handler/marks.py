"""Telling the redelivery of an anonymous message from a new one.

A device that sends neither an id nor a time leaves nothing to recognise its message by. But a broker sends what
was not acknowledged again with its DUP flag and under the same packet id. So the packet ids of such messages are
committed together with them; a redelivery that finds its mark is stored already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rosfit.handler.decode import Parsed
from rosfit.protocol.envelope import payload_digest

# Brokers count packet ids up to 65,535 and begin again, so a mark must be gone long before its id is new again.
WINDOW = 4_000
_IDS = 65_535


class Marks:
    """The marks of one slot, as the database has them."""

    def __init__(self, slot: int, stored: Mapping[int, str]) -> None:
        self.slot = slot
        self._stored = dict(stored)

    def is_known(self, parsed: Parsed) -> bool:
        incoming = parsed.incoming
        return (
            incoming.dup
            and parsed.is_anonymous
            and incoming.packet_id in self._stored
            and self._stored[incoming.packet_id] == self._digest(parsed)
        )

    @staticmethod
    def _digest(parsed: Parsed) -> str:
        return payload_digest(parsed.incoming.topic.encode() + b"\0" + parsed.incoming.payload)

    def to_write(self, batch: Iterable[Parsed]) -> dict[int, str]:
        return {parsed.incoming.packet_id: self._digest(parsed) for parsed in batch if parsed.is_anonymous}

    def to_drop(self, newest_packet_id: int) -> list[int]:
        """Marks whose packet id lies so far back that its acknowledgement must have arrived."""
        if not self._stored:
            return []
        return [mark for mark in self._stored if (newest_packet_id - mark) % _IDS > WINDOW]

    def committed(self, written: Mapping[int, str], dropped: Iterable[int]) -> None:
        for packet_id in dropped:
            self._stored.pop(packet_id, None)
        self._stored.update(written)
