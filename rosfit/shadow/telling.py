"""Telling devices of their shadows: answers at once, desired and delta until the broker has them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import structlog

from rosfit.kernel.errors import BadRequestError, UnavailableError
from rosfit.kernel.ports import Publisher
from rosfit.kernel.work import Work
from rosfit.protocol import envelope
from rosfit.protocol.topics import Kind, Route, device_topic
from rosfit.shadow import repository, service
from rosfit.shadow.models import DEFAULT_NAME, Due

log = structlog.get_logger(__name__)

BATCH = 64

# Answers that wait for the broker; past it the oldest go, whose devices will ask again.
ANSWERS_LIMIT = 10_000

# A delta that could not be delivered for so long is of no use: at its return the device gets a current one.
DELTA_EXPIRY_S = 60

_REFUSALS = {Kind.SHADOW_REPORTED: "reported/rejected", Kind.SHADOW_GET: "get/rejected"}

OpenWork = Callable[[], AbstractAsyncContextManager[Work]]


def row(name: str, what: str) -> str:
    """The topic's row for a shadow: named ones have their own."""
    return f"shadow/{what}" if name == DEFAULT_NAME else f"shadow/name/{name}/{what}"


class _Marked(msgspec.Struct):
    client_token: str | None = None


def _client_token(payload: bytes) -> str | None:
    """Of a report that is otherwise not as it should be."""
    try:
        return msgspec.json.decode(payload, type=_Marked).client_token
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class ShadowTeller:
    def __init__(self, open_work: OpenWork, publisher: Publisher) -> None:
        self._open_work = open_work
        self._publisher = publisher
        self._answers: deque[tuple[str, str, dict[str, Any]]] = deque(maxlen=ANSWERS_LIMIT)
        self._some = asyncio.Event()

    async def run(self, wake_ups: AsyncIterator[None]) -> None:
        """Until cancelled: at each wake-up, tell every device what it has not been told."""
        async for _ in wake_ups:
            try:
                while await self.tell_batch():
                    pass
            except UnavailableError as error:
                log.warning("shadows_wait", why=error.detail)
            except Exception:
                # A fault of ours must not end the loop: what is due stays due.
                log.exception("telling_failed")

    async def tell_batch(self) -> bool:
        """False when nothing more is due."""
        async with self._open_work() as work:
            batch = await repository.lock_due(work.connection, BATCH)
            for due in batch:
                await self._tell(due)
                await repository.told(work.connection, due.device_id, due.name, connected=due.connected)
        return len(batch) == BATCH

    async def _tell(self, due: Due) -> None:
        if due.desired_due:
            await self._publish(due.device_id, row(due.name, "desired"), service.desired_message(due), retain=True)
        message = service.delta_message(due) if due.delta_due and (due.connected or due.unheard) else None
        if message is not None:
            await self._publish(due.device_id, row(due.name, "delta"), message, expiry_s=DELTA_EXPIRY_S)

    def answer(self, device_id: str, name: str, what: str, answer: dict[str, Any]) -> None:
        """`reported/accepted` and the like, soon; a device that gets none says it again, to the same effect."""
        self._answers.append((device_id, row(name, what), answer))
        self._some.set()

    def refuse(self, route: Route, payload: bytes, why: str) -> None:
        """Answer a message that became a dead letter, if it is one that its device waits for an answer to."""
        if (what := _REFUSALS.get(route.kind)) is None:
            return
        answer = {"code": BadRequestError.code, "message": why}
        if (token := _client_token(payload)) is not None:
            answer["client_token"] = token
        self.answer(route.device_id, route.name or DEFAULT_NAME, what, answer)

    async def send_answers(self) -> None:
        """Until cancelled: publish answers side by side, in their order."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._answers:
                count = min(BATCH, len(self._answers))
                batch = [self._answers.popleft() for _ in range(count)]
                sent = (self._publish(*one, expiry_s=DELTA_EXPIRY_S) for one in batch)
                outcomes = await asyncio.gather(*sent, return_exceptions=True)
                if lost := sum(isinstance(outcome, Exception) for outcome in outcomes):
                    log.warning("shadow_answers_lost", count=lost)

    async def _publish(
        self,
        device_id: str,
        topic_row: str,
        message: dict[str, Any],
        *,
        retain: bool = False,
        expiry_s: int | None = None,
    ) -> None:
        await self._publisher.publish(
            device_topic(device_id, topic_row),
            msgspec.json.encode(message),
            qos=1,
            retain=retain,
            expiry_s=expiry_s,
            content_type=envelope.JSON,
        )
