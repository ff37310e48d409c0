"""Sections 2 and 3, `/devices`: register, find, change, decommission; logs and frames."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import msgspec
import psycopg
import pytest

from rosfit.api.devices import media_type_of
from rosfit.fleet.presence import MAY_BECOME
from rosfit.kernel.clock import parse_time
from tests.api.problems import assert_problem
from tests.server import until

FIELDS = {
    "device_id", "name", "type", "status", "tags", "groups", "metadata", "firmware", "created_at", "last_seen",
}  # fmt: skip


def test_a_registered_device_has_every_field(admin, new_id):
    body = {
        "device_id": new_id(),
        "name": "Großer Roboter 🤖",
        "type": "gateway",
        "tags": ["b", "a", "b"],
        "metadata": {"n": 1.5, "deep": {"list": [1, None, "x"]}, "big": 2**53, "text": "\\u0000 is spelled so"},
    }
    device = admin.made("/devices", body)
    assert device.keys() >= FIELDS
    assert device["status"] == "provisioning"
    assert device["last_seen"] is None
    assert device["groups"] == []
    assert set(device["tags"]) == {"a", "b"}
    assert device["metadata"] == body["metadata"]
    assert (device["name"], device["type"]) == (body["name"], "gateway")
    assert device["created_at"].endswith("Z")
    assert len(device["created_at"]) == len("2026-03-30T10:05:32.123Z")
    assert admin.got(f"/devices/{body['device_id']}") == device


def test_an_id_is_made_up_and_an_existing_one_conflicts(admin):
    device = admin.made("/devices", {"type": "simulator"})
    assert device["device_id"].startswith("simulator-")
    assert device["name"] == device["device_id"]
    assert_problem(admin.post("/devices", json={"device_id": device["device_id"]}), 409, "DEVICE_EXISTS")


def test_the_same_id_registered_by_many_at_once_is_one_device(admin, new_id):
    body = {"device_id": new_id()}
    with ThreadPoolExecutor(6) as pool:
        codes = sorted(answer.status_code for answer in pool.map(lambda _: admin.post("/devices", json=body), range(6)))
    assert codes == [201, *[409] * 5]


@pytest.mark.parametrize("name", ["ghost", "-", "a" * 300, "%2e%2e", "%F0%9F%A4%96", "'; drop table devices --"])
def test_an_unknown_device_is_404_everywhere(admin, name):
    for method, path in [
        ("GET", f"/devices/{name}"),
        ("PATCH", f"/devices/{name}"),
        ("DELETE", f"/devices/{name}"),
        ("GET", f"/devices/{name}/logs"),
        ("GET", f"/devices/{name}/blobs/image/latest"),
        ("GET", f"/telemetry/{name}"),
        ("GET", f"/telemetry/{name}/latest"),
        ("GET", f"/telemetry/{name}/series?stream=a&field=b"),
    ]:
        body = {"json": {}} if method == "PATCH" else {}
        assert_problem(admin.request(method, path, **body), 404)


def test_what_is_missing_in_a_change_stays(admin, new_id):
    device = admin.device(new_id(), name="one", tags=["x"], metadata={"a": 1, "b": 2})
    path = f"/devices/{device['device_id']}"
    assert admin.patch(path, json={}).json() == device
    assert admin.patch(path, json={"name": "two"}).json() == device | {"name": "two"}
    changed = admin.patch(path, json={"metadata": {"a": 9}, "tags": []}).json()
    assert (changed["metadata"], changed["tags"], changed["name"]) == ({"a": 9}, [], "two")


def test_metadata_has_a_limit(admin, new_id):
    largest = {"a": "x" * (64 * 1024 - len('{"a":""}'))}
    name = admin.device(new_id(), metadata=largest)["device_id"]
    problem = assert_problem(admin.patch(f"/devices/{name}", json={"metadata": largest | {"b": 1}}), 422)
    assert (problem["errors"][0]["field"], "65542" in problem["errors"][0]["message"]) == ("metadata", True)


def test_the_type_cannot_change(admin, new_id):
    path = f"/devices/{admin.device(new_id(), type='gateway')['device_id']}"
    assert admin.patch(path, json={"type": "gateway"}).status_code == 200
    assert_problem(admin.patch(path, json={"type": "simulator", "name": "new"}), 409, "TYPE_IMMUTABLE")
    assert admin.got(path)["name"] != "new", "a refused change changes nothing"


def test_a_viewer_reads_and_does_not_write(viewer, device_id):
    assert viewer.get(f"/devices/{device_id}").status_code == 200
    for method, path, body in [
        ("POST", "/devices", {"device_id": "x"}),
        ("PATCH", f"/devices/{device_id}", {"name": "x"}),
        ("DELETE", f"/devices/{device_id}", None),
    ]:
        assert_problem(viewer.request(method, path, json=body), 403, "PERMISSION_DENIED")


@pytest.mark.parametrize("before", ["provisioning", "online", "offline", "error", "maintenance"])
def test_status_changes_only_along_the_contracts_table(server, admin, new_id, before):
    with psycopg.connect(server.endpoints.database_url, autocommit=True) as database:
        for after in MAY_BECOME:
            device_id = admin.device(new_id())["device_id"]
            database.execute("UPDATE devices SET status = %s WHERE device_id = %s", [before, device_id])
            answer = admin.patch(f"/devices/{device_id}", json={"status": after})
            if after in MAY_BECOME[before] or after == before:
                assert answer.json()["status"] == after
            else:
                assert_problem(answer, 409, "STATUS_TRANSITION")


def test_decommissioned_is_final(admin, device_id):
    path = f"/devices/{device_id}"
    assert admin.delete(path).status_code == 204
    assert admin.delete(path).status_code == 204, "again changes nothing"
    assert admin.got(path)["status"] == "decommissioned"
    for change in ({"status": "online"}, {"name": "new"}, {"status": "provisioning"}):
        assert_problem(admin.patch(path, json=change), 409, "DEVICE_DECOMMISSIONED")
    assert_problem(admin.post("/devices", json={"device_id": device_id}), 409)


def everything(client, path, **params):
    """All items over all pages, and the number of pages."""
    items, cursor, pages = [], None, 0
    while True:
        page = client.got(path, **params, **({"cursor": cursor} if cursor else {}))
        items += page["items"]
        cursor = page["next_cursor"]
        pages += 1
        if cursor is None:
            return items, pages


def test_cursors_hold_while_devices_are_added(admin):
    """No device that was there all the time is missed or seen twice, whatever happens between the pages."""
    tag = secrets.token_hex(4)
    ids = [f"{tag}-{number:03}" for number in range(0, 60, 2)]
    for name in ids:
        admin.device(name, tags=[tag])
    seen, cursor = [], None
    for step in range(100):
        page = admin.got("/devices", tag=tag, limit=7, **({"cursor": cursor} if cursor else {}))
        assert len(page["items"]) <= 7
        seen += [item["device_id"] for item in page["items"]]
        admin.device(f"{tag}-{step * 2 + 1:03}", tags=[tag])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen))
    assert set(ids) <= set(seen)
    assert seen == sorted(seen)


def test_filters(admin):
    tag = secrets.token_hex(4)
    admin.device(f"{tag}-a", type="gateway", tags=[tag, "x"], name="50%_off Müller")
    admin.device(f"{tag}-b", type="simulator", tags=[tag])
    admin.device(f"{tag}-c", type="simulator", tags=[tag, "x"], name="back\\slash")
    admin.delete(f"/devices/{tag}-b")

    def found(**params):
        return [item["device_id"][-1] for item in everything(admin, "/devices", tag=tag, **params)[0]]

    assert found() == ["a", "b", "c"]
    assert found(type="simulator") == ["b", "c"]
    assert found(status="decommissioned") == ["b"]
    assert found(status=["decommissioned", "provisioning"], type="simulator") == ["b", "c"]
    assert found(q="müll") == ["a"]
    assert found(q="50%_") == ["a"]
    assert found(q="5__o") == []
    assert found(q="k\\s") == ["c"]
    assert found(q=f"{tag}-C") == ["c"]
    assert found(limit=1) == ["a", "b", "c"]
    assert [item["device_id"][-1] for item in admin.got("/devices", tag="x", q=tag)["items"]] == ["a", "c"]
    for wrong in ({"status": "asleep"}, {"type": "tank"}):
        assert_problem(admin.get("/devices", params=wrong), 422)


def test_msgpack_on_request(admin, device_id):
    """The same answer as in JSON; problems stay problem+json."""
    for path in (f"/devices/{device_id}", f"/devices?q={device_id}", "/auth/me", f"/telemetry/{device_id}/latest"):
        packed = admin.get(path, headers={"Accept": "application/msgpack"})
        assert packed.headers["content-type"].startswith("application/msgpack")
        assert msgspec.msgpack.decode(packed.content) == admin.get(path).json()
    made = admin.post("/devices", json={"type": "simulator"}, headers={"Accept": "application/msgpack"})
    assert made.status_code == 201
    assert msgspec.msgpack.decode(made.content)["type"] == "simulator"
    assert_problem(admin.get("/devices/ghost", headers={"Accept": "application/msgpack"}), 404)
    assert admin.get(f"/devices/{device_id}", headers={"Accept": "*/*"}).headers["content-type"] == "application/json"


# ── what a device has said ──


def test_presence_follows_what_a_device_says(server, admin, new_id):
    device_id = new_id()
    path = f"/devices/{device_id}"
    with server.robot(device_id) as robot:
        robot.sample("odom", {"x": 1})
        until(lambda: admin.got(path)["status"] == "online")
        until(lambda: admin.got(path)["last_seen"])
        robot.publish("status", {"status": "offline", "reason": "shutdown"}, retain=True)
        gone = until(lambda: (found := admin.got(path))["status"] == "offline" and found)
        assert gone["status_reason"] == "shutdown"
        robot.publish("status", {"status": "online"}, retain=True)
        until(lambda: admin.got(path)["status"] == "online")
        admin.patch(path, json={"status": "maintenance"})
        robot.publish("status", {"status": "error", "reason": "motor"})
        robot.sample("odom", {"x": 2})
        until(lambda: len(admin.got(f"/telemetry/{device_id}")["items"]) == 2)
        assert admin.got(path)["status"] == "maintenance"


def test_logs_are_listed_newest_first_by_level_and_page(server, admin, new_id):
    device_id = new_id()
    with server.robot(device_id) as robot:
        for number in range(12):
            level = "error" if number % 3 == 0 else "info"
            log = {"level": level, "message": f"line {number}", "logger": "nav", "fields": {"n": number}}
            robot.publish("log", {"timestamp": 1_767_225_600 + number, "payload": log})
        path = f"/devices/{device_id}/logs"
        lines = until(lambda: len(found := everything(admin, path, limit=5)[0]) == 12 and found)
    assert [line["fields"]["n"] for line in lines] == list(range(11, -1, -1))
    assert lines[0].keys() == {"time", "level", "message", "logger", "fields"}
    assert lines[0]["time"] == "2026-01-01T00:00:11.000Z"
    assert [line["fields"]["n"] for line in everything(admin, path, level="error", limit=2)[0]] == [9, 6, 3, 0]


def test_the_newest_frame_is_served_as_it_came(server, admin, viewer, new_id):
    device_id = new_id()
    path = f"/devices/{device_id}/blobs/image/latest"
    with server.robot(device_id) as robot:
        assert_problem(admin.get(path), 404, "BLOB_NOT_FOUND")
        for number in range(3):
            robot.publish("blob/image", bytes([255, 216, number]) * 1000, qos=number % 2, content_type="image/jpeg")
        frame = until(lambda: (found := admin.get(path)).content[2:3] == b"\2" and found)
    assert frame.headers["content-type"] == "image/jpeg"
    assert frame.content == bytes([255, 216, 2]) * 1000
    assert parse_time(frame.headers["x-sample-time"])
    assert viewer.get(path).status_code == 200


@pytest.mark.parametrize("told", ["text/html", "bild/jpäg", "x" * 5000, "", "image/svg+xml", "a/b; c"])
def test_a_hostile_content_type_does_no_harm(server, admin, new_id, told):
    device_id = new_id()
    with server.robot(device_id) as robot:
        robot.publish("blob/image", b"<script>", content_type=told)
        path = f"/devices/{device_id}/blobs/image/latest"
        frame = until(lambda: (found := admin.get(path)).status_code != 404 and found)
    assert frame.status_code == 200, frame.text
    assert frame.content == b"<script>"
    assert "sandbox" in frame.headers["content-security-policy"]
    assert frame.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("told", ["a/b\r\nX-Evil: 1", "a/b\n", "a", "/", "a/b;", "ä/b", "a/b; c=d e", "a/" + "b" * 500])
def test_what_is_no_media_type_is_served_as_bytes(told):
    assert media_type_of(told) == "application/octet-stream"


@pytest.mark.parametrize("told", ["image/jpeg", "application/vnd.x+json", "image/jpeg; q=1", "a/b;charset=utf-8"])
def test_a_media_type_is_kept(told):
    assert media_type_of(told) == told
