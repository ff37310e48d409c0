"""The client of the contract's section 7 as a stranger writes it: in Node.js, with its own WebSocket."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.commands.test_commands import Device
from tests.server import RunningServer, running_server

CLIENT = Path(__file__).with_name("seed_client.mjs")
NODE = shutil.which("node")


def needs_node(test: Callable[..., None]) -> Callable[..., None]:
    """RosFit needs no Node.js; where there is none, only the full run asks for it."""
    return test if NODE else pytest.mark.full(test)


@contextmanager
def seed_client(server: RunningServer, device_id: str) -> Iterator[Iterator[dict[str, Any]]]:
    """What it is told, until it has its result."""
    assert NODE, "this test needs Node.js 20.10 or newer: apt install nodejs"
    # Node.js 20 has its WebSocket behind this option; later ones have it without and take it all the same.
    command = [NODE, "--experimental-websocket", str(CLIENT), server.websocket_url, str(server.admin.token), device_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        yield map(json.loads, client.stdout)
    assert client.returncode == 0


@needs_node
def test_the_seed_client() -> None:
    with running_server() as server, Device(server, "bot-01", type="ros2_robot") as robot:
        with seed_client(server, "bot-01") as told:
            assert next(told)["type"] == "auth_result"
            assert next(told)["type"] == "subscribed"
            robot.say("telemetry/odom", {"x": 1.5})
            sample = next(told)
            assert sample["channel"] == "telemetry:bot-01:odom"
            assert sample["data"]["payload"] == {"x": 1.5}
            request = robot.asked()
            assert (request["command"], request["data"]) == ("navigate_to", {"x": 5, "y": 2})
            robot.answer(request, "acked")
            robot.answer(request, "succeeded", result={"reached": True})
            steps = list(told)
        assert [(step["type"], step["data"]["status"]) for step in steps] == [
            ("command_ack", "pending"),
            ("command_ack", "delivered"),
            ("command_ack", "acked"),
            ("command_result", "succeeded"),
        ]
        assert {step["data"]["command_id"] for step in steps} == {request["command_id"]}
        assert {step["request_id"] for step in steps} == {"r-1"}
        assert steps[-1]["data"]["result"] == {"reached": True}
