"""The contract's section 6, each sentence, over REST and MQTT, on a real server."""

from __future__ import annotations

import json
import queue

import httpx
import pytest
from websockets.sync.client import connect

from tests.e2e.site import Site as Stores
from tests.ota.conftest import Updatable, sha256
from tests.server import until


def ids(devices):
    return [device.device_id for device in devices]


def test_an_update_from_upload_to_success(site, fleet):
    """Trigger, download, each step, success, firmware, finished."""
    data = b"new firmware" * 1000
    artifact = site.upload(data, version="2.1.0")
    (robot,) = fleet(1)
    deployment = site.deploy(artifact, ids([robot]))
    trigger = robot.triggered()
    told = trigger["artifact"]
    assert trigger["deployment_id"] == deployment
    assert set(told) == {"artifact_id", "name", "version", "url", "size", "sha256", "signature", "key_id"}
    assert (told["size"], told["sha256"]) == (len(data), sha256(data))
    assert httpx.get(told["url"]).content == data
    for status in ("downloading", "verifying", "installing", "rebooting", "health_check"):
        robot.progress(deployment, status, percent=50, bytes=6000)
    until(lambda: site.statuses(deployment)[robot.device_id] == "health_check")
    shown = site.devices(deployment)[robot.device_id]
    assert (shown["percent"], shown["bytes"], shown["wave"]) == (50, 6000, 1)
    robot.result(deployment, "succeeded")
    finished = site.becomes(deployment, "finished")
    assert finished["counts"] == {"succeeded": 1}
    steps = [step["status"] for step in site.steps(deployment, robot.device_id)]
    assert steps == [
        "queued", "notified", "downloading", "verifying", "installing", "rebooting", "health_check", "succeeded"
    ]  # fmt: skip
    device = site.admin.got(f"/devices/{robot.device_id}")
    assert device["firmware"] == {"name": artifact["name"], "version": "2.1.0"}


def test_the_deadline_runs_from_notified(site, fleet):
    (robot,) = fleet(1)
    deployment = site.deploy(site.upload(), ids([robot]), device_deadline_s=1, failure_threshold=100)
    robot.triggered()
    until(lambda: site.statuses(deployment)[robot.device_id] == "timed_out")
    site.becomes(deployment, "finished")
    robot.result(deployment, "succeeded")
    until(lambda: site.steps(deployment, robot.device_id)[-1]["refused"])
    last = site.steps(deployment, robot.device_id)[-1]
    assert (last["status"], last["refused"]) == ("succeeded", "TERMINAL_STATE")
    assert site.statuses(deployment)[robot.device_id] == "timed_out"
    assert site.admin.got(f"/devices/{robot.device_id}")["firmware"] is None


def test_waves_follow_each_other_and_a_failure_pauses(site, fleet):
    """That it stopped by itself is in the audit log and the metrics, too."""
    stopped_before = Stores(site.server).metric("rosfit_deployments_stopped")
    robots = fleet(4)
    deployment = site.deploy(
        site.upload(), ids(robots), waves=[50, 100], success_threshold=100, failure_threshold=25
    )
    first, second, third, fourth = robots
    for robot in (first, second):
        robot.triggered()
    with pytest.raises(queue.Empty):
        third.triggered(0.5)
    first.result(deployment, "succeeded")
    second.result(deployment, "failed", {"code": "NO_SPACE", "message": "disk full"})
    paused = site.becomes(deployment, "paused")
    assert "50 %" in paused["status_reason"]
    assert paused["wave"] == 1
    groups = site.admin.got(f"/ota/deployments/{deployment}/failures")["items"]
    assert groups[0] | {"status": "failed"} == {
        "status": "failed", "code": "NO_SPACE", "message": "disk full", "count": 1, "sample": [second.device_id]
    }  # fmt: skip
    entries = site.admin.got("/audit", target=deployment)["items"]
    assert "deployment.stopped" in {entry["action"] for entry in entries}
    assert Stores(site.server).metric("rosfit_deployments_stopped") == stopped_before + 1
    site.ask(deployment, "resume")
    for robot in (third, fourth):
        robot.triggered()
        robot.result(deployment, "succeeded")
    finished = site.becomes(deployment, "finished")
    assert finished["counts"] == {"succeeded": 3, "failed": 1}
    assert [wave["total"] for wave in finished["wave_progress"]] == [2, 2]


