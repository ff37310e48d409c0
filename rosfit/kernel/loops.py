"""Loops that end when they are told to, whatever a library does with a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from typing import Any

AGAIN_S = 0.5


async def end(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel until all have ended: one that is just handling a lost server can lose the cancellation with it.

    Whoever cancels us meanwhile has to wait for it: a task that stays behind would keep the process from ending.
    """
    left, cancelled = {task for task in tasks if not task.done()}, False
    while left:
        for task in left:
            task.cancel()
        try:
            _, left = await asyncio.wait(left, timeout=AGAIN_S)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


async def run_together(*steps: Awaitable[None]) -> None:
    """Until one of them ends or fails; then the others end, too, and its error is raised.

    A TaskGroup would cancel each of them once.
    """
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(tasks)
        # What the others say when they are ended is of no interest, but asyncio logs what nobody has asked for.
        errors = {task: task.exception() for task in tasks if not task.cancelled()}
    for task in done:
        if error := errors.get(task):
            raise error
