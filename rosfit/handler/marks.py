"""Telling the redelivery of a message that nothing in itself identifies from a new one.

A device that sends no time leaves nothing stored to recognise its message by, and neither does a dead
letter. But a broker sends what was not acknowledged again with its DUP flag and under the same packet id. So the
packet ids of such messages are committed together with them; a redelivery that finds its mark is stored already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rosfit.handler.decode import Parsed
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.ids import uuid7
from rosfit.kernel.work import Work
from rosfit.protocol.envelope import payload_digest
from rosfit.telemetry import repository as telemetry

# Brokers count packet ids up to 65,535 and begin again, so a mark must be gone long before its id is new again.
WINDOW = 4_000
_IDS = 65_535


class SlotTakenError(UnavailableError):
    """Another process has claimed the slot; what this one holds of it will come to that one."""


class Marks:
    """The marks of one slot, as the database has them; only the latest to `claim` a slot can write its marks."""

    def __init__(self, slot: int) -> None:
        self._slot = slot
        self._owner = uuid7().hex
        self._stored: dict[int, str] = {}

    async def claim(self, work: Work) -> None:
        """From the commit of `work` on, whoever had the slot before can commit nothing that needs a mark."""
        await telemetry.claim_marks(work.connection, self._slot, self._owner)
        await self.load(work)

    async def load(self, work: Work) -> None:
        self._stored = await telemetry.marks(work.connection, self._slot)

    def is_known(self, parsed: Parsed) -> bool:
        """Whether a broker's second delivery was committed the first time."""
        return parsed.incoming.dup and self.has(parsed)

    def has(self, parsed: Parsed) -> bool:
        incoming = parsed.incoming
        return incoming.qos > 0 and self._stored.get(incoming.packet_id) == _digest(parsed)

    async def write(self, work: Work, anonymous: Iterable[Parsed], newest_packet_id: int | None) -> None:
        """Commit marks of `anonymous` with `work`, and drop old ones. Raises SlotTakenError."""
        written = {parsed.incoming.packet_id: _digest(parsed) for parsed in anonymous if parsed.incoming.qos}
        dropped = [] if newest_packet_id is None else self._outdated(newest_packet_id)
        if written and not await telemetry.write_marks(work.connection, self._slot, self._owner, written):
            raise SlotTakenError(f"another process has taken ingest slot {self._slot}")
        if dropped:
            await telemetry.drop_marks(work.connection, self._slot, dropped)

        async def remember() -> None:
            self._remember(written, dropped)

        if written or dropped:
            work.then(remember)

    def _outdated(self, newest_packet_id: int) -> list[int]:
        """Marks whose packet id lies so far back that its acknowledgement must have arrived."""
        return [mark for mark in self._stored if (newest_packet_id - mark) % _IDS > WINDOW]

    def _remember(self, written: Mapping[int, str], dropped: Iterable[int]) -> None:
        for packet_id in dropped:
            self._stored.pop(packet_id, None)
        self._stored.update(written)


def _digest(parsed: Parsed) -> str:
    return payload_digest(parsed.incoming.topic.encode() + b"\0" + parsed.incoming.payload)
