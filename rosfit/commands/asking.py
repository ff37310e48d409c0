"""Asking a device something and waiting for its answer, for callers who cannot follow a command themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from rosfit.commands import service
from rosfit.commands.errors import DeviceDidNotAnswerError, DeviceRefusedError
from rosfit.commands.lifecycle import FINAL
from rosfit.commands.models import Command, NewCommand
from rosfit.kernel.feed import Event, Feed
from rosfit.kernel.work import Work

OpenWork = Callable[[], AbstractAsyncContextManager[Work]]


async def ask(open_work: OpenWork, feed: Feed, device_id: str, new: NewCommand, asked_by: str) -> Command:
    """The command once it has succeeded. Raises DeviceRefusedError or DeviceDidNotAnswerError."""
    ended: asyncio.Queue[str] = asyncio.Queue()

    def offer(event: Event) -> None:
        ended.put_nowait(event.name)

    unsubscribe = feed.subscribe("commands", device_id, offer)
    try:
        async with open_work() as work:
            accepted = await service.send(work, device_id, new, asked_by)
        command = await _follow(open_work, device_id, accepted.command_id, ended)
    finally:
        unsubscribe()
    if command.status == "succeeded":
        return command
    if command.status in {"failed", "rejected"}:
        error = command.error
        raise DeviceRefusedError(f"{error.code}: {error.message}" if error else f"{device_id} did not do it")
    raise DeviceDidNotAnswerError(f"{device_id} gave no answer within {new.timeout_s:g} s ({command.status})")


async def _follow(open_work: OpenWork, device_id: str, command_id: str, ended: asyncio.Queue[str]) -> Command:
    while True:
        async with open_work() as work:
            command = await service.get(work, device_id, command_id)
        if command.status in FINAL:
            return command
        while await ended.get() != command_id:
            pass