def test_that_an_earlier_wave_fails_after_all_is_noted(site, fleet):
    """Only the running wave is judged; the audit log says that one before it has passed its threshold."""
    robots = fleet(3)
    rules = {"waves": [60, 100], "success_threshold": 30, "failure_threshold": 30}
    deployment = site.deploy(site.upload(), ids(robots), **rules)
    first, late, last = robots
    for robot in (first, late):
        robot.triggered()
    first.result(deployment, "succeeded")
    last.triggered()
    late.result(deployment, "failed")

    def noted():
        entries = site.admin.got("/audit", target=deployment)["items"]
        return [entry["after"] for entry in entries if entry["action"] == "deployment.earlier_wave_failed"]

    assert until(noted) == [{"wave": 1, "failed": 1, "total": 2}]
    assert site.shown(deployment)["status"] == "running"


def test_never_more_than_max_in_progress(site, fleet):
    robots = fleet(3)
    deployment = site.deploy(site.upload(), ids(robots), max_in_progress=1)
    for robot in robots:
        robot.triggered()
        for other in robots:
            assert other.requests.empty()
        robot.result(deployment, "succeeded")
    site.becomes(deployment, "finished")


def test_pause_starts_nobody_and_abort_cancels(site, fleet):
    robots = fleet(2)
    deployment = site.deploy(site.upload(), ids(robots), max_in_progress=1)
    robots[0].triggered()
    site.ask(deployment, "pause")
    robots[0].result(deployment, "succeeded")
    until(lambda: site.statuses(deployment)[robots[0].device_id] == "succeeded")
    with pytest.raises(queue.Empty):
        robots[1].triggered(0.7)
    assert site.devices(deployment)[robots[1].device_id]["waiting_for"] == "paused"
    assert site.ask(deployment, "abort")["status"] == "aborted"
    assert site.statuses(deployment)[robots[1].device_id] == "cancelled"
    assert site.ask(deployment, "resume", 409)["code"] == "DEPLOYMENT_STATUS"


def test_an_offline_device_stays_queued_until_it_is_back(site, fleet):
    (robot,) = fleet(1)
    robot.leave()
    deployment = site.deploy(site.upload(), ids([robot]))
    until(lambda: site.devices(deployment)[robot.device_id]["waiting_for"] == "offline")
    robot.connect()
    assert robot.triggered()["deployment_id"] == deployment
    robot.result(deployment, "succeeded")
    site.becomes(deployment, "finished")


def test_a_stop_by_failures_is_an_alert(site, server, fleet):
    (robot,) = fleet(1)
    with connect(f"{server.websocket_url}?token={site.admin.token}") as socket:
        socket.recv()
        socket.send(json.dumps({"type": "subscribe", "channel": "alerts:*"}))
        assert json.loads(socket.recv())["type"] == "subscribed"
        deployment = site.deploy(site.upload(), ids([robot]), failure_threshold=0)
        robot.triggered()
        robot.result(deployment, "failed")
        alert = json.loads(socket.recv(timeout=10))
    assert (alert["type"], alert["channel"], alert["data"]["name"]) == ("alerts", "alerts:*", "deployment_stopped")
    assert alert["data"]["deployment_id"] == deployment


def test_rollback_brings_the_earlier_version_back(site, fleet):
    (robot,) = fleet(1)
    old = site.upload(b"one", name="nav", version="1.0")
    new = site.upload(b"two", name="nav", version="2.0")
    for artifact in (old, new):
        deployment = site.deploy(artifact, ids([robot]))
        robot.triggered()
        robot.result(deployment, "succeeded")
        site.becomes(deployment, "finished")
    assert site.ask(deployment, "rollback")["status"] == "rolled_back"
    trigger = robot.triggered()
    assert trigger["artifact"]["version"] == "1.0"
    assert site.shown(trigger["deployment_id"])["rollback_of"] == deployment
    robot.result(trigger["deployment_id"], "succeeded")
    site.becomes(trigger["deployment_id"], "finished")
    assert site.admin.got(f"/devices/{robot.device_id}")["firmware"]["version"] == "1.0"


def test_a_failure_rolls_back_by_itself_also_who_succeeds_later(site, fleet):
    robots = fleet(3)
    old, new = site.upload(b"1"), site.upload(b"2")
    deployment = site.deploy(old, ids(robots))
    for robot in robots:
        robot.triggered()
        robot.result(deployment, "succeeded")
    site.becomes(deployment, "finished")
    deployment = site.deploy(new, ids(robots), on_failure="rollback", failure_threshold=0, success_threshold=100)
    for robot in robots:
        robot.triggered()
    robots[0].result(deployment, "succeeded")
    until(lambda: site.statuses(deployment)[robots[0].device_id] == "succeeded")
    robots[1].result(deployment, "rolled_back", "health check failed")
    site.becomes(deployment, "rolled_back")
    assert robots[0].triggered()["artifact"]["artifact_id"] == old["artifact_id"]
    robots[2].result(deployment, "succeeded")
    assert robots[2].triggered()["artifact"]["artifact_id"] == old["artifact_id"]
    assert robots[1].requests.empty()


