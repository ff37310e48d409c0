"""Commands that are ROS actions: goal, feedback, result, and cancelling for real."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from typing import Any

from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future

from rosfit_bridge.config_down import Action
from rosfit_bridge.convert import objects
from rosfit_bridge.convert.describe import describe
from rosfit_bridge.convert.shape import load_class, shape_of
from rosfit_bridge.down.job import Command, EndError, Job, failed, rejected
from rosfit_bridge.node.calls import MOST_UNANSWERED, Presence, awaited, builder, post, room

ANSWER_WITHIN_S = 10.0
# Feedback may come at any rate; people read, and each one is a row.
FEEDBACK_EVERY_S = 0.2
# How often to look whether the server of a goal is still there.
_LOOK_EVERY_S = 1.0


class _Client(ActionClient):  # type: ignore[misc]
    """rclpy notes what it waits for after it has sent; it drops an answer that its executor takes in between."""

    def __init__(self, *arguments: Any) -> None:
        self._sending = threading.RLock()
        super().__init__(*arguments)

    def take_data(self) -> Any:
        with self._sending:
            return super().take_data()

    def send_goal_async(self, *arguments: Any) -> Future:
        with self._sending:
            return super().send_goal_async(*arguments)

    def _cancel_goal_async(self, goal_handle: Any) -> Future:
        with self._sending:
            return super()._cancel_goal_async(goal_handle)

    def _get_result_async(self, goal_handle: Any) -> Future:
        with self._sending:
            return super()._get_result_async(goal_handle)


class ActionCommand:
    def __init__(self, node: Node, entry: Action) -> None:
        cls: Any = load_class(entry.action_type)
        self._entry = entry
        self._client = _Client(node, cls, entry.ros_action)
        self._build = builder(cls.Goal)
        self._result = objects.to_plain(shape_of(cls.Result))
        self._feedback = objects.to_plain(shape_of(cls.Feedback))
        self._presence = Presence(self._client.server_is_ready, f"the action {entry.ros_action}")
        self._room = asyncio.Semaphore(MOST_UNANSWERED)
        self._request = describe(shape_of(cls.Goal))

    @property
    def command(self) -> Command:
        return Command(self._entry.command, "action", self._entry.action_type, self._request, self.run)

    async def run(self, job: Job) -> Any:
        goal = self._build(job.request.data)
        until = time.monotonic() + ANSWER_WITHIN_S
        await self._presence.wait(until)
        async with room(self._room, until, self._entry.ros_action):
            if job.request.expired:
                raise rejected("EXPIRED", f"its time ran out while it waited for {self._entry.ros_action}")
            job.waiting = False
            sending = asyncio.ensure_future(self._send(goal, _Feedback(self._entry, self._feedback, job)))
            job.stop = lambda: self._stop(sending)
            handle = await sending
        job.acked()
        try:
            done = await self._ended(handle)
        except TimeoutError as error:
            await self._cancel(handle)
            message = f"{self._entry.ros_action} had not ended after {self._entry.timeout_s:g} s and was cancelled"
            raise failed("TIMEOUT", message) from error
        return self._outcome(done)

    async def _ended(self, handle: Any) -> Any:
        """The result. A server that goes away takes its goals with it, and nothing would ever come."""
        result = asyncio.ensure_future(awaited(handle.get_result_async(), self._entry.timeout_s))
        gone = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise failed("UNAVAILABLE", f"the action {self._entry.ros_action} went away with its goal")
            return result.result()
        finally:
            result.cancel()
            gone.cancel()

    async def _gone(self) -> None:
        while self._client.server_is_ready():
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _send(self, goal: Any, feedback: _Feedback) -> Any:
        within_s = min(ANSWER_WITHIN_S, self._entry.timeout_s)
        sent = self._client.send_goal_async(goal, feedback)
        try:
            handle = await awaited(sent, within_s)
        except TimeoutError as error:
            sent.add_done_callback(_cancel_taken)
            message = (
                f"{self._entry.ros_action} did not say within {within_s:g} s whether it takes the goal; "
                "if it still does, the goal is cancelled"
            )
            raise failed("TIMEOUT", message) from error
        if not handle.accepted:
            raise rejected("GOAL_REJECTED", f"{self._entry.ros_action} does not take this goal")
        return handle

    async def _stop(self, sending: asyncio.Future[Any]) -> None:
        """A goal that is on its way is cancelled as soon as it is taken."""
        try:
            handle = await asyncio.shield(sending)
        except EndError as end:
            raise failed("NOT_RUNNING", f"it did not begin: {end}") from end
        await self._cancel(handle)

    async def _cancel(self, handle: Any) -> None:
        """Returns when the action server has agreed; the result follows by itself."""
        try:
            answer = await awaited(handle.cancel_goal_async(), ANSWER_WITHIN_S)
        except TimeoutError as error:
            raise failed("TIMEOUT", f"{self._entry.ros_action} did not answer the request to cancel") from error
        if not answer.goals_canceling and answer.return_code != CancelGoal.Response.ERROR_GOAL_TERMINATED:
            raise failed("NOT_CANCELLABLE", f"{self._entry.ros_action} goes on with its goal")

    def _outcome(self, done: Any) -> Any:
        result = self._result(done.result)
        if done.status == GoalStatus.STATUS_SUCCEEDED:
            return result
        if done.status == GoalStatus.STATUS_CANCELED:
            raise EndError("cancelled", "CANCELLED", "the goal was cancelled", result)
        raise failed("ABORTED", f"{self._entry.ros_action} gave its goal up", result)


def _cancel_taken(sent: Future) -> None:
    """Called in the executor's thread."""
    handle = sent.result()
    if handle is not None and handle.accepted:
        handle.cancel_goal_async()


class _Feedback:
    """Called in the executor's thread; the newest within an interval is told."""

    def __init__(self, entry: Action, plain: Any, job: Job) -> None:
        self._path = entry.progress_field.split(".") if entry.progress_field else None
        self._whole, self._plain, self._job = entry.progress_max, plain, job
        self._loop = asyncio.get_running_loop()
        self._newest: Any = None
        self._waiting = False
        self._tell_at = 0.0

    def __call__(self, message: Any) -> None:
        self._newest = message.feedback
        if not self._waiting:
            self._waiting = True
            post(self._loop, self._schedule)

    def _schedule(self) -> None:
        self._loop.call_later(max(0.0, self._tell_at - time.monotonic()), self._tell)

    def _tell(self) -> None:
        self._waiting = False
        self._tell_at = time.monotonic() + FEEDBACK_EVERY_S
        feedback = self._plain(self._newest)
        self._job.progressed(self._progress(feedback), feedback)

    def _progress(self, feedback: Any) -> float | None:
        if self._path is None:
            return None
        for name in self._path:
            feedback = feedback.get(name) if isinstance(feedback, dict) else None
        if not isinstance(feedback, (int, float)) or not math.isfinite(feedback):
            return None
        return max(0.0, min(1.0, feedback / self._whole))
