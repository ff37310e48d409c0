"""What authentication costs, and how long a robot whose credential was revoked stays connected."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from statistics import median

from tests.bench.serving import ask_for
from tests.server import Robot, RunningServer, server_folder, until

PATH = "/api/v1/devices?limit=50"
DEVICES = 50
# In turns, so that whatever else the machine does falls on each alike.
TURNS = 8


class OpenServer(RunningServer):
    module = "tests.bench.open_server"


@dataclass
class AccessFigures:
    """GET /devices a second without authentication, by access token and by API key; revoke → disconnect in ms."""

    open_per_s: float
    token_per_s: float
    key_per_s: float
    revoke_ms: list[float]

    @property
    def cost(self) -> float:
        """The share of the requests a second that authentication takes, by whichever credential costs more."""
        return 1 - min(self.token_per_s, self.key_per_s) / self.open_per_s

    @property
    def revoke_p50_ms(self) -> float:
        return median(self.revoke_ms)


async def measure(seconds: float, rounds: int) -> AccessFigures:
    with server_folder() as folder:
        server = OpenServer(folder, ROSFIT_RATE_LIMIT_PER_S="1000000")
        server.start()
        try:
            for number in range(DEVICES):
                server.admin.device(f"bench-{number:02d}")
            per_s = await _requests(server, seconds / TURNS)
            return AccessFigures(*per_s, await asyncio.to_thread(_revocations, server, rounds))
        finally:
            server.clean_up()


async def _requests(server: RunningServer, seconds: float) -> tuple[float, float, float]:
    key = server.admin.made("/api-keys", {"name": "bench", "scopes": ["devices:read"]})["secret"]
    headers = (
        "X-Without-Authentication: 1",
        f"Authorization: Bearer {server.admin.token}",
        f"Authorization: Bearer {key}",
    )
    rates: list[list[float]] = [[] for _ in headers]
    for _ in range(TURNS):
        for header, found in zip(headers, rates, strict=True):
            found.append(await ask_for(server.url, PATH, header, seconds))
    opened, token, by_key = (median(found) for found in rates)
    return opened, token, by_key


def _revocations(server: RunningServer, rounds: int) -> list[float]:
    return [_revocation(server, f"revoked-{number}") for number in range(rounds)]


def _revocation(server: RunningServer, device_id: str) -> float:
    """From sending the request to the lost connection."""
    server.admin.device(device_id)
    with Robot(server.mqtt_port, device_id, server.admin.device_token(device_id)) as robot:
        credential = server.admin.got(f"/devices/{device_id}/credentials")["items"][0]["id"]
        began = time.monotonic()
        assert server.admin.delete(f"/devices/{device_id}/credentials/{credential}").status_code == 204
        until(lambda: robot.lost, 5)
        return (robot.lost_at - began) * 1000
