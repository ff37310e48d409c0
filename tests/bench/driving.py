"""The way down, with a live ROS graph and the bridge: commands, the stick, and how soon a robot stands still."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import websockets.sync.client

from tests.bench import serving
from tests.bench.latency import Quantiles
from tests.e2e.losses import LOSSES, seconds_to_zero
from tests.e2e.ros_site import DEVICE, FINAL, RosSite
from tests.e2e.site import Site
from tests.server import RunningServer, until

STICK_HZ = 50
# What a velocity carries of its number: the stick's range is one, and float64 travels all the way.
STEP = 1e-5
BESIDE = 50


@dataclass
class Figures:
    """Milliseconds; commands/s; milliseconds to zero velocity of each kind of loss, in order."""

    command: Quantiles
    stick: Quantiles
    stick_sent: int
    accepted_per_s: float
    zero: dict[str, list[float]]


def measure(server: RunningServer, quick: bool) -> Figures:
    seconds, rounds = (3.0, 1) if quick else (15.0, 20)
    with tempfile.TemporaryDirectory(prefix="rosfit-bench-") as folder:
        site = RosSite(server, Path(folder))
        try:
            command = Quantiles.of(_round_trips(site, seconds))
            with simulated(server):
                sent, took = _stick(site, seconds)
            accepted = asyncio.run(_accepted_per_s(server, seconds / 2))
            zero = {loss: sorted(1000 * seconds_to_zero(site, loss) for _ in range(rounds)) for loss in LOSSES}
        finally:
            site.close()
    return Figures(command, Quantiles.of(took), sent, accepted, zero)


def _round_trips(site: RosSite, seconds: float) -> list[float]:
    """POST, the service call, and GET as often as it takes to see the end."""
    assert site.done("trigger")["status"] == "succeeded"
    found = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.perf_counter()
        command_id = site.send("trigger")
        while site.command(command_id)["status"] not in FINAL:
            pass
        found.append(1000 * (time.perf_counter() - began))
    return found


@contextmanager
def simulated(server: RunningServer) -> Iterator[None]:
    """Robots that stream telemetry beside the one that is driven."""
    ours = {"ROSFIT_DATA_DIR": str(server.data_dir), "ROSFIT_MQTT_PORT": str(server.mqtt_port)}
    command = [sys.executable, "-m", "rosfit.cli", "sim", "--robots", str(BESIDE)]
    running = subprocess.Popen(command, env=os.environ | ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _online(server) > BESIDE, 60)
        yield
    finally:
        running.terminate()
        running.wait(30)


def _online(server: RunningServer) -> int:
    return len(server.admin.got("/devices", status="online", limit=200)["items"])


def _stick(site: RosSite, seconds: float) -> tuple[int, list[float]]:
    """How many were sent, and how long those took that arrived."""
    url = f"{site.server.websocket_url}/teleop/{DEVICE}?token={site.server.admin.token}"
    sent: dict[int, float] = {}
    site.robot.velocities.clear()
    with websockets.sync.client.connect(url, max_queue=None) as socket:
        began = time.monotonic()
        for seq in range(1, int(seconds * STICK_HZ) + 1):
            time.sleep(max(0.0, began + seq / STICK_HZ - time.monotonic()))
            if seq % STICK_HZ == 1:
                socket.send('{"type":"ping"}')
            sent[seq] = time.monotonic()
            socket.send(json.dumps({"seq": seq, "linear_x": seq * STEP, "angular_z": 0.0}))
    heard = {round(x / STEP): at for at, x, _ in list(site.robot.velocities) if x}
    return len(sent), [1000 * (at - sent[seq]) for seq, at in heard.items() if seq in sent]


async def _accepted_per_s(server: RunningServer, seconds: float) -> float:
    """Commands that wait for a robot that is away: each answer comes after its commit."""
    server.admin.device("bench-away")
    body: dict[str, Any] = {"command": "go", "data": {"x": 1.0}, "queue": True}
    return await serving.requests_per_s(Site(server), "/api/v1/commands/bench-away", seconds, body)
