"""Schemas on a real server: of types and groups, over layers, in pages' words and from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server import RunningServer, running_server, until
from tests.shadow.test_layers_live import becomes, desired, layer
from tests.shadow.test_shadow import patch

SPEED = {
    "type": "object",
    "properties": {"zeta": {"type": "integer"}, "nav": {"properties": {"speed": {"type": "number", "maximum": 2}}}},
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as running:
        yield running


@pytest.fixture
def server(shared: RunningServer) -> Iterator[RunningServer]:
    """Without the schemas and layers of the tests before."""
    yield shared
    for one in shared.admin.got("/shadow-schemas")["items"]:
        shared.admin.delete(f"/shadow-schemas/{one['target']}?name={one['name']}").raise_for_status()
    for one in shared.admin.got("/shadow-layers")["items"]:
        shared.admin.delete(f"/shadow-layers/{one['group_id'] or 'fleet'}?name={one['name']}").raise_for_status()


def put(server: RunningServer, target: str, schema: Any, **headers: str) -> Any:
    answer = server.admin.put(f"/shadow-schemas/{target}", json=schema, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_desired_that_does_not_fit_is_refused_with_path_and_reason(server: RunningServer) -> None:
    server.admin.device("c-1")
    patch(server, "c-1", {"nav": {"speed": 9}})
    put(server, server.admin.got("/devices/c-1")["type"], SPEED)
    refused = patch(server, "c-1", {"zeta": 1}, 422)
    assert (refused["code"], refused["errors"]) == (
        "DESIRED_REFUSED",
        [{"field": "nav.speed", "message": "9 is greater than the maximum of 2"}],
    )
    assert "devices of type" in refused["detail"]
    assert server.admin.got("/shadow/c-1")["version"] == 1
    assert patch(server, "c-1", {"nav": {"speed": 2}, "zeta": 1})["version"] == 2
    put(server, server.admin.got("/devices/c-1")["type"], {"required": ["zeta"]})
    patch(server, "c-1", {"zeta": None}, 422)
    assert "desired" not in server.admin.delete("/shadow/c-1/desired").json()["state"]
    assert server.admin.patch("/shadow/c-1/desired?name=other", json={"state": {"free": 1}}).status_code == 200


def test_every_schema_of_a_device_holds_also_a_groups(server: RunningServer) -> None:
    server.admin.device("c-2")
    server.admin.device("c-3")
    server.admin.made("/groups", {"name": "gentle", "device_ids": ["c-2"]})
    put(server, server.admin.got("/devices/c-2")["type"], SPEED)
    put(server, "gentle", {"properties": {"nav": {"properties": {"speed": {"maximum": 1}}}}})
    assert "the group gentle" in patch(server, "c-2", {"nav": {"speed": 1.5}}, 422)["detail"]
    patch(server, "c-3", {"nav": {"speed": 1.5}})
    patch(server, "c-2", {"nav": {"speed": 0.5}})
    server.admin.delete("/groups/gentle").raise_for_status()
    patch(server, "c-2", {"nav": {"speed": 1.5}})


def test_a_layer_that_some_device_cannot_have_is_refused_as_a_whole(server: RunningServer) -> None:
    server.admin.device("c-4")
    server.admin.device("c-5")
    server.admin.made("/groups", {"name": "halls", "device_ids": ["c-4", "c-5"]})
    server.admin.made("/groups", {"name": "slow", "device_ids": ["c-5"]})
    put(server, "slow", {"properties": {"speed": {"maximum": 1}}})
    seen = server.admin.post("/shadow-layers/halls/preview", json={"state": {"speed": 2}}).json()
    assert (seen["devices"], seen["changed"], seen["refused"]) == (2, 1, 1)
    assert seen["refusals"][0]["device_id"] == "c-5"
    refused = server.admin.patch("/shadow-layers/halls", json={"state": {"speed": 2}})
    assert (refused.status_code, refused.json()["code"]) == (422, "LAYER_REFUSED")
    assert "c-5" in refused.json()["detail"]
    assert server.admin.got("/shadow-layers/halls")["version"] == 0
    layer(server, "halls", {"speed": 1})
    becomes(server, "c-5", {"speed": 1})
    assert "speed" in patch(server, "c-5", {"speed": 3}, 422)["detail"]


def test_what_a_device_would_join_and_cannot_have_it_does_not_get(server: RunningServer) -> None:
    server.admin.device("c-6")
    server.admin.device("c-7")
    group = server.admin.made("/groups", {"name": "joined", "device_ids": ["c-7"]})
    server.admin.made("/groups", {"name": "only-a", "device_ids": ["c-6"]})
    layer(server, "joined", {"speed": 2})
    put(server, "only-a", {"propertyNames": {"const": "a"}})
    patch(server, "c-6", {"a": 1})
    server.admin.patch(f"/groups/{group['group_id']}", json={"add": ["c-6"]})
    until(lambda: server.admin.got("/shadow-layers/joined")["devices"] == 2, 15)
    becomes(server, "c-7", {"speed": 2})
    assert desired(server, "c-6") == {"a": 1}


def test_schemas_have_versions_conditions_and_keep_their_order(server: RunningServer) -> None:
    assert server.admin.got("/shadow-schemas/simulator")["version"] == 0
    first = put(server, "simulator", SPEED, **{"If-None-Match": "*"})
    assert (first["version"], list(first["schema"]["properties"])) == (1, ["zeta", "nav"])
    assert server.admin.put("/shadow-schemas/simulator", json={}, headers={"If-Match": '"7"'}).status_code == 412
    assert put(server, "simulator", {}, **{"If-Match": '"1"'})["version"] == 2
    assert [one["target"] for one in server.admin.got("/shadow-schemas")["items"]] == ["simulator"]
    for bad in ({"type": "nonsense"}, {"$ref": "http://example.com/x"}):
        refused = server.admin.put("/shadow-schemas/simulator", json=bad)
        assert (refused.status_code, refused.json()["code"]) == (422, "INVALID_SCHEMA")
    assert server.admin.put("/shadow-schemas/simulator", content="[").status_code == 400
    assert server.admin.put("/shadow-schemas/nobody", json={}).status_code == 404
    assert server.admin.delete("/shadow-schemas/simulator").status_code == 204


def test_the_command_line_sets_shows_and_deletes(server: RunningServer) -> None:
    def rosfit(*arguments: str, given: str = "") -> str:
        command = [sys.executable, "-m", "rosfit.cli", "shadow", "schema", *arguments]
        command += ["--data-dir", str(server.data_dir)]
        return subprocess.run(command, check=True, capture_output=True, text=True, input=given).stdout

    assert json.loads(rosfit("set", "gateway", "-", given=json.dumps(SPEED)))["version"] == 1
    assert json.loads(rosfit("get", "gateway"))["schema"] == SPEED
    rosfit("delete", "gateway")
    assert server.admin.got("/shadow-schemas")["items"] == []
