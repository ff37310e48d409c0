"""The floor plan that all simulated robots share: walls, ways through the doors, and what a beam hits.

Metres, x to the right and y up; a corridor with four rooms on either side.

    y 16 ┌──────┬──────┬──────┬──────┐
         │      │      │      │      │
       9 ├──  ──┴──  ──┴──  ──┴──  ──┤
         │          corridor         │
       7 ├──  ──┬──  ──┬──  ──┬──  ──┤
         │ docks│      │      │      │
       0 └──────┴──────┴──────┴──────┘
         0      6      12     18     24 x
"""

from __future__ import annotations

import heapq
import math
from functools import cache

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 24.0, 16.0
DOOR_WIDTH = 1.4
ROBOT_RADIUS = 0.25

Point = tuple[float, float]
Segment = tuple[Point, Point]

_ROOM_LEFTS = (0.0, 6.0, 12.0, 18.0)
_ROOM_WIDTH = 6.0
_SOUTH, _NORTH = 7.0, 9.0
# From a room's corner to the waypoint in it.
_INSET = 1.3


def _box(left: float, bottom: float, right: float, top: float) -> list[Segment]:
    corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
    return list(zip(corners, [*corners[1:], corners[0]], strict=True))


def _door_wall(left: float, y: float) -> list[Segment]:
    """The corridor wall of one room, open in its middle."""
    middle, half = left + _ROOM_WIDTH / 2, DOOR_WIDTH / 2
    return [((left, y), (middle - half, y)), ((middle + half, y), (left + _ROOM_WIDTH, y))]


def _walls() -> tuple[Segment, ...]:
    walls = _box(0.0, 0.0, WIDTH, HEIGHT)
    for left in _ROOM_LEFTS:
        walls += _door_wall(left, _SOUTH) + _door_wall(left, _NORTH)
        # A table against the far wall, away from every way.
        walls += _box(left + 2.3, 15.2, left + 3.7, 15.8)
    for x in _ROOM_LEFTS[1:]:
        walls += [((x, 0.0), (x, _SOUTH)), ((x, _NORTH), (x, HEIGHT))]
    return tuple(walls)


WALLS = _walls()


def _ways() -> tuple[dict[str, Point], dict[str, list[str]]]:
    """Named waypoints, and which of them can be reached from which in a straight line."""
    points: dict[str, Point] = {}
    links: dict[str, list[str]] = {}

    def link(one: str, other: str) -> None:
        links.setdefault(one, []).append(other)
        links.setdefault(other, []).append(one)

    for number, left in enumerate(_ROOM_LEFTS):
        middle = left + _ROOM_WIDTH / 2
        points[f"corridor-{number}"] = (middle, 8.0)
        if number:
            link(f"corridor-{number - 1}", f"corridor-{number}")
        for side, bottom in (("s", 0.0), ("n", _NORTH)):
            room = f"{side}{number}"
            points[f"{room}-door"] = (middle, _SOUTH - 0.9 if side == "s" else _NORTH + 0.9)
            points[f"{room}-centre"] = (middle, bottom + 3.5)
            link(f"corridor-{number}", f"{room}-door")
            link(f"{room}-door", f"{room}-centre")
            for name, x, y in _corners(left, bottom):
                points[f"{room}-{name}"] = (x, y)
                link(f"{room}-centre", f"{room}-{name}")
    return points, links


def _corners(left: float, bottom: float) -> list[tuple[str, float, float]]:
    west, east = left + _INSET, left + _ROOM_WIDTH - _INSET
    south, north = bottom + _INSET, bottom + _SOUTH - _INSET
    return [("sw", west, south), ("se", east, south), ("nw", west, north), ("ne", east, north)]


WAYPOINTS, LINKS = _ways()
NAMES = tuple(WAYPOINTS)
DOCKS = ("s0-sw", "s0-se", "s0-nw", "s0-ne")


@cache
def route(start: str, goal: str) -> tuple[str, ...]:
    """The shortest way from one waypoint to another, both included (Dijkstra)."""
    queue: list[tuple[float, str, tuple[str, ...]]] = [(0.0, start, (start,))]
    seen: set[str] = set()
    while queue:
        length, here, path = heapq.heappop(queue)
        if here == goal:
            return path
        if here in seen:
            continue
        seen.add(here)
        for neighbour in LINKS[here]:
            step = math.dist(WAYPOINTS[here], WAYPOINTS[neighbour])
            heapq.heappush(queue, (length + step, neighbour, (*path, neighbour)))
    raise ValueError(f"no way leads from {start} to {goal}")


def clearance(point: Point) -> float:
    """Metres to the nearest wall."""
    return min(_distance(point, wall) for wall in WALLS)


def _distance(point: Point, segment: Segment) -> float:
    (ax, ay), (bx, by) = segment
    dx, dy = bx - ax, by - ay
    along = ((point[0] - ax) * dx + (point[1] - ay) * dy) / (dx * dx + dy * dy)
    along = min(1.0, max(0.0, along))
    return math.dist(point, (ax + along * dx, ay + along * dy))


_STARTS = np.array([wall[0] for wall in WALLS])
_SPANS = np.array([wall[1] for wall in WALLS]) - _STARTS


def beams(x: float, y: float, angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Metres from (x, y) to the first wall at each absolute angle; infinite where there is none."""
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    offsets = _STARTS - (x, y)
    cross = directions[:, None, 0] * _SPANS[None, :, 1] - directions[:, None, 1] * _SPANS[None, :, 0]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        reach = (offsets[:, 0] * _SPANS[:, 1] - offsets[:, 1] * _SPANS[:, 0])[None, :] / cross
        along = (offsets[None, :, 0] * directions[:, None, 1] - offsets[None, :, 1] * directions[:, None, 0]) / cross
    hits = (reach > 0) & (along >= 0) & (along <= 1)
    nearest: npt.NDArray[np.float64] = np.where(hits, reach, np.inf).min(axis=1)
    return nearest
