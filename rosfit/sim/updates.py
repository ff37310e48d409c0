"""What simulated robots do with an update: each step in its time, and for some a failure or silence; seeded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from rosfit.protocol import envelope
from rosfit.sim.tally import Summary

STEPS = ("downloading", "verifying", "installing", "rebooting", "health_check")

# (where it ends, how, with which code)
FAILURES = (
    ("downloading", "rejected", "NOT_ALLOWED"),
    ("verifying", "failed", "HASH_MISMATCH"),
    ("installing", "failed", "NO_SPACE"),
    ("health_check", "rolled_back", "HEALTH_CHECK"),
)


class UpdateOptions(msgspec.Struct, frozen=True):
    """Shares from 0 to 1 of updates that fail and that are never heard of again; `seconds` is what one takes."""

    failures: float = 0.0
    silences: float = 0.0
    seconds: float = 10.0


class _Artifact(msgspec.Struct):
    size: int = 0


class _Trigger(msgspec.Struct):
    deployment_id: str
    artifact: _Artifact


class _Envelope(msgspec.Struct):
    payload: _Trigger


Say = Callable[[str, bytes], None]


class Updates:
    """Those of the whole fleet. A second trigger of a deployment has no second effect."""

    def __init__(self, options: UpdateOptions, seed: int, summary: Summary) -> None:
        self._options, self._seed, self._summary = options, seed, summary
        self._begun: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, device_id: str, message: bytes, say: Say) -> None:
        """Begin the update that `message` asks for; `say` publishes a payload on a row."""
        try:
            trigger = msgspec.json.decode(message, type=_Envelope).payload
        except msgspec.MsgspecError:
            return self._count("misunderstood")
        if (device_id, trigger.deployment_id) in self._begun:
            return None
        self._begun.add((device_id, trigger.deployment_id))
        task = asyncio.ensure_future(self._run(device_id, trigger, say))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _run(self, device_id: str, trigger: _Trigger, say: Say) -> None:
        rng = Random(f"{self._seed}/{device_id}/{trigger.deployment_id}")  # noqa: S311 - it has to be repeatable
        dice, silent_at, failure = rng.random(), rng.choice(STEPS), rng.choice(FAILURES)
        silent = dice < self._options.silences
        fails = not silent and dice < self._options.silences + self._options.failures
        for step in STEPS:
            await asyncio.sleep(self._options.seconds / len(STEPS) * rng.uniform(0.5, 1.5))
            if silent and step == silent_at:
                return self._count("silent")
            done: dict[str, Any] = {"percent": 100.0, "bytes": trigger.artifact.size} if step == "downloading" else {}
            self._report(device_id, say, "progress", {"deployment_id": trigger.deployment_id, "status": step, **done})
            if fails and step == failure[0]:
                error = {"code": failure[2], "message": "as simulated"}
                return self._end(device_id, say, trigger, failure[1], error)
        return self._end(device_id, say, trigger, "succeeded", None)

    def _end(self, device_id: str, say: Say, trigger: _Trigger, status: str, error: dict[str, str] | None) -> None:
        payload = {"deployment_id": trigger.deployment_id, "status": status, "error": error}
        self._report(device_id, say, "result", payload)
        self._count(status)

    def _count(self, outcome: str) -> None:
        self._summary.updates[outcome] = self._summary.updates.get(outcome, 0) + 1

    @staticmethod
    def _report(device_id: str, say: Say, row: str, payload: dict[str, Any]) -> None:
        say(f"ota/{row}", envelope.encode(payload, type="ota", device_id=device_id))
