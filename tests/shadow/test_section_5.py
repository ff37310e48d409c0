"""What section 5 of the contract says of documents, merges, delta, limits and answers, over REST and MQTT alike."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.e2e.site import Site
from tests.server import RunningServer, running_server, until
from tests.shadow.test_shadow import MERGE, Shadowed, patch

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"

# Applied once at the start and then every hour.
HISTORY_LIMIT = 3

ORIGINAL: dict[str, Any] = {"a": {"b": 1, "c": [1, {"d": 2}]}, "e": "text"}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000", ROSFIT_SHADOW_HISTORY_LIMIT=str(HISTORY_LIMIT)) as running:
        yield running


@pytest.fixture(scope="module")
def device(server: RunningServer) -> Iterator[Shadowed]:
    """One device for all; each test starts without values, at whatever version."""
    with Shadowed(server, "five") as connected:
        yield connected


@pytest.fixture(autouse=True)
def nothing_yet(server: RunningServer, device: Shadowed) -> None:
    server.admin.delete("/shadow/five/desired").raise_for_status()
    assert device.report({"state": None})["row"] == "accepted"


def shadow(server: RunningServer) -> dict[str, Any]:
    return server.admin.got("/shadow/five")


def put(server: RunningServer, body: Any, **headers: str) -> Any:
    answer = server.admin.put("/shadow/five/desired", json=body, headers=headers)
    assert answer.is_success, answer.text
    return answer.json()


def nested(levels: int) -> Any:
    document: Any = {}
    for _ in range(levels - 1):
        document = {"a": document}
    return document


def sized(size: int) -> dict[str, str]:
    """A document of so many bytes as JSON."""
    return {"a": "x" * (size - len('{"a":""}'))}


def test_the_document_has_the_same_shape_on_both_ways(server: RunningServer, device: Shadowed) -> None:
    changed = put(server, {"state": {"a": 1, "b": {"c": 2}}})
    device.report({"b": {"c": 3}, "d": 4})
    read = shadow(server)
    device.say("shadow/get", {})
    assert device.heard("get/accepted") == read
    for document in (changed, read):
        assert {"device_id", "name", "version", "timestamp", "state", "metadata"} <= document.keys()
        assert (document["device_id"], document["name"]) == ("five", "default")
        assert re.fullmatch(TIME, document["timestamp"])
    assert read["state"] == {
        "desired": {"a": 1, "b": {"c": 2}},
        "reported": {"b": {"c": 3}, "d": 4},
        "delta": {"a": 1, "b": {"c": 2}},
    }
    assert read["version"] == changed["version"] + 1


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({"a": {"b": 2}}, {"a": {"b": 2, "c": [1, {"d": 2}]}, "e": "text"}),
        ({"a": {"c": [3]}}, {"a": {"b": 1, "c": [3]}, "e": "text"}),
        ({"a": 5}, {"a": 5, "e": "text"}),
        ({"e": {"f": 1}}, {"a": {"b": 1, "c": [1, {"d": 2}]}, "e": {"f": 1}}),
        ({"a": {"b": None}, "e": None}, {"a": {"c": [1, {"d": 2}]}}),
        ({"new": {"x": None, "y": 1}, "none": None}, ORIGINAL | {"new": {"y": 1}}),
        ({}, ORIGINAL),
    ],
)
def test_a_patch_merges_objects_replaces_the_rest_and_deletes_null(
    server: RunningServer, device: Shadowed, change: Any, result: Any
) -> None:
    put(server, {"state": ORIGINAL})
    version = patch(server, "five", change)["version"]
    assert device.report({"state": ORIGINAL})["version"] == version + 1
    assert device.report({"state": change})["version"] == version + 2
    assert shadow(server)["state"] == {"desired": result, "reported": result}


@pytest.mark.parametrize(
    ("desired", "reported", "delta"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": 1.0, "more": True}, None),
        ({"a": True}, {"a": 1}, {"a": True}),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}}),
        ({"a": [1, 2]}, {"a": [1, 3]}, {"a": [1, 2]}),
        ({"a": {}}, {}, {"a": {}}),
        ({"a": {}}, {"a": {}}, None),
    ],
)
def test_delta_is_the_same_in_the_document_and_on_the_wire(
    server: RunningServer, device: Shadowed, desired: Any, reported: Any, delta: Any
) -> None:
    device.report({"state": reported})
    version = put(server, {"state": desired})["version"]
    assert shadow(server)["state"].get("delta") == delta
    if delta is not None:
        told = device.heard("delta")
        assert (told["state"], told["version"]) == (delta, version)
        assert repr(told["state"]) == repr(delta)


def test_desired_is_retained_whole_with_its_version(server: RunningServer, device: Shadowed) -> None:
    version = put(server, {"state": ORIGINAL})["version"]
    device.leave()
    device.requests.queue.clear()
    device.connect()
    told = device.heard("desired")
    assert (told["state"], told["version"]) == (ORIGINAL, version)


def test_a_wrong_version_changes_nothing(server: RunningServer, device: Shadowed) -> None:
    before = put(server, {"state": {"a": 1}})
    for method in ("patch", "put"):
        answer = getattr(server.admin, method)("/shadow/five/desired", json={"state": {"a": 2}, "version": 1})
        assert (answer.status_code, answer.json()["code"]) == (409, "VERSION_CONFLICT")
    assert device.report({"state": {"a": 2}, "version": 1})["code"] == "VERSION_CONFLICT"
    assert shadow(server) == before
    assert put(server, {"state": {"a": 2}, "version": before["version"]})["version"] == before["version"] + 1


@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
def test_etags_guard_every_change(server: RunningServer, method: str) -> None:
    version = put(server, {"state": {"a": 1}})["version"]
    body = {} if method == "DELETE" else {"json": {"state": {"a": 2}}}

    def change(**headers: str) -> Any:
        return server.admin.request(method, "/shadow/five/desired", headers=headers, **body)

    assert change(**{"If-Match": f'"{version - 1}"'}).status_code == 412
    assert change(**{"If-None-Match": "*"}).status_code == 412
    assert shadow(server)["version"] == version
    answer = change(**{"If-Match": f'"{version}"'})
    assert (answer.status_code, answer.headers["ETag"]) == (200, f'"{version + 1}"')


def test_metadata_has_when_each_leaf_was_set_and_by_whom(server: RunningServer, device: Shadowed) -> None:
    first = put(server, {"state": {"a": {"b": 1, "c": 2}}})["metadata"]["desired"]
    second = patch(server, "five", {"a": {"c": 3}})["metadata"]["desired"]
    device.report({"a": {"b": 1}})
    reported = shadow(server)["metadata"]["reported"]
    assert second["a"]["b"] == first["a"]["b"]
    assert second["a"]["c"]["timestamp"] > first["a"]["c"]["timestamp"]
    assert second["a"]["c"]["by"] == server.admin.got("/auth/me")["id"]
    assert reported == {"a": {"b": {"timestamp": reported["a"]["b"]["timestamp"]}}}
    assert re.fullmatch(TIME, reported["a"]["b"]["timestamp"])


def test_null_removes_one_section_and_keeps_the_other(server: RunningServer, device: Shadowed) -> None:
    put(server, {"state": {"a": 1}})
    device.report({"b": 2})
    assert patch(server, "five", None)["state"] == {"reported": {"b": 2}}
    put(server, {"state": {"a": 1}})
    device.report({"state": None})
    left = shadow(server)
    assert left["state"] == {"desired": {"a": 1}, "delta": {"a": 1}}
    assert left["metadata"].keys() == {"desired"}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "state"),
        ({"state": {}, "verison": 3}, "verison"),
        ({"state": {}, "version": "3"}, "version"),
        ({"state": {}, "reason": "x" * 1001}, "reason"),
    ],
)
def test_a_wrong_field_of_the_json_form_is_refused_and_named(server: RunningServer, body: Any, named: str) -> None:
    """A misspelt version would otherwise be a change without its condition."""
    answer = server.admin.patch("/shadow/five/desired", json=body)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (400, [named])


def test_another_media_type_is_refused(server: RunningServer) -> None:
    for method in ("PATCH", "PUT"):
        body = {"content": b'{"state": {}}', "headers": {"Content-Type": "text/plain"}}
        assert server.admin.request(method, "/shadow/five/desired", **body).status_code == 415


class Quiet(Shadowed):
    """Connected, and never heard."""

    connect = Shadowed.listen


def test_a_device_that_listens_without_having_spoken_is_told(server: RunningServer) -> None:
    with Quiet(server, "listens") as quiet:
        version = server.admin.patch("/shadow/listens/desired", json={"state": {"a": 1}}).json()["version"]
        assert (told := quiet.heard("delta"))["state"] == {"a": 1}
        assert told["version"] == version


@pytest.mark.parametrize(
    ("document", "status", "code", "measured"),
    [
        ({"a": [1, None]}, 400, "INVALID_SHADOW", "null"),
        ({"a": {"b": [[None]]}}, 400, "INVALID_SHADOW", "null"),
        (nested(11), 400, "INVALID_SHADOW", "11"),
        ({"k" * 257: 1}, 400, "INVALID_SHADOW", "257"),
        ({"ü" * 129: 1}, 400, "INVALID_SHADOW", "258"),
        (sized(32 * 1024 + 1), 413, "SHADOW_TOO_LARGE", "32769"),
        ("text", 400, "INVALID_SHADOW", "object"),
    ],
)
def test_what_is_not_allowed_is_refused_with_the_measured_number(
    server: RunningServer, device: Shadowed, document: Any, status: int, code: str, measured: str
) -> None:
    before = shadow(server)
    for content, headers in ((document, MERGE), ({"state": document}, {"Content-Type": "application/json"})):
        answer = server.admin.patch("/shadow/five/desired", content=json.dumps(content), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert measured in answer.json()["detail"]
    refused = device.report({"state": document, "client_token": "t"})
    assert refused.keys() == {"row", "code", "message", "client_token"}
    assert (refused["row"], refused["code"], refused["client_token"]) == ("rejected", code, "t")
    assert measured in refused["message"]
    assert shadow(server) == before


@pytest.mark.parametrize("report", [b"", b"{", b"[]", b'{"state":{"a":"\\u0000"}}', b'{"state":{},"seq":"x"}'])
def test_a_report_that_cannot_be_read_is_answered_as_well(device: Shadowed, report: bytes) -> None:
    assert device.report(report)["code"] == "BAD_REQUEST"


def test_a_bad_report_is_answered_under_its_client_token(device: Shadowed) -> None:
    refused = device.report({"state": {"a": "\0"}, "client_token": "t"})
    assert (refused["row"], refused["code"], refused["client_token"]) == ("rejected", "BAD_REQUEST", "t")


@pytest.mark.parametrize("document", [nested(10), {"k" * 256: 1}, sized(32 * 1024)])
def test_the_limits_themselves_are_allowed(server: RunningServer, device: Shadowed, document: Any) -> None:
    put(server, {"state": document})
    assert device.report({"state": document})["row"] == "accepted"
    assert shadow(server)["state"] == {"desired": document, "reported": document}


def test_the_limit_is_of_what_the_merge_makes(server: RunningServer, device: Shadowed) -> None:
    half = sized(20_000)
    patch(server, "five", half)
    patch(server, "five", {"b": half["a"]}, 413)
    assert patch(server, "five", {"a": None, "b": half["a"]})["state"]["desired"] == {"b": half["a"]}
    device.report({"state": half})
    assert device.report({"state": {"b": half["a"]}})["code"] == "SHADOW_TOO_LARGE"


def test_an_object_with_the_key_state_is_the_long_form(server: RunningServer, device: Shadowed) -> None:
    device.report({"version_of_map": 3, "seq": 9, "client_token": "mine"})
    assert shadow(server)["state"]["reported"] == {"version_of_map": 3, "seq": 9, "client_token": "mine"}
    device.report({"state": {"state": 1}})
    assert shadow(server)["state"]["reported"]["state"] == 1


def test_a_client_token_is_known_again_by_its_payload(server: RunningServer, device: Shadowed) -> None:
    first = device.report({"state": {"a": 1}, "client_token": "again"})
    device.report({"a": 2})
    # A redelivery, after something newer: the same answer, and nothing is undone.
    assert device.report({"state": {"a": 1}, "client_token": "again"}) == first
    assert shadow(server)["state"]["reported"] == {"a": 2}
    other = device.report({"state": {"a": 3}, "client_token": "again"})
    assert other["version"] == first["version"] + 2


def test_every_version_is_kept_and_can_be_restored(server: RunningServer, device: Shadowed) -> None:
    first = put(server, {"state": {"a": 1}, "reason": "one"})["version"]
    put(server, {"state": {"b": 2}})
    device.report({"a": 1})
    restored = server.admin.made("/shadow/five/restore", {"version": first}, 200)
    assert (restored["version"], restored["state"]["desired"]) == (first + 3, {"a": 1})
    newest = server.admin.got("/shadow/five/history", limit=4)["items"]
    me = server.admin.got("/auth/me")["id"]
    assert [one["version"] for one in newest] == [first + 3, first + 2, first + 1, first]
    assert [one["author"] for one in newest] == [me, "device five", me, me]
    assert newest[-1]["reason"] == "one"
    assert all(re.fullmatch(TIME, one["at"]) for one in newest)


def test_it_is_known_since_when_a_change_waits_and_how_long_it_took(server: RunningServer, device: Shadowed) -> None:
    site = Site(server)
    arrived = site.metric("rosfit_shadow_sync_seconds_count")
    since = put(server, {"state": {"a": 1}})["pending_since"]
    assert patch(server, "five", {"b": 2})["pending_since"] == since
    device.report({"a": 1})
    assert site.metric("rosfit_shadow_sync_seconds_count") == arrived
    device.report({"b": 2})
    synced = shadow(server)
    assert (synced["pending_since"], synced["sync_s"] > 0) == (None, True)
    device.report({"c": 3})
    assert shadow(server)["sync_s"] == synced["sync_s"]
    assert site.metric("rosfit_shadow_sync_seconds_count") == arrived + 1


def test_whoever_watches_on_a_socket_gets_every_version(server: RunningServer, device: Shadowed) -> None:
    with connect(f"{server.websocket_url}?token={server.admin.token}") as socket:
        socket.send(json.dumps({"type": "subscribe", "channel": "shadow:five"}))
        while json.loads(socket.recv(10))["type"] != "subscribed":
            pass
        changed = put(server, {"state": {"a": 1}})
        told = json.loads(socket.recv(10))
        assert (told["type"], told["channel"], told["data"]) == ("shadow", "shadow:five", changed)
        device.report({"a": 1})
        assert json.loads(socket.recv(10))["data"] == shadow(server)


def test_only_the_last_versions_are_kept(server: RunningServer) -> None:
    for number in range(HISTORY_LIMIT + 2):
        newest = put(server, {"state": {"a": number}})
    server.restart()
    history = until(lambda: _at_most(server.admin.got("/shadow/five/history")["items"], HISTORY_LIMIT), 20)
    assert [one["version"] for one in history] == [newest["version"] - back for back in range(HISTORY_LIMIT)]
    assert shadow(server) == newest
    assert server.admin.post("/shadow/five/restore", json={"version": 1}).status_code == 404


def _at_most(items: list[Any], limit: int) -> list[Any]:
    return items if len(items) <= limit else []