def test_a_newer_deployment_takes_the_place_of_those_that_wait(site, fleet):
    (robot,) = fleet(1)
    robot.leave()
    older = site.deploy(site.upload(), ids([robot]))
    newer = site.deploy(site.upload(), ids([robot]))
    assert site.statuses(older)[robot.device_id] == "cancelled"
    site.becomes(older, "finished")
    robot.connect()
    assert robot.triggered()["deployment_id"] == newer
    left = site.deploy(site.upload(), ids([robot]), start=False)
    refused = site.ask(left, "start", 409)
    assert refused["code"] == "DEPLOYMENT_EMPTY"
    assert "in_another_deployment" in refused["detail"]


def test_retry_is_a_new_deployment_for_those_that_failed(site, fleet):
    robots = fleet(2)
    deployment = site.deploy(site.upload(), ids(robots), failure_threshold=100)
    for robot, status in zip(robots, ("succeeded", "rejected"), strict=True):
        robot.triggered()
        robot.result(deployment, status)
    site.becomes(deployment, "finished")
    retry = site.ask(deployment, "retry-failed", 201)
    assert retry["retry_of"] == deployment
    assert robots[1].triggered()["deployment_id"] == retry["deployment_id"]
    assert robots[0].requests.empty()


def test_somebody_else_approves(site, server, fleet):
    (robot,) = fleet(1)
    deployment = site.deploy(site.upload(), ids([robot]), requires_approval=True)
    assert site.shown(deployment)["status"] == "waiting_for_approval"
    assert site.ask(deployment, "approve", 403)["code"] == "SECOND_PERSON_NEEDED"
    answer = server.user("engineer").post(f"/ota/deployments/{deployment}/approve")
    assert answer.json()["status"] == "running"
    robot.triggered()


def test_the_preview_says_who_waits_and_who_is_left_out(site, server, fleet):
    ready, away, resting, other = fleet(4)
    away.leave()
    site.admin.patch(f"/devices/{resting.device_id}", json={"status": "maintenance"})
    gone = f"{other.device_id}-mcu"
    site.admin.device(gone, type="micro_ros_mcu")
    other.say("telemetry/status", {"battery": 7})
    until(lambda: site.admin.got(f"/devices/{other.device_id}")["battery"] == 7)
    target = {"device_ids": [*ids([ready, away, resting, other]), gone, "nobody"]}
    body = {"artifact_id": site.upload()["artifact_id"], "target": target, "waves": [10, 100]}
    preview = site.admin.made("/ota/deployments/preview", body, 200)
    assert (preview["count"], preview["ready"], preview["waves"]) == (3, 1, [1, 2])
    assert preview["waiting"] == {"offline": 1, "battery": 1}
    assert {one["device_id"]: one["reason"] for one in preview["left_out"]} == {
        resting.device_id: "maintenance", gone: "incompatible", "nobody": "not_found"
    }  # fmt: skip


def test_short_form_devices_hear_of_it_on_ota(site, server):
    with Updatable(server, "short-1", "ota", type="mqtt_device") as device:
        deployment = site.deploy(site.upload(device_types="mqtt_device"), ["short-1"])
        assert device.triggered()["deployment_id"] == deployment


def test_a_device_that_comes_back_hears_of_it_again(site, fleet):
    (robot,) = fleet(1)
    site.deploy(site.upload(), ids([robot]))
    first = robot.triggered()
    robot.leave()
    robot.connect()
    again = robot.triggered()
    assert again["deployment_id"] == first["deployment_id"]
    assert again["deadline"] == first["deadline"]


