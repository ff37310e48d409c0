"""A live ROS robot with its bridge on a real server: commanded over REST, driven over the WebSocket, and cut off."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import websockets.sync.client

from tests.server import RunningServer, until

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "rosfit_bridge/test") not in sys.path:
    sys.path.append(str(ROOT / "rosfit_bridge/test"))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 100)))

import down_rig  # noqa: E402
from bridge_rig import BridgeProcess, Cable  # noqa: E402
from sensor_msgs.srv import SetCameraInfo  # noqa: E402

DEVICE = "bot-01"
FINAL = {"succeeded", "failed", "rejected", "expired", "cancelled", "timed_out"}


class MarkedRobot(down_rig.LiveRobot):
    """`effects` are the marks of the commands that took effect, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.effects: list[str] = []
        self.node.create_service(SetCameraInfo, self.of("mark"), self._mark)

    def config(self, port: int, spool: object, **options: Any) -> str:
        mark = f"    - {{command: mark, ros_service: {self.of('mark')}, srv_type: sensor_msgs/SetCameraInfo}}\n"
        return super().config(port, spool, **options).replace("  parameters:", f"{mark}  parameters:")

    def _mark(self, request: Any, response: Any) -> Any:
        self.effects.append(request.camera_info.header.frame_id)
        response.success = True
        return response


class StallingCable(Cable):
    """A line on which nothing arrives any more and nothing says so."""

    def __init__(self, target: int) -> None:
        self._flowing = threading.Event()
        self._flowing.set()
        super().__init__(target)

    def stall(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def _forward(self, key: Any) -> bool:  # type: ignore[override]
        self._flowing.wait()
        return super()._forward(key)


class RosSite:
    """A registered robot, its bridge behind a cable, and the server. `extra` is more of the bridge's configuration."""

    def __init__(
        self, server: RunningServer, folder: Path, extra: Callable[[MarkedRobot], str] = lambda robot: ""
    ) -> None:
        self.server = server
        server.admin.device(DEVICE, type="ros2_robot")
        token = server.admin.device_token(DEVICE)
        self.robot = MarkedRobot()
        self.cable = StallingCable(server.mqtt_port)
        config = self.robot.config(self.cable.port, folder / "spool", token=token, extra=extra(self.robot))
        self.bridge = BridgeProcess(folder, config)
        self.bridge.start()
        self.online()

    def online(self) -> None:
        until(lambda: self.device()["status"] == "online", 30)

    def device(self) -> dict[str, Any]:
        return self.server.admin.got(f"/devices/{DEVICE}")

    def close(self) -> None:
        self.cable.flow()
        self.bridge.end()
        self.cable.close()
        self.robot.close()

    def send(self, command: str, data: dict[str, Any] | None = None, **options: Any) -> str:
        body = {"command": command, "data": data or {}, **options}
        return self.server.admin.made(f"/commands/{DEVICE}", body, 202)["command_id"]

    def command(self, command_id: str) -> dict[str, Any]:
        return self.server.admin.got(f"/commands/{DEVICE}/{command_id}")

    def ended(self, command_id: str, within_s: float = 20) -> dict[str, Any]:
        until(lambda: self.command(command_id)["status"] in FINAL, within_s)
        return self.command(command_id)

    def done(self, command: str, data: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        return self.ended(self.send(command, data, **options))


class Driver:
    """Holds the stick at half a metre per second, 20 times a second, with a ping now and then."""

    def __init__(self, site: RosSite, *, pings: bool = True) -> None:
        url = f"{site.server.websocket_url}/teleop/{DEVICE}?token={site.server.admin.token}&take_over=true"
        self._site, self._pings = site, pings
        # Nobody reads the answers, and a full queue would hold up the closing handshake.
        self.socket = websockets.sync.client.connect(url, max_queue=None)
        self.pinged_at = time.monotonic()
        self.socket.send('{"type":"ping"}')
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        site.robot.velocities.clear()
        self._thread.start()
        # A server that was killed again and again comes back after ever longer pauses.
        until(lambda: len([v for v in site.robot.velocities if v[1]]) > 5, 60)

    def let_go(self) -> None:
        self._over.set()
        self._thread.join(2.0)

    def close(self) -> None:
        self.let_go()
        self.socket.close()

    def _run(self) -> None:
        seq = 0
        while not self._over.wait(0.05):
            seq += 1
            try:
                if self._pings and seq % 10 == 0:
                    self.socket.send('{"type":"ping"}')
                self.socket.send(json.dumps({"seq": seq, "linear_x": 0.5, "angular_z": 0.0}))
            except (OSError, websockets.exceptions.ConnectionClosed):
                return


def zero_after_s(site: RosSite, lost_at: float, *, may_go_on: bool = False, within_s: float = 10.0) -> float:
    """Seconds from `lost_at` until the first zero that no motion followed, unless the line may come back by itself."""

    def first() -> float | None:
        heard = list(site.robot.velocities)
        if may_go_on:
            return next((at for at, x, _ in heard if at > lost_at and not x), None)
        moved = max((at for at, x, _ in heard if x), default=lost_at)
        zeros = [at for at, x, _ in heard if not x and at > max(moved, lost_at)]
        return zeros[0] if zeros and time.monotonic() - moved > 0.7 else None

    return until(first, within_s) - lost_at


def attempt(call: Callable[[], Any], within_s: float = 40) -> Any:
    """Its outcome, once the server is there again."""
    import httpx

    def once() -> list[Any]:
        try:
            return [call()]
        except (httpx.TransportError, AssertionError):
            return []

    return until(once, within_s)[0]
