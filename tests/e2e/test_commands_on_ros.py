"""REST → broker → bridge → ROS → REST: what works, and what is left of it when everything is killed."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.ros_site import DEVICE, FINAL, RosSite, attempt
from tests.e2e.site import Site
from tests.server import running_server

VICTIMS = ["server", "broker", "bridge"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RosSite]:
    with running_server() as server:
        made = RosSite(server, tmp_path_factory.mktemp("bridge"))
        yield made
        made.close()


def test_a_command_and_its_steps(site: RosSite) -> None:
    ended = site.done("set_bool", {"data": True})
    assert (ended["status"], ended["result"]) == ("succeeded", {"success": True, "message": "on"})
    assert [step["status"] for step in ended["steps"]] == ["pending", "delivered", "acked", "succeeded"]
    refused = site.done("reboot")
    assert (refused["status"], refused["error"]["code"]) == ("rejected", "NOT_ALLOWED")


def test_parameters_over_rest(site: RosSite) -> None:
    node, admin = site.robot.name, site.server.admin
    path = f"/devices/{DEVICE}/params/{node}/max_speed"
    assert admin.got(path) == {f"/{node}": {"max_speed": 1.0}}
    answer = admin.put(path, json={"value": 1.5})
    assert answer.json()["params"][0]["old_value"] == 1.0
    assert site.robot.node.get_parameter("max_speed").value == 1.5
    refused = admin.put(path, json={"value": 9.0})
    assert "faster than the motors" in refused.json()["detail"]


def test_emergency_stop_over_rest(site: RosSite) -> None:
    answer = site.server.admin.post(f"/devices/{DEVICE}/emergency-stop")
    assert answer.status_code == 202, answer.text
    assert site.ended(answer.json()["command_id"])["result"]["stopped"] == [site.robot.of("cmd_vel")]


@pytest.mark.parametrize("count", [15, pytest.param(200, marks=pytest.mark.full)])
def test_each_has_one_effect_or_none_and_says_which(site: RosSite, count: int) -> None:
    """Server, broker and bridge die by kill -9 at random moments while commands are sent, accepted and carried out."""
    site.robot.effects.clear()
    run = secrets.token_hex(8)
    rng = random.Random(count)
    every = 5 if count < 100 else 10
    killed = [victim for _ in range(-(-count // every // 3)) for victim in rng.sample(VICTIMS, 3)]
    sent = []
    for number in range(count):
        sent.append(attempt(lambda number=number: _send(site, run, number)))
        if number % every == every - 1:
            time.sleep(rng.uniform(0.0, 0.2))  # a moment of the seed, not waiting for anything
            _kill(site, killed.pop())
    ended = {one: attempt(lambda one=one: _ended(site, one)) for one in sent}
    effects = Counter(site.robot.effects)
    assert effects.keys() <= {f"mark-{number}" for number in range(count)}
    for number, one in enumerate(sent):
        _check(ended[one], effects[f"mark-{number}"])
    order = [int(mark.rpartition("-")[2]) for mark in site.robot.effects]
    assert order == sorted(order)
    statuses = Counter(command["status"] for command in ended.values())
    print(f"{count} commands: {dict(statuses)}, {len(order)} effects")
    # Bridges that are killed again before they know the graph leave many interrupted: how many is chance.
    assert statuses["succeeded"] >= count // 10


def _check(command: dict[str, Any], effects: int) -> None:
    assert effects <= 1, command
    if command["status"] == "succeeded":
        assert effects == 1, command
    elif command["status"] == "failed":
        assert command["error"]["code"] in {"INTERRUPTED", "UNAVAILABLE", "TIMEOUT"}, command
    else:
        assert command["status"] in {"timed_out", "expired"}, command
        assert not effects, command


def _send(site: RosSite, run: str, number: int) -> str:
    """With a key, so that a request whose answer died with the server is still one command."""
    body = {
        "command": "mark",
        "data": {"camera_info": {"header": {"frame_id": f"mark-{number}"}}},
        "queue": True,
        "timeout_s": 15,
    }
    key = {"Idempotency-Key": f"{run}-{number}"}
    answer = site.server.admin.post(f"/commands/{DEVICE}", json=body, headers=key)
    assert answer.status_code == 202, answer.text
    return answer.json()["command_id"]


def _ended(site: RosSite, command_id: str) -> dict[str, Any]:
    command = site.command(command_id)
    assert command["status"] in FINAL
    return command


def _kill(site: RosSite, victim: str) -> None:
    if victim == "server":
        site.server.kill()
        site.server.start()
    elif victim == "broker":
        Site(site.server).kill("mosquitto")
    else:
        site.bridge.kill()
        site.bridge.start()
