"""The floor plan and the robot on it: properties that hold for every seed."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rosfit.sim import model, plan, remote
from rosfit.sim.model import Doing, Robot

seeds = st.integers(min_value=0, max_value=2**32)


@pytest.mark.parametrize("name", plan.NAMES)
def test_every_way_keeps_clear_of_walls(name):
    for other in plan.LINKS[name]:
        (ax, ay), (bx, by) = plan.WAYPOINTS[name], plan.WAYPOINTS[other]
        along = [(ax + (bx - ax) * part / 20, ay + (by - ay) * part / 20) for part in range(21)]
        assert min(map(plan.clearance, along)) > 2 * plan.ROBOT_RADIUS, (name, other)


def test_every_waypoint_leads_everywhere_along_links():
    for start in plan.NAMES:
        for goal in plan.NAMES:
            way = plan.route(start, goal)
            assert (way[0], way[-1]) == (start, goal)
            assert all(there in plan.LINKS[here] for here, there in itertools.pairwise(way))


@given(seed=seeds, dt=st.floats(min_value=0.02, max_value=1.0))
@settings(max_examples=40, deadline=None)
def test_robot_moves_smoothly_and_never_touches_a_wall(seed, dt):
    """No step is longer than top speed allows, no turn faster, and the robot's body stays clear of walls."""
    robot = Robot.spawn("sim-001", seed)
    for _ in range(200):
        before = (robot.x, robot.y, robot.theta)
        robot.step(dt)
        assert math.dist(before[:2], (robot.x, robot.y)) <= model.MAX_SPEED * dt + 1e-9
        assert abs(model.wrap(robot.theta - before[2])) <= model.MAX_TURN * dt + 1e-9
        assert plan.clearance((robot.x, robot.y)) > plan.ROBOT_RADIUS
        assert -math.pi <= robot.theta <= math.pi
        assert 0.0 <= robot.battery <= 100.0


@given(seed=seeds, velocities=st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_a_driven_robot_keeps_its_limits_and_out_of_walls_and_finds_back(seed, velocities):
    robot = Robot.spawn("sim-001", seed)
    for velocity in velocities:
        robot.obey(velocity)
        for _ in range(30):
            robot.step(0.1)
            assert abs(robot.speed) <= model.MAX_SPEED + 1e-9
            assert plan.clearance((robot.x, robot.y)) > plan.ROBOT_RADIUS
    robot.obey(None)
    robot.battery = 90.0
    for _ in range(3_000):
        robot.obey(None)
        robot.step(0.1)
        if robot.path:
            break
    assert robot.doing is Doing.DRIVING


def test_a_driver_who_lets_go_keeps_the_robot_for_a_while_and_a_stop_for_longer():
    now = [0.0]
    one = remote.Remote(clock=lambda: now[0])
    said = []
    one.drive((0.5, 0.1))
    for now[0] in (0.4, 0.6, 9.9, 10.1):
        said.append(one.wanted())
    assert said == [(0.5, 0.1), remote.STILL, remote.STILL, None]
    one.drive((0.5, 0.1))
    one.stop()
    assert one.wanted() == remote.STILL
    one.resume()
    assert one.wanted() is None


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_an_hour_holds_driving_docking_and_charging(seed):
    """A robot gets about, runs low, charges at a dock and is off again; its battery never runs out."""
    robot = Robot.spawn("sim-001", seed)
    docked_at, lowest = set(), 100.0
    for _ in range(12_000):
        robot.step(0.3)
        lowest = min(lowest, robot.battery)
        if robot.doing is Doing.CHARGING:
            docked_at.add(robot.place)
    assert robot.odometer > 500
    assert docked_at
    assert docked_at <= set(plan.DOCKS)
    assert 0 < lowest < model.BATTERY_LOW


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_same_seed_same_robot(seed):
    one, other = Robot.spawn("sim-001", seed), Robot.spawn("sim-001", seed)
    for _ in range(300):
        one.step(0.2)
        other.step(0.2)
    assert (one.x, one.y, one.theta, one.battery, one.path) == (
        other.x, other.y, other.theta, other.battery, other.path
    )  # fmt: skip


def test_wheels_agree_with_the_way():
    """The mean of both wheels is the way, their difference the turn."""
    robot = Robot.spawn("sim-001", 5)
    turned = 0.0
    for _ in range(600):
        before = robot.theta
        robot.step(0.1)
        turned += model.wrap(robot.theta - before)
    left, right = (angle * model.WHEEL_RADIUS for angle in robot.wheels)
    assert (left + right) / 2 == pytest.approx(robot.odometer)
    assert (right - left) / model.WHEEL_BASE == pytest.approx(turned)


def test_beams_measure_the_corridor():
    """From the middle of the corridor: its ends at x 0 and 24, and the far walls through the doors."""
    east, north, west, south = plan.beams(3.0, 8.0, np.array([0.0, math.pi / 2, math.pi, -math.pi / 2]))
    assert (east, west) == (pytest.approx(21.0), pytest.approx(3.0))
    # Through the northern door to the table, through the southern one to the wall.
    assert north == pytest.approx(7.2)
    assert south == pytest.approx(8.0)


@given(x=st.floats(0.3, 23.7), y=st.floats(7.3, 8.7), angle=st.floats(-math.pi, math.pi))
@settings(max_examples=200, deadline=None)
def test_a_beam_ends_on_a_wall(x, y, angle):
    (metres,) = plan.beams(x, y, np.array([angle]))
    assert math.isfinite(metres)
    assert plan.clearance((x + metres * math.cos(angle), y + metres * math.sin(angle))) < 1e-6
