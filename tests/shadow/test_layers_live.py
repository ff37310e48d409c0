"""Layers on a real server: fleet, group and device, members that come and go, previews, and a kill in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.site import Site
from tests.server import RunningServer, running_server, until
from tests.shadow.test_shadow import MERGE, Shadowed, patch


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as running:
        yield running


@pytest.fixture
def server(shared: RunningServer) -> Iterator[RunningServer]:
    """Without the layers of the tests before."""
    yield shared
    for layer in shared.admin.got("/shadow-layers")["items"]:
        shared.admin.delete(f"/shadow-layers/{layer['group_id'] or 'fleet'}?name={layer['name']}")


def layer(server: RunningServer, which: str, state: Any, **more: Any) -> dict[str, Any]:
    answer = server.admin.patch(f"/shadow-layers/{which}", json={"state": state, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def desired(server: RunningServer, device_id: str) -> Any:
    return server.admin.got(f"/shadow/{device_id}")["state"].get("desired")


def becomes(server: RunningServer, device_id: str, wanted: Any) -> None:
    until(lambda: desired(server, device_id) == wanted, 15)


def test_the_devices_own_values_lie_over_the_groups_and_those_over_the_fleets(server: RunningServer) -> None:
    for device_id in ("l-1", "l-2"):
        server.admin.device(device_id)
    server.admin.made("/groups", {"name": "hall", "device_ids": ["l-1"]})
    patch(server, "l-1", {"nav": {"mode": "own"}})
    layer(server, "fleet", {"nav": {"speed": 1, "mode": "fleet"}, "log": "info"}, reason="first values")
    layer(server, "hall", {"nav": {"speed": 2}})
    becomes(server, "l-1", {"nav": {"speed": 2, "mode": "own"}, "log": "info"})
    becomes(server, "l-2", {"nav": {"speed": 1, "mode": "fleet"}, "log": "info"})
    origins = server.admin.got("/shadow/l-1")["metadata"]["desired"]
    assert origins["log"]["layer"] == "fleet"
    assert origins["nav"]["speed"]["layer"] == "hall"
    assert "layer" not in origins["nav"]["mode"]
    newest = server.admin.got("/shadow/l-2/history")["items"][0]
    assert newest["reason"] == "values of the fleet: first values"
    assert newest["author"].startswith("usr_")
    patch(server, "l-1", {"nav": {"mode": None, "speed": 5}})
    assert desired(server, "l-1") == {"nav": {"speed": 5, "mode": "fleet"}, "log": "info"}
    assert server.admin.delete("/shadow/l-1/desired").json()["state"]["desired"]["nav"] == {"speed": 2, "mode": "fleet"}
    server.admin.delete("/shadow-layers/hall")
    becomes(server, "l-1", {"nav": {"speed": 1, "mode": "fleet"}, "log": "info"})


def test_a_device_hears_of_what_its_layers_change(server: RunningServer) -> None:
    with Shadowed(server, "l-3") as robot:
        layer(server, "fleet", {"lights": "on"})
        assert robot.heard("desired")["state"] == {"lights": "on"}
        assert robot.heard("delta")["state"] == {"lights": "on"}
        robot.report({"lights": "on"})
        assert "delta" not in server.admin.got("/shadow/l-3")["state"]


def test_members_that_come_and_go_get_and_lose_the_values(server: RunningServer) -> None:
    server.admin.device("l-4", tags=["blue"])
    server.admin.device("l-5")
    server.admin.made("/groups", {"name": "blues", "kind": "query", "query": "tag:blue"})
    layer(server, "blues", {"colour": "blue"})
    becomes(server, "l-4", {"colour": "blue"})
    server.admin.patch("/devices/l-5", json={"tags": ["blue"]})
    server.admin.patch("/devices/l-4", json={"tags": []})
    becomes(server, "l-5", {"colour": "blue"})
    becomes(server, "l-4", None)


def test_of_two_groups_the_one_with_the_higher_priority_wins(server: RunningServer) -> None:
    server.admin.device("l-6")
    for name in ("low", "high"):
        server.admin.made("/groups", {"name": name, "device_ids": ["l-6"]})
    layer(server, "high", {"x": "high"}, priority=10)
    layer(server, "low", {"x": "low", "y": 1})
    becomes(server, "l-6", {"x": "high", "y": 1})
    layer(server, "low", {}, priority=20)
    becomes(server, "l-6", {"x": "low", "y": 1})
    assert server.admin.delete("/groups/low").json()["code"] == "GROUP_IN_USE"


def test_going_back_leaves_to_the_layers_what_they_make_so_by_themselves(server: RunningServer) -> None:
    server.admin.device("l-9")
    layer(server, "fleet", {"nav": {"speed": 1}})
    becomes(server, "l-9", {"nav": {"speed": 1}})
    patch(server, "l-9", {"log": "debug"})
    earlier = server.admin.got("/shadow/l-9")["version"]
    patch(server, "l-9", {"log": None, "nav": {"speed": 9}})
    server.admin.made("/shadow/l-9/restore", {"version": earlier}, 200)
    assert desired(server, "l-9") == {"nav": {"speed": 1}, "log": "debug"}
    layer(server, "fleet", {"nav": {"speed": 2}})
    becomes(server, "l-9", {"nav": {"speed": 2}, "log": "debug"})


def test_a_group_with_values_cannot_come_to_find_devices_by_their_shadows(server: RunningServer) -> None:
    server.admin.made("/groups", {"name": "steady", "kind": "query", "query": "tag:steady"})
    layer(server, "steady", {"x": 1})
    answer = server.admin.patch("/groups/steady", json={"query": "shadow.desired.x:1"})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_QUERY")


def test_a_preview_tells_how_many_change_and_changes_nothing(server: RunningServer) -> None:
    for number in range(3):
        server.admin.device(f"l-7{number}")
    server.admin.made("/groups", {"name": "seven", "device_ids": ["l-70", "l-71", "l-72"]})
    patch(server, "l-70", {"speed": 3})
    seen = server.admin.post("/shadow-layers/seven/preview", json={"state": {"speed": 3}}).json()
    assert (seen["devices"], seen["changed"]) == (3, 2)
    assert seen["sample"][0] == {"device_id": "l-71", "before": None, "after": {"speed": 3}}
    assert server.admin.got("/shadow-layers/seven")["version"] == 0
    assert desired(server, "l-71") is None


def test_versions_and_conditions_are_as_for_shadows(server: RunningServer) -> None:
    assert layer(server, "fleet", {"a": 1})["version"] == 1
    stale = server.admin.patch("/shadow-layers/fleet", json={"state": {"a": 2}, "version": 0})
    assert (stale.status_code, stale.json()["code"]) == (409, "VERSION_CONFLICT")
    refused = server.admin.patch("/shadow-layers/fleet", content='{"a":2}', headers=MERGE | {"If-Match": '"7"'})
    assert refused.status_code == 412
    taken = server.admin.patch("/shadow-layers/fleet", content='{"a":null,"b":3}', headers=MERGE | {"If-Match": '"1"'})
    assert (taken.json()["desired"], taken.headers["ETag"]) == ({"b": 3}, '"2"')
    assert server.admin.put("/shadow-layers/fleet", json={"state": {"c": [None]}}).status_code == 400
    assert server.admin.put("/shadow-layers/fleet", json={"state": {"c": "x" * 40_000}}).status_code == 413
    assert server.admin.get("/shadow-layers/nobody").status_code == 404
    server.admin.made("/groups", {"name": "drifting", "kind": "query", "query": "shadow.state:pending"})
    looped = server.admin.patch("/shadow-layers/drifting", json={"state": {"a": 1}})
    assert (looped.status_code, looped.json()["code"]) == (422, "LAYER_QUERY")


def test_a_server_killed_in_the_middle_reaches_every_device_with_one_version_each(server: RunningServer) -> None:
    device_ids = [f"l-8{number:03d}" for number in range(600)]
    Site(server).register(*device_ids)
    server.admin.made("/groups", {"name": "many", "device_ids": device_ids})
    layer(server, "many", {"speed": 4})
    server.kill()
    server.start()
    until(lambda: desired(server, device_ids[-1]) == desired(server, device_ids[0]) == {"speed": 4}, 20)
    until(lambda: Site(server).one("SELECT count(*) FROM shadow_refreshes") == 0, 20)
    rows = Site(server).rows("SELECT version, desired FROM shadows WHERE device_id = ANY(%s)", device_ids)
    assert rows == [(1, {"speed": 4})] * len(device_ids)
    assert server.admin.got("/shadow-layers/many")["devices"] == len(device_ids)
