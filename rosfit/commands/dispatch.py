"""Publishing pending commands in order, and ending those whose time has run out. One process does it at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import structlog

from rosfit.commands import repository, service, tasks
from rosfit.commands.models import ToPublish
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.ports import Publisher
from rosfit.kernel.work import Work
from rosfit.protocol import envelope
from rosfit.protocol.layouts import LayoutError, Layouts
from rosfit.protocol.topics import SHORT_FORM, device_topic

log = structlog.get_logger(__name__)

# Few enough that an urgent command waits for one batch only, some milliseconds.
BATCH = 64
OVERDUE_BATCH = 200

OpenWork = Callable[[], AbstractAsyncContextManager[Work]]


def mapped_topic(layouts: Layouts, device_id: str, row: str, remembered: dict[str, str] | None) -> str | None:
    """A device of another layout is reached through it, where it has the row."""
    try:
        return layouts.outbound(device_id, row, remembered)
    except LayoutError as error:
        log.warning("layout_has_no_way_back", device_id=device_id, why=error.detail)
        return None


class Dispatcher:
    def __init__(self, open_work: OpenWork, publisher: Publisher, layouts: Layouts) -> None:
        self._open_work = open_work
        self._publisher = publisher
        self._layouts = layouts

    async def run(self, wake_ups: AsyncIterator[None]) -> None:
        """Until cancelled: at each wake-up, publish everything that can be published."""
        async for _ in wake_ups:
            try:
                await self.round()
            except UnavailableError as error:
                log.warning("commands_wait", why=error.detail)
            except Exception:
                # A fault of ours must not end the loop: the commands stay pending and are tried again.
                log.exception("dispatch_failed")

    async def round(self) -> None:
        async with self._open_work() as work:
            if not await repository.anything_open(work.connection):
                return
        await self.end_overdue()
        await self._schedule_tasks()
        while await self.publish_batch():
            await self.end_overdue()

    async def _schedule_tasks(self) -> None:
        try:
            async with self._open_work() as work:
                await tasks.schedule(work)
        except UnavailableError:
            raise
        except Exception:
            # A fault of ours with some task must not hold up commands, an emergency stop among them.
            log.exception("scheduling_failed")

    async def publish_batch(self) -> bool:
        """Publish the next few; False when none waits. Those that were not acknowledged are tried again."""
        async with self._open_work() as work:
            batch = await repository.take_publishable(work.connection, BATCH)
        if not batch:
            return False
        outcomes = await asyncio.gather(*(self._publish(one) for one in batch), return_exceptions=True)
        published = [one for one, error in zip(batch, outcomes, strict=True) if error is None]
        async with self._open_work() as work:
            await repository.mark_published(work.connection, [one.command_id for one in published])
            for one in published:
                await service.mark_delivered(work, one.device_id, one.command_id, one.command)
        for error in outcomes:
            if error is not None:
                raise error
        return len(batch) == BATCH

    async def _publish(self, one: ToPublish) -> None:
        deadline = now() + timedelta(seconds=one.timeout_s)
        payload = {
            "command_id": one.command_id,
            "correlation_id": one.correlation_id,
            "command": one.command,
            "data": one.data,
            "expires_at": format_time(deadline),
        }
        message = envelope.encode(
            payload,
            type="command",
            device_id=one.device_id,
            # The same id at every try, so that a repetition is seen to be one.
            message_id=one.command_id,
            correlation_id=one.correlation_id,
        )
        short = one.device_type in SHORT_FORM
        await self._publisher.publish(
            self._topic(one, short),
            message,
            qos=1,
            expiry_s=max(1, round(one.timeout_s)),
            content_type=envelope.JSON,
            response_topic=device_topic(one.device_id, "command/response" if short else "cmd/response"),
            correlation_data=one.correlation_id.encode(),
        )

    def _topic(self, one: ToPublish, short: bool) -> str:
        mapped = mapped_topic(self._layouts, one.device_id, f"cmd/{one.command}", one.layout)
        return mapped or device_topic(one.device_id, "command" if short else "cmd/request")

    async def end_overdue(self) -> None:
        while True:
            async with self._open_work() as work:
                if await service.end_overdue(work, OVERDUE_BATCH) < OVERDUE_BATCH:
                    return
