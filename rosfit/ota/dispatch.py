"""Starting devices whose turn it is, telling them, and ending those that stay silent. One process does it at a time.

A device's place is taken and committed before its trigger is sent, and it becomes `notified` once the broker has the
trigger. A process that dies in between leaves a place that counts, and whose trigger is sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime

import structlog

from rosfit.kernel.clock import now
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.ports import Publisher
from rosfit.kernel.work import OpenWork, Work
from rosfit.ota import device_rows, progress, repository
from rosfit.ota.device_rows import Counts
from rosfit.ota.lifecycle import STEPS
from rosfit.ota.models import Trigger, UpdateError
from rosfit.ota.repository import Locked
from rosfit.ota.rollout import room, why_waiting
from rosfit.ota.targeting import window_of
from rosfit.ota.telling import Notice, tell_device, trigger_message
from rosfit.protocol import envelope
from rosfit.protocol.topics import SHORT_FORM, device_topic

log = structlog.get_logger(__name__)

# Told in one go: a hundred milliseconds in which the deployment's reports wait.
BATCH = 64
OVERDUE_BATCH = 200
RATE_WINDOW_S = 60.0
# A device that has not answered is told again, since it may have subscribed only after it was told.
AGAIN_S = 60.0
# Reports wake us up; so many rounds a second are enough, and many reports are one round.
ROUND_S = 0.05

GONE = UpdateError("DECOMMISSIONED", "the device was decommissioned before its turn")

# Where a device may download the artifact of its trigger, until its deadline and a while longer.
LinkTo = Callable[[Trigger], Awaitable[str]]


class UpdateDispatcher:
    def __init__(self, open_work: OpenWork, publisher: Publisher, link_to: LinkTo, notice: Notice) -> None:
        self._open_work = open_work
        self._publisher = publisher
        self._link_to = link_to
        self._notice = notice

    async def run(self, wake_ups: AsyncIterator[None]) -> None:
        """Until cancelled: at each wake-up, do all that can be done."""
        async for _ in wake_ups:
            try:
                while await self.round():
                    await asyncio.sleep(0)
            except UnavailableError as error:
                log.warning("updates_wait", why=error.detail)
            except Exception:
                # A fault of ours must not end the loop: everything is still in the database and is tried again.
                log.exception("update_round_failed")
            await asyncio.sleep(ROUND_S)

    async def round(self) -> bool:
        """Whether there is more to do at once."""
        async with self._open_work() as work:
            if not await repository.anything_open(work.connection):
                return False
        more = await self._end_overdue()
        await self._drop_decommissioned()
        async with self._open_work() as work:
            running = await repository.running_deployments(work.connection)
            waiting = await device_rows.deployments_to_publish(work.connection, AGAIN_S)
        for deployment_id in sorted({*running, *waiting}):
            more |= await self._serve(deployment_id)
        return more

    async def _serve(self, deployment_id: str) -> bool:
        """Start and tell the next few; the deployment is held meanwhile, so that a pause holds from its answer on."""
        async with self._open_work() as work:
            locked = await repository.lock_deployment(work.connection, deployment_id)
            if locked is None:
                return False
            if locked.status == "running":
                # It may have nothing left to wait for since somebody resumed it, or a device went.
                await progress.settle(work, locked, self._notice)
                await self._claim(work, deployment_id)
            triggers = await device_rows.to_publish(work.connection, deployment_id, AGAIN_S, BATCH)
            if not triggers:
                return False
            await self._tell(work, triggers)
            return len(triggers) == BATCH

    async def _claim(self, work: Work, deployment_id: str) -> None:
        """Take places for devices whose turn it is, in a transaction that is committed before they are told."""
        locked = await repository.lock_deployment(work.connection, deployment_id)
        if locked is None or locked.status != "running":
            return
        free = await self._room(work, locked)
        if free <= 0:
            return
        found = await device_rows.candidates(work.connection, deployment_id, locked.wave)
        moment, window = now(), window_of(locked.window)
        ready = [one.device_id for one in found if why_waiting(one, locked.min_battery, window, moment) is None]
        if ready:
            async with self._open_work() as own:
                await device_rows.claim_devices(own.connection, deployment_id, ready[: min(free, BATCH)])

    async def _room(self, work: Work, locked: Locked) -> int:
        counts = await device_rows.wave_counts(work.connection, locked.deployment_id)
        recent = 0
        if locked.rate_per_minute is not None:
            recent = await device_rows.claimed_since(work.connection, locked.deployment_id, RATE_WINDOW_S)
        return room(locked.max_in_progress, in_progress(counts), locked.rate_per_minute, recent)

    async def _tell(self, work: Work, triggers: Sequence[Trigger]) -> None:
        """Publish; those that the broker has become `notified`, the others are tried again."""
        outcomes = await asyncio.gather(*(self._publish(one) for one in triggers), return_exceptions=True)
        taken = [one for one, error in zip(triggers, outcomes, strict=True) if error is None]
        told: list[tuple[str, datetime]] = [(one.device_id, one.deadline_at) for one in taken]
        deployment_id = triggers[0].deployment_id
        await device_rows.mark_published(work.connection, deployment_id, told)
        first = [one for one in taken if one.status == "queued"]
        await device_rows.insert_steps(work.connection, deployment_id, [one.device_id for one in first], "notified")
        for one in first:
            tell_device(work, deployment_id, one.device_id, "notified", one.wave)
        if failure := next((error for error in outcomes if error is not None), None):
            log.warning("trigger_not_sent", deployment_id=deployment_id, why=str(failure))

    async def _publish(self, trigger: Trigger) -> None:
        row = "ota" if trigger.device_type in SHORT_FORM else "ota/trigger"
        await self._publisher.publish(
            device_topic(trigger.device_id, row),
            trigger_message(trigger, await self._link_to(trigger)),
            qos=1,
            expiry_s=max(1, round((trigger.deadline_at - now()).total_seconds())),
            content_type=envelope.JSON,
        )

    async def _end_overdue(self) -> bool:
        async with self._open_work() as work:
            overdue = await device_rows.overdue(work.connection, OVERDUE_BATCH)
        for deployment_id, device_id in overdue:
            async with self._open_work() as work:
                await progress.time_out(work, deployment_id, device_id, self._notice)
        return len(overdue) == OVERDUE_BATCH

    async def _drop_decommissioned(self) -> None:
        async with self._open_work() as work:
            gone = await device_rows.decommissioned_in_line(work.connection)
        for deployment_id, device_ids in gone:
            async with self._open_work() as work:
                await progress.drop_waiting(work, deployment_id, device_ids, GONE, self._notice)


def in_progress(counts: Counts) -> int:
    """Devices between notified and final, and those whose trigger is on the way."""
    under_way = STEPS[1:]
    return counts.claimed + sum(counts_.get(status, 0) for counts_ in counts.waves.values() for status in under_way)
