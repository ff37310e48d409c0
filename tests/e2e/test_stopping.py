"""A stop is heard even by a loop that is just busy with the loss of a server."""

from __future__ import annotations

import asyncio

from rosfit.wiring import _end


async def test_a_cancellation_that_got_lost_is_asked_again():
    """A task group that fails while it is cancelled raises the failure and forgets the cancellation."""
    rounds = 0

    async def loop() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if rounds > 1:
                    raise

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    await _end([task])
    assert task.cancelled()
