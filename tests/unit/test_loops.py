"""Loops that are ended together, and one among them that loses its cancellation."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

import pytest

from rosfit.kernel.loops import end, run_together


async def loses_one(ended: list[str]) -> None:
    """As a library does that takes a cancellation for a lost connection."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    try:
        await asyncio.sleep(60)
    finally:
        ended.append("it lost one")


async def test_a_lost_cancellation_is_repeated() -> None:
    ended: list[str] = []
    together = asyncio.create_task(run_together(loses_one(ended), loses_one(ended)))
    await asyncio.sleep(0)
    await end({together})
    assert ended == ["it lost one"] * 2
    assert together.cancelled()


async def test_who_is_cancelled_while_ending_loops_waits_for_them() -> None:
    """A loop left behind kept the whole process from ending."""
    ended: list[str] = []
    task = asyncio.create_task(loses_one(ended))
    await asyncio.sleep(0)
    ending = asyncio.create_task(end({task}))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert ended == ["it lost one"]


async def test_the_first_that_fails_ends_the_others_and_is_told() -> None:
    ended: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await run_together(loses_one(ended), fails())
    assert ended == ["it lost one"]


async def test_what_the_others_say_at_their_end_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def complains() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise OSError("gone as well")

    await run_together(asyncio.sleep(0), complains())
    gc.collect()
    assert not caplog.records


async def test_one_that_ends_ends_the_others() -> None:
    ended: list[str] = []
    await run_together(asyncio.sleep(0), loses_one(ended))
    assert ended == ["it lost one"]
