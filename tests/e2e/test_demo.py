"""`rosfit serve --demo`: a first look, with robots that live as long as their server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server import RunningServer, running_server, until


def robots_of(server: RunningServer) -> list[int]:
    """Processes that simulate robots in this data folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if b"sim" in words and str(server.data_dir).encode() in words:
            found.append(int(path.parent.name))
    return found


def moving(server: RunningServer) -> bool:
    answer = server.admin.get("/telemetry/sim-001", params={"stream": "odom", "limit": 10})
    # 404 until it is registered.
    return answer.is_success and len({str(sample["payload"]) for sample in answer.json()["items"]}) > 3


@pytest.mark.full
def test_the_robots_of_the_demo_end_with_a_killed_server_and_come_back_with_the_next() -> None:
    with running_server() as server:
        server.stop()
        server.start("--demo")
        first = until(lambda: robots_of(server))
        until(lambda: moving(server), within_s=30)
        server.kill()
        until(lambda: not robots_of(server), within_s=30)
        server.start("--demo")
        second = until(lambda: robots_of(server))
        assert len(second) == 1
        assert second != first
        latest = server.admin.got("/telemetry/sim-001", limit=1)["items"][0]["time"]
        until(lambda: server.admin.got("/telemetry/sim-001", limit=1)["items"][0]["time"] > latest, within_s=30)