def test_what_is_said_is_told_on_the_socket(site, server, fleet):
    (robot,) = fleet(1)
    with connect(f"{server.websocket_url}?token={site.admin.token}") as socket:
        socket.recv()
        socket.send(json.dumps({"type": "subscribe", "channel": "ota:*"}))
        assert json.loads(socket.recv())["type"] == "subscribed"
        deployment = site.deploy(site.upload(), ids([robot]))
        robot.triggered()
        robot.progress(deployment, "downloading", percent=10)
        robot.result(deployment, "succeeded")
        seen = []
        while ("finished", None) not in seen:
            message = json.loads(socket.recv(timeout=10))
            assert message["channel"] == f"ota:{deployment}"
            assert message["type"] == "ota"
            seen.append((message["data"]["status"], message["data"].get("device_id")))
    name = robot.device_id
    steps = [("draft", None), ("running", None), ("notified", name), ("downloading", name), ("succeeded", name)]
    assert [step for step in seen if step in steps] == steps


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"deployment_id": "dep_none", "status": "succeeded"}, "unknown_deployment"),
        ({"deployment_id": "dep_none", "status": "flying"}, "wrong_shape"),
        ({"deployment_id": "dep_none", "status": "queued"}, "wrong_shape"),
        ({"status": "succeeded"}, "wrong_shape"),
    ],
)
def test_a_bad_report_is_a_dead_letter(site, server, payload, reason):
    device_id = f"bad-{reason}-{abs(hash(str(payload)))}"
    with server.robot(device_id) as robot:
        robot.publish("ota/result", payload)
        letters = until(lambda: site.admin.got("/dead-letters", device_id=device_id)["items"])
    assert letters[0]["reason"] == reason


def test_a_report_before_its_turn_changes_nothing(site, fleet):
    robots = fleet(2)
    deployment = site.deploy(site.upload(), ids(robots), max_in_progress=1)
    robots[0].triggered()
    robots[1].result(deployment, "succeeded")
    until(lambda: site.steps(deployment, robots[1].device_id)[-1]["refused"] == "NOT_NOTIFIED")
    assert site.statuses(deployment)[robots[1].device_id] == "queued"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("waves", [50, 10, 100]),
        ("waves", [10, 50]),
        ("waves", []),
        ("waves", [10, 10, 100]),
        ("waves", [0, 100]),
        ("window", {"cron": "at night", "duration_s": 60}),
        ("window", {"cron": "0 2 * * *", "duration_s": 60, "timezone": "Mars/Olympus"}),
        ("target", {}),
        ("target", {"tag": "a", "group": "b"}),
        ("target", {"query": ""}),
        ("max_in_progress", 0),
        ("failure_threshold", 101),
        ("on_failure", "pray"),
        ("colour", "blue"),
    ],
)
def test_what_makes_no_sense_is_refused(site, field, value):
    body = {"artifact_id": site.upload()["artifact_id"], "target": {"tag": "x"}} | {field: value}
    answer = site.admin.post("/ota/deployments", json=body)
    assert answer.status_code == 422, answer.text


def test_who_may(site, server):
    viewer, operator = server.user("viewer"), server.user("operator")
    body = {"artifact_id": site.upload()["artifact_id"], "target": {"tag": "x"}}
    assert viewer.get("/ota/deployments").status_code == 200
    assert viewer.post("/ota/deployments", json=body).status_code == 403
    assert operator.post("/ota/deployments", json=body).status_code == 403
    assert server.anonymous().get("/ota/artifacts").status_code == 401
    assert site.admin.get("/ota/deployments/dep_none").status_code == 404
    assert site.admin.post("/ota/deployments", json=body | {"artifact_id": "art_none"}).status_code == 404


def test_names_of_devices_out_of_reach_are_not_told(site, server, fleet):
    """Counts are of the whole deployment; nothing else of it names a device that its reader may not see."""
    (mine,) = fleet(1, tags=["mine"])
    (theirs,) = fleet(1)
    server.admin.device(other := f"{theirs.device_id}-mcu", type="micro_ros_mcu")
    limited = server.user("viewer", only_tags=["mine"])
    deployment = site.deploy(site.upload(), [*ids([mine, theirs]), other], failure_threshold=100)
    for robot in (mine, theirs):
        robot.triggered()
        robot.result(deployment, "failed", "disk full")
    assert site.becomes(deployment, "finished")["left_out"] == [{"device_id": other, "reason": "incompatible"}]
    path = f"/ota/deployments/{deployment}"
    told = [limited.get(place).text for place in (path, f"{path}/failures", f"{path}/devices", "/ota/deployments")]
    assert all(mine.device_id in text for text in told)
    assert not [text for text in told if theirs.device_id in text]
    assert limited.got(path)["counts"] == {"failed": 2}
    assert limited.got(f"{path}/failures")["items"][0]["count"] == 1
    assert limited.get(f"{path}/devices/{theirs.device_id}").status_code == 404


def test_the_same_key_makes_one_deployment(site):
    body = {"artifact_id": site.upload()["artifact_id"], "target": {"tag": "x"}}
    answers = [
        site.admin.post("/ota/deployments", json=body, headers={"Idempotency-Key": "one-deployment"})
        for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
