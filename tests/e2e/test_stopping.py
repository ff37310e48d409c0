"""A stop is heard even by a loop that is just busy with the loss of a server."""

from __future__ import annotations

import asyncio

import pytest

from rosfit.wiring import _end


async def _loses_its_first_cancellation() -> None:
    """A task group that fails while it is cancelled raises the failure and forgets the cancellation."""
    rounds = 0
    while True:
        rounds += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if rounds > 1:
                raise


async def test_a_cancellation_that_got_lost_is_asked_again():
    task = asyncio.create_task(_loses_its_first_cancellation())
    await asyncio.sleep(0)
    await _end([task])
    assert task.cancelled()


async def test_who_is_cancelled_while_ending_loops_waits_for_them():
    """A loop left behind kept the whole process from ending."""
    task = asyncio.create_task(_loses_its_first_cancellation())
    await asyncio.sleep(0)
    ending = asyncio.create_task(_end([task]))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert task.cancelled()
