"""Commands that are ROS services."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.task import Future

from rosfit_bridge.config_down import Service
from rosfit_bridge.convert import cdr_write, objects
from rosfit_bridge.convert.describe import describe
from rosfit_bridge.convert.shape import Struct, load_class, shape_of
from rosfit_bridge.down.job import Command, Job, failed, rejected

# How often to look whether a service or an action server that is not there has come.
_LOOK_EVERY_S = 0.02
# A service keeps its last 10 requests, and a client its last 10 answers: of more at once, some are silently lost.
MOST_UNANSWERED = 8


def builder(cls: type) -> Callable[[dict[str, Any]], Any]:
    """data → message. Raises EndError naming the field that does not fit."""
    encode = cdr_write.encoder(shape_of(cls))

    def build(data: dict[str, Any]) -> Any:
        try:
            return deserialize_message(encode(data), cls)
        except (ValueError, TypeError) as error:
            raise rejected("INVALID_DATA", f"data: {error}") from error

    return build


async def awaited(future: Future, within_s: float) -> Any:
    """The outcome of an rclpy future, whose callbacks run in the executor's thread. TimeoutError."""
    loop = asyncio.get_running_loop()
    mirror: asyncio.Future[Any] = loop.create_future()

    def arrived(_: Any) -> None:
        if not mirror.done():
            mirror.set_result(None)

    future.add_done_callback(lambda done: post(loop, arrived, done))
    try:
        await asyncio.wait_for(mirror, max(within_s, 0.0))
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise TimeoutError from error
    return future.result()


def post(loop: asyncio.AbstractEventLoop, call: Callable[..., Any], *arguments: Any) -> None:
    """From the executor's thread, where an exception would end the process: not when the loop is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *arguments)


class Presence:
    """Waits for the other side to be there. Who waited first goes on first, so commands keep their order."""

    def __init__(self, is_there: Callable[[], bool], what: str) -> None:
        self._is_there, self._what = is_there, what
        self._queue = asyncio.Lock()

    async def wait(self, until: float) -> None:
        async with self._queue:
            while not self._is_there():
                if time.monotonic() >= until:
                    raise failed("UNAVAILABLE", f"{self._what} is not there; is its node running?")
                await asyncio.sleep(_LOOK_EVERY_S)


@contextlib.asynccontextmanager
async def room(places: asyncio.Semaphore, until: float, what: str) -> AsyncIterator[None]:
    """One of so many places, in the order of asking."""
    try:
        await asyncio.wait_for(places.acquire(), max(0.0, until - time.monotonic()))
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise failed("TIMEOUT", f"{what} was not asked: it had not answered what was asked before") from error
    try:
        yield
    finally:
        places.release()


class ServiceCommand:
    def __init__(self, node: Node, entry: Service) -> None:
        cls: Any = load_class(entry.srv_type)
        self._entry = entry
        self._client = node.create_client(cls, entry.ros_service)
        self._build = builder(cls.Request)
        self._plain = objects.to_plain(shape_of(cls.Response))
        self._presence = Presence(self._client.service_is_ready, f"the service {entry.ros_service}")
        self._room = asyncio.Semaphore(MOST_UNANSWERED)
        self.request: Struct = shape_of(cls.Request)

    @property
    def command(self) -> Command:
        return Command(self._entry.command, "service", self._entry.srv_type, describe(self.request), self.run)

    async def run(self, job: Job) -> Any:
        request = self._build(job.request.data)
        until = time.monotonic() + self._entry.timeout_s
        await self._presence.wait(until)
        async with room(self._room, until, self._entry.ros_service):
            if job.request.expired:
                raise rejected("EXPIRED", f"its time ran out while it waited for {self._entry.ros_service}")
            job.waiting = False
            return self._outcome(self._plain(await self._call(request, until)))

    async def _call(self, request: Any, until: float) -> Any:
        future = self._client.call_async(request)
        try:
            return await awaited(future, until - time.monotonic())
        except TimeoutError as error:
            message = f"{self._entry.ros_service} gave no answer within {self._entry.timeout_s:g} s"
            raise failed("TIMEOUT", message) from error
        finally:
            self._client.remove_pending_request(future)

    def _outcome(self, result: dict[str, Any]) -> dict[str, Any]:
        """A response whose `success` is false says that nothing was done."""
        if result.get("success") is False:
            raise failed("SERVICE_FAILED", str(result.get("message") or f"{self._entry.ros_service} says no"), result)
        return result
