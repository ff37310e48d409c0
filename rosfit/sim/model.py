"""One simulated robot: a differential drive that follows ways on the floor plan, tires and charges.

Pure: the same seed and the same steps give the same robot, to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from rosfit.sim import plan
from rosfit.sim.remote import STILL, Velocity

MAX_SPEED = 0.8  # m/s
MAX_TURN = 1.6  # rad/s
ACCELERATION = 0.7  # m/s²
TURN_ACCELERATION = 4.0  # rad/s²
WHEEL_RADIUS = 0.08  # m
WHEEL_BASE = 0.36  # m

# Percent per second: a robot that drives is empty after half an hour, and charged again in three minutes.
IDLE_DRAIN, DRIVE_DRAIN, CHARGE = 0.012, 0.055, 0.5
BATTERY_LOW, BATTERY_FULL = 20.0, 96.0

_ARRIVED = 0.25  # m from a waypoint
_LONGEST_STEP_S = 0.1


class Doing(StrEnum):
    """What the robot is about."""

    DRIVING = "driving"
    WAITING = "waiting"
    DOCKING = "docking"
    CHARGING = "charging"
    DRIVEN = "driven"


@dataclass
class Robot:
    """Pose in metres and radians, speeds in m/s and rad/s, battery in percent, wheels in radians."""

    device_id: str
    rng: Random
    x: float = 0.0
    y: float = 0.0
    theta: float = 0.0
    speed: float = 0.0
    turn: float = 0.0
    battery: float = 100.0
    doing: Doing = Doing.WAITING
    wheels: tuple[float, float] = (0.0, 0.0)
    motor_temperature: float = 30.0
    uptime_s: float = 0.0
    odometer: float = 0.0
    place: str = ""
    path: list[str] = field(default_factory=list)
    _wait_s: float = 0.0
    _driven: Velocity = STILL

    @classmethod
    def spawn(cls, device_id: str, seed: int) -> Robot:
        """A robot somewhere on the plan; `seed` and name decide everything it will ever do."""
        rng = Random(f"{seed}/{device_id}")  # noqa: S311 - a simulation has to be repeatable
        robot = cls(device_id, rng, place=rng.choice(plan.NAMES))
        robot.x, robot.y = plan.WAYPOINTS[robot.place]
        robot.theta = rng.uniform(-math.pi, math.pi)
        robot.battery = rng.uniform(35.0, 100.0)
        robot.uptime_s = rng.uniform(60.0, 200_000.0)
        robot._wait_s = rng.uniform(0.0, 3.0)
        return robot

    def obey(self, velocity: Velocity | None) -> None:
        """Be driven; with None, go on from the waypoint that is nearest."""
        if velocity is not None:
            self.doing, self.path, self._driven = Doing.DRIVEN, [], velocity
        elif self.doing is Doing.DRIVEN:
            self.place = min(plan.NAMES, key=lambda name: math.dist(plan.WAYPOINTS[name], (self.x, self.y)))
            self._wait()

    def step(self, seconds: float) -> None:
        """Live for `seconds`, in strides short enough that a turn stays a turn."""
        strides = max(1, math.ceil(seconds / _LONGEST_STEP_S))
        for _ in range(strides):
            self._stride(seconds / strides)

    def _stride(self, dt: float) -> None:
        self.uptime_s += dt
        self._decide(dt)
        self._steer(dt)
        self._move(dt)
        self._use_energy(dt)

    def _decide(self, dt: float) -> None:
        if self.doing is Doing.CHARGING:
            if self.battery >= BATTERY_FULL:
                self._wait()
        elif self.path:
            self._pass_waypoint()
        elif self.doing is Doing.WAITING:
            self._wait_s -= dt
            if self._wait_s <= 0:
                self._choose_goal()

    def _pass_waypoint(self) -> None:
        target = plan.WAYPOINTS[self.path[0]]
        if math.dist((self.x, self.y), target) > _ARRIVED:
            return
        self.place = self.path.pop(0)
        if self.path:
            return
        if self.doing is Doing.DOCKING:
            self.doing = Doing.CHARGING
        else:
            self._wait()

    def _wait(self) -> None:
        self.doing = Doing.WAITING
        self._wait_s = self.rng.uniform(0.5, 5.0)

    def _choose_goal(self) -> None:
        needs_dock = self.battery < BATTERY_LOW
        goal = self.rng.choice(plan.DOCKS if needs_dock else plan.NAMES)
        self.doing = Doing.DOCKING if needs_dock else Doing.DRIVING
        # The robot may stand a little beside the waypoint it is at, so the way starts there again.
        self.path = list(plan.route(self.place, goal))

    def _steer(self, dt: float) -> None:
        speed, turn = self._wanted()
        self.speed = _towards(self.speed, speed, ACCELERATION * dt)
        self.turn = _towards(self.turn, turn, TURN_ACCELERATION * dt)

    def _wanted(self) -> Velocity:
        if self.doing is Doing.DRIVEN:
            return _clamped(self._driven[0], MAX_SPEED), _clamped(self._driven[1], MAX_TURN)
        if not self.path:
            return 0.0, 0.0
        x, y = plan.WAYPOINTS[self.path[0]]
        error = wrap(math.atan2(y - self.y, x - self.x) - self.theta)
        turn = _clamped(2.2 * error, MAX_TURN)
        # Turn on the spot first, and brake in time for the next corner.
        ahead = max(0.0, math.cos(error)) ** 6
        brake = math.sqrt(2 * ACCELERATION * 0.7 * max(0.02, math.dist((x, y), (self.x, self.y)) - 0.1))
        return min(MAX_SPEED, brake) * ahead, turn

    def _move(self, dt: float) -> None:
        heading = self.theta + self.turn * dt / 2
        if self.doing is Doing.DRIVEN and self._is_wall_ahead(heading, dt):
            self.speed = 0.0
        self.x += self.speed * math.cos(heading) * dt
        self.y += self.speed * math.sin(heading) * dt
        self.theta = wrap(self.theta + self.turn * dt)
        self.odometer += abs(self.speed) * dt
        side = self.turn * WHEEL_BASE / 2
        self.wheels = (
            self.wheels[0] + (self.speed - side) / WHEEL_RADIUS * dt,
            self.wheels[1] + (self.speed + side) / WHEEL_RADIUS * dt,
        )

    def _is_wall_ahead(self, heading: float, dt: float) -> bool:
        """Its own ways keep clear of walls; a driver's need not."""
        ahead = (self.x + self.speed * math.cos(heading) * dt, self.y + self.speed * math.sin(heading) * dt)
        return plan.clearance(ahead) <= plan.ROBOT_RADIUS

    def _use_energy(self, dt: float) -> None:
        if self.doing is Doing.CHARGING:
            self.battery = min(100.0, self.battery + CHARGE * dt)
        else:
            self.battery = max(0.0, self.battery - (IDLE_DRAIN + DRIVE_DRAIN * abs(self.speed)) * dt)
        goal = 30.0 + 25.0 * abs(self.speed)
        self.motor_temperature += (goal - self.motor_temperature) * min(1.0, dt / 40.0)


def wrap(angle: float) -> float:
    """The same direction between -π and π."""
    return (angle + math.pi) % math.tau - math.pi


def _clamped(value: float, most: float) -> float:
    return max(-most, min(most, value))


def _towards(value: float, goal: float, most: float) -> float:
    return value + _clamped(goal - value, most)
