"""The life of simulated robots as a stream of events, in order of time. Pure and repeatable."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from random import Random
from typing import Any

import msgspec

from rosfit.sim import camera, payloads
from rosfit.sim.events import Event, Link, Publish
from rosfit.sim.faults import Fault, FaultDice
from rosfit.sim.model import BATTERY_LOW, Robot
from rosfit.sim.remote import Remote

HEARTBEAT_S = 5.0
LOG_MEAN_S = 8.0
# Frames of the whole fleet per second: drawing one costs a millisecond.
FRAMES_HZ = 20.0
# Robots that connect in one second.
CONNECTS_HZ = 100.0

# A row at QoS 0 is one of which the next is soon better than the last.
_QOS = {"telemetry/scan": 0, "telemetry/joint_states": 0, "blob/camera": 0}


class Scene(msgspec.Struct, frozen=True):
    """What is simulated. `rate` is that of odometry in Hz; `started_at` is Unix time."""

    robots: int = 10
    rate: float = 5.0
    seed: int = 1
    faults: bool = False
    started_at: float = 0.0

    def device_ids(self) -> list[str]:
        return [f"sim-{number:03d}" for number in range(1, self.robots + 1)]

    def periods(self) -> dict[str, float]:
        """Seconds between two messages of each row, as robots have them that send odometry at `rate`."""
        odometry_s = 1 / self.rate
        return {
            "telemetry/odom": odometry_s,
            "telemetry/status": HEARTBEAT_S,
            "telemetry/battery": HEARTBEAT_S,
            "telemetry/diagnostics": 5.0,
            "telemetry/joint_states": max(odometry_s, 0.5),
            "telemetry/scan": max(odometry_s, 1.0),
            "blob/camera": max(odometry_s, 2.0, self.robots / FRAMES_HZ),
        }


NOBODY: Mapping[str, Remote] = {}


def fleet_events(scene: Scene, remotes: Mapping[str, Remote] = NOBODY) -> Iterator[Event]:
    """Events of all robots in order of time; without end. Whom a remote drives is where it was driven."""
    lives = [Life(scene, number, name, remotes.get(name)).events() for number, name in enumerate(scene.device_ids())]
    return heapq.merge(*lives, key=lambda event: event.at)


class Life:
    """One robot: a clock, a schedule of what is due, and the faults that it has now."""

    def __init__(self, scene: Scene, number: int, device_id: str, remote: Remote | None) -> None:
        self._scene = scene
        self._robot = Robot.spawn(device_id, scene.seed)
        self._remote = remote
        self._dice = FaultDice(scene.seed, device_id)
        self._rng = Random(f"{scene.seed}/{device_id}/schedule")  # noqa: S311 - it has to be repeatable
        self._starts_at = number / CONNECTS_HZ
        self._clock = 0.0
        self._seqs: dict[str, int] = {}
        self._next_fault: Fault | None = None
        self._silent_until = self._blind_until = -1.0
        self._warned = False
        self._temperatures = number % 2 == 0
        self._schedule: list[tuple[float, int, str]] = []
        self._periods = scene.periods()
        self._sources = self._make_sources()

    def events(self) -> Iterator[Event]:
        yield Link(self._starts_at, self._robot.device_id, "up")
        self._plan_first()
        while True:
            at, order, name = heapq.heappop(self._schedule)
            if self._remote is not None:
                self._robot.obey(self._remote.wanted())
            self._robot.step(at - self._clock)
            self._clock = at
            if name in self._periods:
                heapq.heappush(self._schedule, (at + self._periods[name], order, name))
            for event in self._happen(at, name):
                if isinstance(event, Link) or at >= self._silent_until:
                    yield event

    def _plan_first(self) -> None:
        """Every row begins at a moment of its own, or a thousand robots would speak at once."""
        for order, (name, period) in enumerate(self._periods.items()):
            self._put(self._starts_at + self._rng.uniform(0.05, 0.05 + min(period, HEARTBEAT_S)), name, order)
        self._put(self._starts_at + self._rng.expovariate(1 / LOG_MEAN_S), "log")
        if self._scene.faults:
            self._put(self._starts_at + self._dice.pause_s(), "fault")

    def _put(self, at: float, name: str, order: int = 100) -> None:
        heapq.heappush(self._schedule, (at, order, name))

    def _happen(self, at: float, name: str) -> Iterator[Event]:
        if name == "log":
            self._put(at + self._rng.expovariate(1 / LOG_MEAN_S), "log")
            yield self._publish(at, "log", payloads.log_line(self._robot))
        elif name == "up":
            yield Link(_tick(at), self._robot.device_id, "up")
        elif name == "fault":
            yield from self._fail(at)
        else:
            yield from self._report(at, name)

    def _report(self, at: float, row: str) -> Iterator[Event]:
        if row == "blob/camera":
            yield self._frame(at)
            return
        message = self._publish(at, row, self._sources[row](at=at))
        yield from self._spoiled(message)
        if row == "telemetry/status":
            yield from self._warn_once(at)

    def _make_sources(self) -> dict[str, Callable[..., payloads.Payload]]:
        robot, unix = self._robot, self._scene.started_at
        return {
            "telemetry/odom": lambda at: payloads.odometry(robot, unix + at),
            "telemetry/status": lambda at: payloads.heartbeat(robot),
            "telemetry/battery": lambda at: payloads.battery(robot, unix + at),
            "telemetry/diagnostics": lambda at: payloads.diagnostics(
                robot, unix + at, sensor_fault=at < self._blind_until
            ),
            "telemetry/joint_states": lambda at: payloads.joint_states(
                robot, unix + at, temperatures=self._temperatures
            ),
            "telemetry/scan": lambda at: payloads.scan(robot, unix + at, broken=at < self._blind_until),
        }

    def _publish(self, at: float, row: str, payload: dict[str, Any]) -> Publish:
        at, seq = _tick(at), self._seqs.get(row, 0)
        self._seqs[row] = seq + 1
        message_id, qos = self._message_id(row, seq), _QOS.get(row, 1)
        return Publish(at, self._robot.device_id, row, message_id, seq, at, payload, qos=qos)

    def _message_id(self, row: str, seq: int) -> str:
        """The same in every run of the same scene, and in no other."""
        scene = self._scene
        text = f"{scene.seed}/{scene.started_at}/{self._robot.device_id}/{row}/{seq}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _frame(self, at: float) -> Publish:
        picture = camera.frame(self._robot, self._scene.started_at + at)
        row = "blob/camera"
        return Publish(
            _tick(at), self._robot.device_id, row, data=picture, qos=_QOS[row], content_type=camera.CONTENT_TYPE
        )  # fmt: skip

    def _warn_once(self, at: float) -> Iterator[Event]:
        low = self._robot.battery < BATTERY_LOW / 2
        if low and not self._warned and self._scene.faults:
            text = f"battery at {self._robot.battery:.0f} %"
            yield self._alert(at, "battery_low", "critical", text)
        self._warned = low

    def _alert(self, at: float, name: str, severity: str, message: str) -> Publish:
        return self._publish(at, f"alert/{name}", {"severity": severity, "message": message})

    # Faults.

    def _fail(self, at: float) -> Iterator[Event]:
        fault = self._dice.kind()
        self._put(at + self._dice.pause_s(), "fault")
        match fault:
            case Fault.DROP:
                self._put(at + self._dice.duration_s(fault), "up")
                yield Link(_tick(at), self._robot.device_id, "drop")
            case Fault.SILENCE:
                self._silent_until = at + self._dice.duration_s(fault)
            case Fault.SENSOR:
                self._blind_until = at + self._dice.duration_s(fault)
                yield self._alert(at, "sensor_fault", "warning", "lidar gives no valid ranges")
            case Fault.BATTERY:
                self._robot.battery = min(self._robot.battery, 8.0)
            case Fault.BUMP:
                self._robot.speed = 0.0
                yield self._alert(at, "collision", "error", f"bumper hit near {self._robot.place}")
            case _:
                self._next_fault = fault

    def _spoiled(self, message: Publish) -> Iterator[Publish]:
        """The message as it leaves the robot: twice, late or broken if that is this robot's fault now."""
        fault, self._next_fault = self._next_fault, None
        spoil = partial(msgspec.structs.replace, message)
        match fault:
            case Fault.DUPLICATE:
                yield message
                yield message
            case Fault.LATE:
                yield spoil(sampled_at=_tick(message.at - self._dice.late_s()))
            case Fault.MALFORMED:
                yield spoil(payload=None, data=self._dice.malformed())
            case _:
                yield message


def _tick(at: float) -> float:
    """Whole microseconds, so that a recording holds no noise."""
    return round(at, 6)
