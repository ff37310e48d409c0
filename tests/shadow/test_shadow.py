"""The ways between people, server and devices: what is told, what is raced, what survives. See also test_section_5."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.commands.test_commands import Device
from tests.server import RunningServer, running_server, until

MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as running:
        yield running


def patch(server: RunningServer, device_id: str, body: Any, status: int = 200, **headers: str) -> Any:
    answer = server.admin.patch(f"/shadow/{device_id}/desired", content=json.dumps(body), headers=MERGE | headers)
    assert answer.status_code == status, answer.text
    return answer.json()


class Shadowed(Device):
    """A device that hears everything about its shadow."""

    def __init__(self, server: RunningServer, device_id: str) -> None:
        super().__init__(server, device_id, "shadow/#")

    def heard(self, what: str) -> dict[str, Any]:
        """The next message on `shadow/{what}`; others are passed over."""
        while True:
            message = self.requests.get(timeout=10)
            if message.topic == f"rosfit/{self.device_id}/shadow/{what}":
                return json.loads(message.payload)

    def report(self, body: Any) -> dict[str, Any]:
        """Report and wait for the answer."""
        self.say("shadow/reported", body)
        while True:
            message = self.requests.get(timeout=10)
            row = message.topic.removeprefix(f"rosfit/{self.device_id}/shadow/reported/")
            if row in {"accepted", "rejected"}:
                return {"row": row} | json.loads(message.payload)


def test_a_device_without_a_shadow_has_version_0_and_an_unknown_one_is_404(server: RunningServer) -> None:
    server.admin.device("s-1")
    shadow = server.admin.get("/shadow/s-1")
    assert (shadow.json()["version"], shadow.json()["state"], shadow.headers["ETag"]) == (0, {}, '"0"')
    assert server.admin.get("/shadow/nobody").status_code == 404


def test_a_merge_patch_is_the_body_itself_where_state_and_version_are_ordinary_keys(server: RunningServer) -> None:
    server.admin.device("s-2")
    shadow = patch(server, "s-2", {"state": 1, "version": 7})
    assert shadow["state"]["desired"] == {"state": 1, "version": 7}
    assert shadow["version"] == 1


def test_the_json_form_has_state_version_and_reason(server: RunningServer) -> None:
    server.admin.device("s-3")
    first = server.admin.patch("/shadow/s-3/desired", json={"state": {"a": 1}, "reason": "try"}).json()
    assert first["metadata"]["desired"]["a"]["by"] == server.admin.got("/auth/me")["id"]
    conflict = server.admin.patch("/shadow/s-3/desired", json={"state": {"a": 2}, "version": 5})
    assert (conflict.status_code, conflict.json()["code"]) == (409, "VERSION_CONFLICT")
    replaced = server.admin.put("/shadow/s-3/desired", json={"state": {"b": 2}, "version": 1}).json()
    assert replaced["state"]["desired"] == {"b": 2}
    assert server.admin.got("/shadow/s-3/history")["items"][1]["reason"] == "try"


def test_etags_guard_a_change(server: RunningServer) -> None:
    server.admin.device("s-4")
    patch(server, "s-4", {"a": 1}, **{"If-None-Match": "*"})
    patch(server, "s-4", {"a": 1}, 412, **{"If-None-Match": "*"})
    patch(server, "s-4", {"a": 2}, 412, **{"If-Match": '"7"'})
    assert patch(server, "s-4", {"a": 2}, **{"If-Match": '"1"'})["version"] == 2


def test_null_removes_the_section_and_versions_go_on(server: RunningServer) -> None:
    server.admin.device("s-5")
    patch(server, "s-5", {"a": 1})
    assert "desired" not in server.admin.patch("/shadow/s-5/desired", json={"state": None}).json()["state"]
    assert patch(server, "s-5", {"a": 1})["version"] == 3
    assert server.admin.delete("/shadow/s-5/desired").json()["version"] == 4


def test_the_size_limit_holds_under_parallel_patches(server: RunningServer) -> None:
    server.admin.device("s-7")
    statuses: list[int] = []

    def grow(number: int) -> None:
        body = json.dumps({f"k{number}": "x" * 3000})
        answer = server.anonymous().patch(
            "/shadow/s-7/desired", content=body, headers=MERGE | {"Authorization": f"Bearer {server.admin.token}"}
        )
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=grow, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shadow = server.admin.got("/shadow/s-7")
    assert len(json.dumps(shadow["state"]["desired"], separators=(",", ":"))) <= 32 * 1024
    assert statuses.count(200) == shadow["version"] == len(shadow["state"]["desired"])
    assert set(statuses) == {200, 413}


def test_a_change_of_desired_reaches_the_device_whole_and_as_delta(server: RunningServer) -> None:
    with Shadowed(server, "s-8") as device:
        patch(server, "s-8", {"speed": 2, "name": "x"})
        assert device.heard("desired")["state"] == {"speed": 2, "name": "x"}
        delta = device.heard("delta")
        assert (delta["state"], delta["version"]) == ({"speed": 2, "name": "x"}, 1)
        answer = device.report({"state": {"speed": 2.0}, "client_token": "t1"})
        assert (answer["row"], answer["version"], answer["client_token"]) == ("accepted", 2, "t1")
        shadow = server.admin.got("/shadow/s-8")
        assert shadow["state"]["delta"] == {"name": "x"}
        assert "timestamp" in shadow["metadata"]["reported"]["speed"]
        device.report({"name": "x"})
        assert "delta" not in server.admin.got("/shadow/s-8")["state"]


def test_the_same_client_token_is_one_version_and_the_same_answer(server: RunningServer) -> None:
    with Shadowed(server, "s-9") as device:
        report = {"state": {"a": 1}, "client_token": "once"}
        assert device.report(report) == device.report(report)
        assert server.admin.got("/shadow/s-9")["version"] == 1


def test_a_stale_report_and_a_wrong_version_are_rejected_and_change_nothing(server: RunningServer) -> None:
    with Shadowed(server, "s-10") as device:
        assert device.report({"state": {"a": 1}, "seq": 5})["row"] == "accepted"
        stale = device.report({"state": {"a": 0}, "seq": 4, "client_token": "late"})
        assert (stale["row"], stale["code"], stale["client_token"]) == ("rejected", "STALE_REPORT", "late")
        assert device.report({"state": {"a": 0}, "version": 9})["code"] == "VERSION_CONFLICT"
        assert server.admin.got("/shadow/s-10")["state"]["reported"] == {"a": 1}


def test_on_reconnect_and_on_get_a_device_gets_one_current_delta(server: RunningServer) -> None:
    with Shadowed(server, "s-11") as device:
        device.leave()
        for number in range(5):
            patch(server, "s-11", {"n": number})
        while not device.requests.empty():
            device.requests.get()
        device.connect()
        assert device.heard("delta")["state"] == {"n": 4}
        device.say("shadow/get", {})
        # In either order: the answer and the delta go their own ways.
        told: dict[str, Any] = {}
        while not told.keys() >= {"get/accepted", "delta"}:
            message = device.requests.get(timeout=10)
            told[message.topic.rpartition("shadow/")[2]] = json.loads(message.payload)["state"]
        assert told["get/accepted"]["desired"] == told["delta"] == {"n": 4}
        device.report({"n": 4})
        assert [m.topic for m in list(device.requests.queue) if m.topic.endswith("delta")] == []


def test_named_shadows_are_independent(server: RunningServer) -> None:
    with Shadowed(server, "s-12") as device:
        server.admin.patch("/shadow/s-12/desired?name=nav", json={"state": {"speed": 1}})
        assert device.heard("name/nav/delta")["state"] == {"speed": 1}
        device.say("shadow/name/nav/reported", {"speed": 1})
        assert device.heard("name/nav/reported/accepted")["version"] == 2
        assert server.admin.got("/shadow/s-12")["version"] == 0
        assert server.admin.got("/shadow/s-12/names")["items"] == ["nav"]


def test_parallel_patches_are_each_one_version_and_none_is_lost(server: RunningServer) -> None:
    server.admin.device("s-14")

    def work(lane: int) -> None:
        client = server.anonymous(headers={"Authorization": f"Bearer {server.admin.token}"})
        for number in range(10):
            body = json.dumps({f"k{lane}-{number}": number})
            assert client.patch("/shadow/s-14/desired", content=body, headers=MERGE).status_code == 200

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shadow = server.admin.got("/shadow/s-14")
    assert (shadow["version"], len(shadow["state"]["desired"])) == (50, 50)


def test_what_the_device_was_not_told_before_a_kill_it_is_told_after(server: RunningServer) -> None:
    with Shadowed(server, "s-15") as device:
        patch(server, "s-15", {"a": 1})
        server.kill()
        server.start()
        until(lambda: server.admin.got("/shadow/s-15")["state"]["desired"] == {"a": 1})
        assert device.heard("delta")["state"] == {"a": 1}


def test_the_command_line_sets_shows_and_restores(server: RunningServer) -> None:
    server.admin.device("s-16")

    def rosfit(*arguments: str) -> Any:
        command = [sys.executable, "-m", "rosfit.cli", "shadow", *arguments, "--data-dir", str(server.data_dir)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert rosfit("set", "s-16", '{"a": 1}', "--reason", "try")["version"] == 1
    rosfit("set", "s-16", '{"a": 2, "b": 3}')
    assert rosfit("diff", "s-16", "1", "2") == {"set": {"a": 2, "b": 3}, "was": {"a": 1}}
    assert rosfit("restore", "s-16", "1")["state"]["desired"] == {"a": 1}
    assert rosfit("get", "s-16")["version"] == 3
    assert [one["reason"] for one in rosfit("history", "s-16", "--json")][-1] == "try"
