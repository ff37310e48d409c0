"""Messages that could not be taken: an operator reads them, mends the cause, and has them taken again."""

from __future__ import annotations

from typing import Any

from rosfit.kernel.paging import Page, decode_cursor, page_of
from rosfit.kernel.work import Work
from rosfit.telemetry import repository
from rosfit.telemetry.errors import AlreadyReplayedError, DeadLetterNotFoundError
from rosfit.telemetry.models import DeadLetter

# The newest are kept; a device that sends nothing but rubbish must not fill the disk.
KEEP = 100_000


async def find(
    work: Work, reason: str | None, device_id: str | None, cursor: str | None, limit: int
) -> Page[DeadLetter]:
    """Newest first."""
    key = decode_cursor(cursor, tuple[int])
    rows = await repository.list_dead_letters(work.connection, reason, device_id, key[0] if key else None, limit + 1)
    return page_of(rows, limit, lambda letter: (int(letter.id),))


async def lock(work: Work, letter_id: str) -> dict[str, Any]:
    """The message of a dead letter, held for its replay."""
    number = int(letter_id) if letter_id.isascii() and letter_id.isdigit() and len(letter_id) < 19 else -1
    letter = await repository.lock_dead_letter(work.connection, number)
    if letter is None:
        raise DeadLetterNotFoundError(f"No dead letter {letter_id[:40]!r}; old ones are dropped past {KEEP}")
    if letter["replayed_at"] is not None:
        raise AlreadyReplayedError(f"Dead letter {letter_id} was taken before")
    return letter


async def mark_replayed(work: Work, letter_id: str) -> None:
    await repository.mark_replayed(work.connection, int(letter_id))


async def trim(work: Work) -> int:
    return await repository.trim_dead_letters(work.connection, KEEP)
