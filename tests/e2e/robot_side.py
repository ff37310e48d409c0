"""A robot with a live ROS graph, the real bridge in it, and a cable to the broker that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
rosfit: {{device_id: {device_id}}}
connection:
  host: 127.0.0.1
  port: {port}
  auth: {{method: token, token: {token}}}
  reconnect: {{min_s: 0.1, max_s: 0.5}}
bridge:
  spool: {{path: {spool}}}
  publish:
    - {{ros_topic: /odom, mqtt_suffix: telemetry/odom, msg_type: nav_msgs/Odometry, qos: 1}}
    - {{ros_topic: /battery, mqtt_suffix: telemetry/battery, msg_type: sensor_msgs/BatteryState, qos: 1}}
    - {{ros_topic: /camera/compressed, mqtt_suffix: blob/image, msg_type: sensor_msgs/CompressedImage, qos: 0}}
"""


@contextmanager
def robot(folder: Path, device_id: str, port: int, token: str) -> Iterator[None]:
    """The ROS node and the bridge, each a process, in a ROS domain of their own."""
    config = folder / "rosfit-bridge.yaml"
    config.write_text(CONFIG.format(device_id=device_id, port=port, token=token, spool=folder / "spool"))
    environment = {
        **{name: value for name, value in os.environ.items() if name not in _BOOTSTRAP},
        "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 100)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONPATH": str(ROOT / "rosfit_bridge"),
    }
    node = [sys.executable, str(ROOT / "tests/e2e/ros_robot.py")]
    bridge = [sys.executable, str(ROOT / "rosfit_bridge/scripts/bridge"), "--config", str(config)]
    with (folder / "robot.log").open("wb") as log:
        running = [subprocess.Popen(command, env=environment, stdout=log, stderr=log) for command in (bridge, node)]
    try:
        yield
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(15)


# What the ROS wheels set when they restart Python; another interpreter must find its libraries itself.
_BOOTSTRAP = {"LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}


class Cable:
    """Carries bytes between a port of its own and the broker's, unless it is cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._whole = True
        self._ends: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._ends |= {writer, far_writer}
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._ends -= {writer, far_writer}

    def cut(self) -> None:
        self._whole = False
        for end in self._ends:
            end.transport.abort()

    def mend(self) -> None:
        self._whole = True


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def cable_to(target: int) -> AsyncIterator[Cable]:
    from tests.server import free_ports

    cable = Cable(target)
    (cable.port,) = free_ports(1)
    server = await asyncio.start_server(cable.carry, "127.0.0.1", cable.port)
    try:
        yield cable
    finally:
        cable.cut()
        server.close()
