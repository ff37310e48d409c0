"""Shadow fields in device lists and saved queries, as the last write left them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server import RunningServer, running_server
from tests.shadow.test_shadow import Shadowed, patch


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """`a` has what is desired, `b` has something else, `c` never said anything, `d` has no shadow."""
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as running:
        with Shadowed(running, "a") as robot:
            patch(running, "a", {"nav": {"speed": 1, "mode": "slow"}, "lights": True})
            robot.report({"nav": {"speed": 1.0, "mode": "slow"}, "lights": True, "odd": ["x", {"deep": 3}]})
        with Shadowed(running, "b") as robot:
            patch(running, "b", {"nav": {"speed": 2.5}})
            robot.report({"nav": {"speed": "fast"}})
        running.admin.device("c")
        patch(running, "c", {"nav": {"speed": 10}})
        running.admin.device("d")
        yield running


def found(server: RunningServer, query: str) -> str:
    answer = server.admin.post("/groups/preview", json={"query": query})
    assert answer.is_success, answer.text
    return "".join(sorted(device["device_id"] for device in answer.json()["sample"]))


@pytest.mark.parametrize(
    ("query", "devices"),
    [
        ("shadow.reported.nav.speed > 0.5", "a"),
        ("shadow.reported.nav.speed = 1", "a"),
        ("shadow.reported.nav.speed = 1.0", "a"),
        ("shadow.reported.nav.speed:fast", "b"),
        ("shadow.reported.nav.speed != 1", "bcd"),
        ("-shadow.reported.nav.speed > 0.5", "bcd"),
        ("shadow.desired.nav.speed >= 2.5", "bc"),
        ("shadow.desired.nav.speed > 2.5", "c"),
        ("shadow.desired.nav.mode:slow,quick", "a"),
        ("shadow.desired.lights = true", "a"),
        ("shadow.reported.odd.1.deep = 3", "a"),
        ("shadow.reported.nav > 1", ""),
        ('shadow.desired.nav.mode = "x\' OR 1=1 --%s"', ""),
        ("shadow.state:in_sync", "a"),
        ("shadow.state:pending", "b"),
        ("shadow.state:never", "c"),
        ("shadow.state:none", "d"),
        ("shadow.state:pending,never", "bc"),
        ("-shadow.state:in_sync type:ros2_robot", "bcd"),
        ("shadow.pending < 1h", "bc"),
        ("shadow.pending > 1h", ""),
    ],
)
def test_a_query_finds_devices_by_their_shadow(server: RunningServer, query: str, devices: str) -> None:
    assert found(server, query) == devices


@pytest.mark.parametrize("query", ["shadow.delta.x = 1", "shadow = 1", "shadow.reported = 1", "shadow.pending > x"])
def test_what_is_no_field_of_a_shadow_is_named(server: RunningServer, query: str) -> None:
    answer = server.admin.post("/groups/preview", json={"query": query})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_QUERY")


def test_a_saved_query_follows_the_last_write(server: RunningServer) -> None:
    server.admin.made("/groups", {"name": "quick", "kind": "query", "query": "shadow.desired.quick = true"})
    members = lambda: [one["device_id"] for one in server.admin.got("/groups/quick/devices")["items"]]  # noqa: E731
    assert members() == []
    patch(server, "d", {"quick": True})
    assert members() == ["d"]
    patch(server, "d", {"quick": False})
    assert members() == []


def test_lists_commands_and_deployments_ask_in_the_same_words(server: RunningServer) -> None:
    query = "shadow.desired.nav.speed > 1 shadow.state:pending,never"
    assert sorted(one["device_id"] for one in server.admin.got("/devices", q=query)["items"]) == ["b", "c"]
    command = {"command": "ping", "target": {"query": query}, "queue": True}
    assert server.admin.made("/commands/preview", command, 200)["sample"] == ["b", "c"]
    form = {"name": "fw", "version": "1.0.0", "device_types": "ros2_robot"}
    artifact = server.admin.post("/ota/artifacts", data=form, files={"file": ("fw.bin", b"x")}).json()["artifact_id"]
    deployment = {"artifact_id": artifact, "target": {"query": query}}
    assert server.admin.made("/ota/deployments/preview", deployment, 200)["count"] == 2
