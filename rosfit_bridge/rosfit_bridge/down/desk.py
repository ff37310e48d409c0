"""Where commands arrive and answers leave: each has one effect, and one final answer."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rosfit_bridge.counters import Counters
from rosfit_bridge.down.job import FINAL, Command, EndError, Job, failed, rejected
from rosfit_bridge.down.lane import Lane
from rosfit_bridge.down.ledger import Answer, Entry, Ledger
from rosfit_bridge.down.request import BadRequestError, Request, read
from rosfit_bridge.envelope import Outgoing, Stream
from rosfit_bridge.topics import COMMAND_RESPONSE_SUFFIX

log = logging.getLogger(__name__)

EMERGENCY_STOP = "emergency_stop"
# Memory stays bounded: more than a queue of a thousand commands is no longer a queue but a fault.
MOST_AT_ONCE = 2_000
# A broker that is killed forgets what it took since its last save; the one RosFit starts saves every 5 s.
SETTLED_AFTER_S = 20.0
# What ends sooner is not acknowledged first: one message and one transaction less for most services.
ACK_AFTER_S = 0.1
# A message may repeat a value of the command, of up to 256 KiB.
LONGEST_MESSAGE = 2_000
_INTERRUPTED = "the bridge was stopped while the command was under way; whether it took effect is not known"


class Desk:
    """`take` is called by the link's thread and only writes down and hands over.

    `publish` says False of what is too large to be sent.
    """

    def __init__(self, device_id: str, ledger: Ledger, counters: Counters, publish: Callable[[Outgoing], bool]) -> None:
        self.commands: dict[str, Command] = {}
        self.jobs: dict[str, Job] = {}
        self.lane, self.urgent = Lane("commands"), Lane("urgent")
        self._ledger, self._counters, self._publish = ledger, counters, publish
        self._unsettled: deque[tuple[float, str]] = deque()
        self._stream = Stream(device_id, COMMAND_RESPONSE_SUFFIX, 1)
        self._numbering = threading.Lock()
        self._closing = False

    def start(self) -> None:
        """What an earlier run left behind is answered first."""
        self.lane.start()
        self.urgent.start()
        self.lane.post(self._send_unsettled)
        for entry in self._ledger.unfinished():
            self.lane.post(self._interrupted, entry)

    def take(self, _topic: str, payload: bytes, properties: Any) -> None:
        try:
            request = read(payload, properties)
        except BadRequestError as error:
            self._counters.bad_commands += 1
            log.error("a command was refused: %s", error)
            if error.command_id is not None:
                answer = _answer_of(rejected("INVALID_REQUEST", str(error)))
                self.lane.post(self._send, error.command_id, error.correlation_id, answer)
            return
        self._counters.commands += 1
        lane = self.urgent if request.command == EMERGENCY_STOP else self.lane
        try:
            known = self._ledger.begin(request.command_id, request.correlation_id, request.command)
        except sqlite3.Error as error:
            self._not_written(request, lane, error)
            return
        if known is not None:
            self._counters.repeated += 1
            lane.post(self._again, known)
        elif not self._closing:
            lane.post(self._begin, request, lane)

    def repeat(self) -> None:
        """The broker may have died, and with it answers that nobody had read: the newest once more."""
        self.lane.post(self._send_unsettled)

    def close(self, within_s: float = 1.0) -> None:
        """Stops what is under way; what arrives from now on is answered at the next start."""
        self._closing = True
        for lane in (self.urgent, self.lane):
            try:
                lane.run(self._stop_all(lane), within_s)
            except (TimeoutError, asyncio.TimeoutError):
                log.warning("not everything could be stopped within %.1f s", within_s)
            lane.close()
        self._settle(everything=True)

    def halt(self) -> concurrent.futures.Future[list[str]]:
        """Every goal ends that was asked for before this, begun or not; from any thread. The commands' ids."""
        return asyncio.run_coroutine_threadsafe(self._halt(), self.lane.loop)

    async def cancel(self, command_id: str) -> None:
        job = self.jobs.get(command_id)
        if job is None:
            raise failed("NOT_RUNNING", f"{command_id} is not under way here; it has ended or never came")
        if job.stop is not None:
            await job.stop()
        elif job.waiting:
            job.abandon()
        else:
            raise failed("NOT_CANCELLABLE", f"{job.request.command} is a service call, which cannot be called back")

    async def _halt(self) -> list[str]:
        goals = [job for job in list(self.jobs.values()) if self._is_goal(job)]
        for job in goals:
            if job.stop is not None:
                self.lane.spawn(self._stop(job))
            else:
                job.abandon()
        return [job.request.command_id for job in goals]

    def _is_goal(self, job: Job) -> bool:
        name = job.request.command
        return name in self.commands and self.commands[name].kind == "action" and name != EMERGENCY_STOP

    def _not_written(self, request: Request, lane: Lane, error: sqlite3.Error) -> None:
        """Without a memory a command might run twice; standing still twice does no harm."""
        log.error("cannot write down commands in %s: %s", self._ledger.path, error)
        if request.command == EMERGENCY_STOP:
            lane.post(self._begin, request, lane)
            return
        message = f"the bridge cannot write down commands ({error}); see bridge.commands.path"
        answer = _answer_of(rejected("NO_LEDGER", message))
        lane.post(self._send, request.command_id, request.correlation_id, answer)

    def _begin(self, request: Request, lane: Lane) -> None:
        job = Job(request, self._tell)
        self.jobs[request.command_id] = job
        task = lane.spawn(self._run(job, lane))
        job.abandon = task.cancel

    async def _run(self, job: Job, lane: Lane) -> None:
        acking = lane.loop.call_later(ACK_AFTER_S, job.acked)
        try:
            result = await self._command_for(job.request).run(job)
            answer: Answer = {"status": "succeeded", "result": result}
        except EndError as end:
            answer = _answer_of(end)
        except asyncio.CancelledError:
            if self._closing:
                return
            answer = {"status": "cancelled"}
        except Exception as error:
            log.exception("%s failed", job.request.command)
            answer = _answer_of(failed("BRIDGE_FAULT", f"{type(error).__name__}: {error}"))
        finally:
            acking.cancel()
        self._tell(job, answer)

    def _command_for(self, request: Request) -> Command:
        if request.expired:
            raise rejected("EXPIRED", "its time had run out before it could be begun")
        if len(self.jobs) > MOST_AT_ONCE and request.command != EMERGENCY_STOP:
            raise rejected("BUSY", f"{MOST_AT_ONCE} commands are under way; send it again later")
        command = self.commands.get(request.command)
        if command is None:
            raise rejected("NOT_ALLOWED", f"{request.command[:100]} is not in this bridge's configuration")
        return command

    def _tell(self, job: Job, answer: Answer) -> None:
        if job.last.get("status") in FINAL:
            return
        job.last = answer
        request = job.request
        if answer["status"] in FINAL:
            self._finish(request.command_id, answer)
            self.jobs.pop(request.command_id, None)
        self._send(request.command_id, request.correlation_id, answer)

    def _finish(self, command_id: str, answer: Answer) -> None:
        try:
            self._ledger.finish(command_id, answer)
        except sqlite3.Error as error:
            log.error("the answer to %s could not be written down: %s", command_id, error)

    def _send(self, command_id: str, correlation_id: str | None, answer: Answer) -> None:
        payload = {"command_id": command_id, "correlation_id": correlation_id, **answer}
        with self._numbering:
            message = self._stream.sample(payload, time.time_ns())
        # Not under our lock: the link's thread may hold the link's and wait for ours.
        if not self._publish(message) and answer["status"] in FINAL and "result" in answer:
            return self._send(command_id, correlation_id, _without_result(answer, len(message.payload)))
        if answer["status"] in FINAL:
            self._unsettled.append((time.monotonic() + SETTLED_AFTER_S, command_id))
            self.lane.post(self.lane.loop.call_later, SETTLED_AFTER_S + 0.1, self._settle)
        return None

    def _again(self, known: Entry) -> None:
        """A redelivery: the last answer once more."""
        job = self.jobs.get(known.command_id)
        if known.answer is not None:
            self._send_known(known)
        elif job is not None and job.last:
            self._send(known.command_id, known.correlation_id, job.last)

    def _send_unsettled(self) -> None:
        for entry in self._ledger.unsent():
            self._send_known(entry)

    def _send_known(self, entry: Entry) -> None:
        if entry.answer is not None:
            self._send(entry.command_id, entry.correlation_id, entry.answer)

    def _interrupted(self, entry: Entry) -> None:
        answer = _answer_of(failed("INTERRUPTED", _INTERRUPTED))
        self._finish(entry.command_id, answer)
        self._send(entry.command_id, entry.correlation_id, answer)

    async def _stop_all(self, lane: Lane) -> None:
        urgent = lane is self.urgent
        mine = [job for job in list(self.jobs.values()) if (job.request.command == EMERGENCY_STOP) == urgent]
        await asyncio.gather(*(self._interrupt(job) for job in mine))

    async def _interrupt(self, job: Job) -> None:
        await self._stop(job)
        self._tell(job, _answer_of(failed("INTERRUPTED", _INTERRUPTED)))

    @staticmethod
    async def _stop(job: Job) -> None:
        if job.stop is None:
            return
        try:
            await job.stop()
        except EndError as error:
            log.warning("%s could not be stopped: %s", job.request.command, error)

    def _settle(self, *, everything: bool = False) -> None:
        now = time.monotonic()
        due = []
        while self._unsettled and (everything or self._unsettled[0][0] <= now):
            due.append(self._unsettled.popleft()[1])
        if not due:
            return
        try:
            self._ledger.sent(due)
        except sqlite3.Error as error:
            log.error("answers could not be marked as sent and will be sent again: %s", error)


def _without_result(answer: Answer, size: int) -> Answer:
    error = {"code": "RESULT_TOO_LARGE", "message": f"the answer is {size} bytes, more than bridge.limits.payload_kib"}
    return {"error": error, **{name: value for name, value in answer.items() if name != "result"}}


def _answer_of(end: EndError) -> Answer:
    answer: Answer = {"status": end.status, "error": {"code": end.code, "message": str(end)[:LONGEST_MESSAGE]}}
    if end.status == "cancelled":
        answer = {"status": end.status}
    return answer if end.result is None else {**answer, "result": end.result}
