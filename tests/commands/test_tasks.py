"""Tasks: a queue per robot, priorities, any free robot of a group, and cancelling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.commands.test_commands import Device
from tests.server import RunningServer, running_server, until


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as running:
        yield running


def create(server: RunningServer, task_type: str, **more: Any) -> str:
    made = server.admin.made("/tasks", {"task_type": task_type, **more})
    assert made["status"] == "queued"
    assert made["estimated_start"].endswith("Z")
    return made["task_id"]


def status_of(server: RunningServer, task_id: str) -> str:
    return server.admin.got(f"/tasks/{task_id}")["status"]


def test_a_robot_does_one_task_at_a_time_the_most_urgent_first(server: RunningServer) -> None:
    with Device(server, "k-1") as robot:
        first = create(server, "deliver", robot_id="k-1", parameters={"to": "A"})
        request = robot.asked()
        assert (request["command"], request["data"]) == ("deliver", {"to": "A"})
        low = create(server, "sweep", robot_id="k-1")
        high = create(server, "charge", robot_id="k-1", priority=5)
        assert server.admin.got("/robots/k-1/status")["current_task"]["task_id"] == first
        robot.answer(request, "succeeded", result={"ok": True})
        until(lambda: status_of(server, first) == "succeeded")
        request = robot.asked()
        assert request["command"] == "charge"
        assert status_of(server, low) == "queued"
        robot.answer(request, "failed", error={"code": "E1", "message": "no dock"})
        until(lambda: status_of(server, high) == "failed")
        assert server.admin.got(f"/tasks/{high}")["error"]["code"] == "E1"
        assert robot.asked()["command"] == "sweep"


def test_any_free_robot_of_a_group_takes_the_next_task(server: RunningServer) -> None:
    with Device(server, "k-2", tags=["pool"]) as one, Device(server, "k-3", tags=["pool"]) as other:
        server.admin.made("/groups", {"name": "pool", "kind": "query", "query": "tag:pool"})
        tasks = [create(server, "fetch", group="pool") for _ in range(2)]
        assert {one.asked()["command"], other.asked()["command"]} == {"fetch"}
        assert {server.admin.got(f"/tasks/{task}")["robot_id"] for task in tasks} == {"k-2", "k-3"}


def test_a_queued_task_is_cancelled_and_an_ended_one_is_not(server: RunningServer) -> None:
    with Device(server, "k-4") as robot:
        running, waiting = create(server, "a", robot_id="k-4"), create(server, "b", robot_id="k-4")
        request = robot.asked()
        assert server.admin.delete(f"/tasks/{waiting}").json()["status"] == "cancelled"
        assert server.admin.delete(f"/tasks/{waiting}").json()["code"] == "TASK_NOT_CANCELLABLE"
        robot.answer(request, "in_progress")
        assert server.admin.delete(f"/tasks/{running}").status_code == 200
        assert robot.asked()["command"] == "cancel"
        robot.answer(request, "cancelled")
        until(lambda: status_of(server, running) == "cancelled")
        assert server.admin.delete(f"/tasks/{running}").status_code == 409


def test_tasks_survive_a_killed_server(server: RunningServer) -> None:
    with Device(server, "k-5") as robot:
        robot.leave()
        task = create(server, "later", robot_id="k-5")
        server.kill()
        server.start()
        robot.connect()
        request = robot.asked()
        robot.answer(request, "succeeded")
        until(lambda: status_of(server, task) == "succeeded")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"task_type": "x"}, 422),
        ({"task_type": "x", "robot_id": "nobody"}, 404),
        ({"task_type": "x", "robot_id": "k-1", "group": "none"}, 422),
        ({"task_type": "", "robot_id": "k-1"}, 422),
    ],
)
def test_a_task_that_cannot_be_is_refused(server: RunningServer, body: dict[str, Any], status: int) -> None:
    assert server.admin.post("/tasks", json=body).status_code == status


def test_a_task_too_large_for_a_message_is_refused(server: RunningServer) -> None:
    server.admin.device("k-7")
    body = {"task_type": "x", "robot_id": "k-7", "parameters": {"a": "x" * 300_000}}
    answer = server.admin.post("/tasks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (413, "COMMAND_TOO_LARGE")


def test_a_task_that_cannot_start_any_more_fails_and_holds_nobody_up(server: RunningServer) -> None:
    with Device(server, "k-8") as robot:
        server.admin.made("/groups", {"name": "gone soon"})
        doomed = create(server, "x", group="gone soon", priority=9)
        assert server.admin.delete("/groups/gone soon").status_code == 204
        until(lambda: status_of(server, doomed) == "failed")
        assert server.admin.got(f"/tasks/{doomed}")["error"]["code"] == "GROUP_NOT_FOUND"
        create(server, "go", robot_id="k-8")
        assert robot.asked()["command"] == "go"


def test_a_long_queue_for_one_robot_does_not_hide_the_others(server: RunningServer) -> None:
    """More tasks than are looked at in one go, all of them before the one for the robot that is free."""
    server.admin.device("k-9")
    with Device(server, "k-10") as robot:
        for _ in range(120):
            create(server, "wait", robot_id="k-9", priority=1)
        create(server, "go", robot_id="k-10")
        assert robot.asked()["command"] == "go"


def test_a_decommissioned_robot_has_no_tasks(server: RunningServer) -> None:
    server.admin.device("k-11")
    waiting = create(server, "x", robot_id="k-11")
    assert server.admin.delete("/devices/k-11").status_code == 204
    until(lambda: status_of(server, waiting) == "failed")
    assert server.admin.got(f"/tasks/{waiting}")["error"]["code"] == "DEVICE_DECOMMISSIONED"
    answer = server.admin.post("/tasks", json={"task_type": "x", "robot_id": "k-11"})
    assert (answer.status_code, answer.json()["code"]) == (409, "DEVICE_DECOMMISSIONED")
