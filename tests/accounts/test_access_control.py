"""People and programs: what each role, key and limit may do, on a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.server import Client
from tests.server import RunningServer as Server

PASSWORD = "a password that is long"


def client_with(server: Server, token: str) -> Client:
    return Client(server.url, token)


def person(server: Server, name: str, role: str, **limits: Any) -> Client:
    """A signed-in user; made at the first call."""
    body = {"email": f"{name}@people.example", "password": PASSWORD, "role": role, **limits}
    made = server.admin.post("/users", json=body)
    assert made.status_code in {201, 409}, made.text
    login = server.anonymous().post("/auth/login", json={"email": body["email"], "password": PASSWORD})
    return client_with(server, login.json()["access_token"])


def key(server: Server, *scopes: str, **limits: Any) -> tuple[dict[str, Any], Client]:
    made = server.admin.post("/api-keys", json={"name": "test", "scopes": list(scopes), **limits})
    assert made.status_code == 201, made.text
    return made.json(), client_with(server, made.json()["secret"])


ALLOWED = {
    ("GET", "/devices"): {"viewer", "operator", "engineer", "admin"},
    ("GET", "/telemetry/red-1/latest"): {"viewer", "operator", "engineer", "admin"},
    ("PATCH", "/devices/red-1"): {"engineer", "admin"},
    ("POST", "/groups"): {"engineer", "admin"},
    ("GET", "/dead-letters"): {"engineer", "admin"},
    ("GET", "/users"): {"admin"},
    ("POST", "/users"): {"admin"},
    ("GET", "/api-keys"): {"admin"},
    ("GET", "/audit"): {"admin"},
}


@pytest.mark.parametrize("role", ["viewer", "operator", "engineer", "admin"])
def test_each_role_may_do_what_its_row_says_and_nothing_else(server: Server, role: str) -> None:
    client = person(server, role, role)
    for (method, path), allowed in ALLOWED.items():
        answer = client.request(method, path, json={"nonsense": True} if method != "GET" else None)
        if role in allowed:
            assert answer.status_code in {200, 422}, (method, path, answer.text)
        else:
            assert answer.status_code == 403, (method, path, answer.text)
            assert answer.json()["code"] == "PERMISSION_DENIED"


def test_a_key_has_its_scopes_and_nothing_else(server: Server) -> None:
    _, client = key(server, "devices:read")
    assert client.get("/devices").status_code == 200
    assert client.get("/telemetry/red-1/latest").status_code == 403
    assert client.post("/devices", json={"device_id": "new-1"}).status_code == 403


def test_a_key_may_be_traded_for_an_access_token(server: Server) -> None:
    made, _ = key(server, "devices:read")
    form = {"grant_type": "client_credentials", "client_id": made["id"], "client_secret": made["secret"]}
    answer = server.admin.post("/auth/token", data=form)
    assert answer.status_code == 200, answer.text
    assert answer.json()["token_type"] == "bearer"
    assert answer.json()["expires_in"] == 3600
    assert client_with(server, answer.json()["access_token"]).get("/devices").status_code == 200


def test_client_credentials_answer_errors_in_the_form_of_rfc_6749(server: Server) -> None:
    wrong = {"grant_type": "client_credentials", "client_id": "key_x", "client_secret": "rfk_x"}
    answer = server.anonymous().post("/auth/token", data=wrong)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    answer = server.anonymous().post("/auth/token", data={"grant_type": "password"})
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    answer = server.anonymous().post("/auth/token", data={})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_revoked_key_is_refused_at_once_and_so_are_its_tokens(server: Server) -> None:
    made, client = key(server, "devices:read")
    form = {"grant_type": "client_credentials", "client_id": made["id"], "client_secret": made["secret"]}
    traded = client_with(server, server.anonymous().post("/auth/token", data=form).json()["access_token"])
    assert [one.get("/devices").status_code for one in (client, traded)] == [200, 200]
    assert server.admin.delete(f"/api-keys/{made['id']}").status_code == 204
    assert [one.get("/devices").status_code for one in (client, traded)] == [401, 401]


def test_another_role_counts_at_once(server: Server) -> None:
    client = person(server, "demoted", "engineer")
    user_id = client.get("/auth/me").json()["id"]
    assert client.get("/devices").status_code == 200
    server.admin.patch(f"/users/{user_id}", json={"role": "viewer"}).raise_for_status()
    assert client.post("/devices", json={}).status_code == 403
    server.admin.delete(f"/users/{user_id}").raise_for_status()
    assert client.get("/devices").status_code == 401


def test_the_secret_of_a_key_is_shown_once_and_its_last_use_is_told(server: Server) -> None:
    made, client = key(server, "devices:read")
    client.get("/devices")
    listed = next(row for row in server.admin.get("/api-keys?limit=200").json()["items"] if row["id"] == made["id"])
    assert made["secret"].startswith("rfk_")
    assert made["secret"] not in str(listed)
    assert listed["last_used_at"] is not None


@pytest.mark.parametrize("scopes", [[], ["devices:fly"], "devices:read"])
def test_a_key_without_known_scopes_is_refused(server: Server, scopes: Any) -> None:
    assert server.admin.post("/api-keys", json={"name": "x", "scopes": scopes}).status_code == 422


def test_somebody_limited_to_a_tag_sees_nothing_else_anywhere(server: Server) -> None:
    client = person(server, "red-engineer", "engineer", only_tags=["red"])
    seen = client.get("/devices").json()["items"]
    assert {"red-1", "red-2"} <= {row["device_id"] for row in seen}
    assert all("red" in row["tags"] for row in seen)
    for path in ("/devices/blue-1", "/telemetry/blue-1", "/telemetry/blue-1/latest", "/devices/blue-1/logs"):
        assert client.get(path).status_code == 404, path
    assert client.patch("/devices/blue-1", json={"name": "mine"}).status_code == 404
    token = client.post("/auth/devices/token", json={"device_id": "blue-1"})
    assert token.status_code == 404
    assert client.get("/dead-letters").status_code == 403


def test_somebody_limited_cannot_widen_their_own_reach(server: Server) -> None:
    client = person(server, "red-engineer", "engineer", only_tags=["red"])
    assert client.post("/devices", json={"device_id": "blue-2", "tags": ["blue"]}).status_code == 403
    assert server.admin.get("/devices/blue-2").status_code == 404
    assert client.patch("/devices/red-2", json={"tags": ["blue"]}).status_code == 403
    assert client.post("/groups", json={"name": "mine", "device_ids": ["blue-1"]}).status_code == 403


def test_a_limit_to_a_saved_query_follows_the_query(server: Server) -> None:
    group = server.admin.post("/groups", json={"name": "blues", "kind": "query", "query": "tag:blue"}).json()
    _, client = key(server, "devices:read", only_groups=[group["group_id"]])
    assert [row["device_id"] for row in client.get("/devices").json()["items"]] == ["blue-1"]
    assert server.admin.delete("/groups/blues").json()["code"] == "GROUP_IN_USE"


def test_groups_show_a_limited_person_what_they_hold_for_them(server: Server) -> None:
    for name, members in {"mixed": ["red-1", "blue-1"], "only-blue": ["blue-1"]}.items():
        server.admin.made("/groups", {"name": name, "device_ids": members})
    client = person(server, "red-viewer", "viewer", only_tags=["red"])
    listed = {group["name"]: group["count"] for group in client.got("/groups")["items"]}
    assert listed["mixed"] == 1
    assert "only-blue" not in listed
    assert client.got("/groups/mixed")["count"] == 1
    assert client.get("/groups/only-blue").json()["code"] == "GROUP_NOT_FOUND"
    assert client.get("/groups/only-blue/devices").status_code == 404
    assert [device["device_id"] for device in client.got("/groups/mixed/devices")["items"]] == ["red-1"]
    whole = {group["name"]: group["count"] for group in server.admin.got("/groups")["items"]}
    assert (whole["mixed"], whole["only-blue"]) == (2, 1)


def test_a_disabled_user_is_signed_out_everywhere(server: Server) -> None:
    client = person(server, "leaver", "viewer")
    user_id = client.get("/auth/me").json()["id"]
    login = server.anonymous().post("/auth/login", json={"email": "leaver@people.example", "password": PASSWORD}).json()
    assert server.admin.patch(f"/users/{user_id}", json={"disabled": True}).status_code == 200
    assert client.get("/devices").status_code == 401
    refresh = server.admin.post("/auth/refresh", json={"refresh_token": login["refresh_token"]})
    assert refresh.status_code == 401
    again = server.admin.post("/auth/login", json={"email": "leaver@people.example", "password": PASSWORD})
    assert again.status_code == 401


def test_the_last_admin_stays(server: Server) -> None:
    me = server.admin.get("/auth/me").json()["id"]
    others = [
        row["id"]
        for row in server.admin.get("/users?limit=200").json()["items"]
        if row["role"] == "admin" and row["id"] != me
    ]
    for user_id in others:
        assert server.admin.delete(f"/users/{user_id}").status_code == 204
    for answer in (
        server.admin.delete(f"/users/{me}"),
        server.admin.patch(f"/users/{me}", json={"role": "viewer"}),
        server.admin.patch(f"/users/{me}", json={"disabled": True}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "LAST_ADMIN")


def test_what_changes_something_is_in_the_audit_log_with_who_and_what(server: Server) -> None:
    server.admin.post("/devices", json={"device_id": "logged-1"})
    server.admin.patch("/devices/logged-1", json={"name": "After"})
    entries = server.admin.get("/audit", params={"target": "logged-1"}).json()["items"]
    assert [entry["action"] for entry in entries] == ["device.update", "device.create"]
    assert entries[0]["before"]["name"] == "logged-1"
    assert entries[0]["after"]["name"] == "After"
    assert entries[0]["actor"] == server.admin.get("/auth/me").json()["id"]
    assert entries[0]["address"] == "127.0.0.1"


def test_a_denied_change_is_in_the_audit_log(server: Server) -> None:
    viewer = person(server, "viewer", "viewer")
    viewer.delete("/devices/red-1")
    entry = server.admin.get("/audit", params={"action": "access.denied"}).json()["items"][0]
    assert (entry["target"], entry["result"]) == ("DELETE /api/v1/devices/red-1", "PERMISSION_DENIED")


def test_the_audit_log_holds_no_secret(server: Server) -> None:
    made, _ = key(server, "devices:read")
    token = server.admin.post("/auth/devices/token", json={"device_id": "red-1"}).json()["token"]
    text = server.admin.get("/audit/export").text
    for secret in (made["secret"], token, PASSWORD):
        assert secret not in text


def test_groups_are_listed_by_name_in_pages(server: Server) -> None:
    for name in ("page-b", "Page-C", "page-a"):
        server.admin.made("/groups", {"name": name})
    names, cursor = [], {}
    while cursor is not None:
        page = server.admin.got("/groups", limit=1, **cursor)
        names += [one["name"] for one in page["items"]]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    assert [name for name in names if name.lower().startswith("page")] == ["page-a", "page-b", "Page-C"]
    assert server.admin.get("/groups", params={"limit": 201}).status_code == 422


def test_a_group_with_a_query_needs_no_kind(server: Server) -> None:
    made = server.admin.made("/groups", {"name": "by query", "query": "tag:red"})
    assert (made["kind"], made["query"]) == ("query", "tag:red")
    both = {"name": "both", "kind": "static", "query": "tag:red"}
    assert server.admin.post("/groups", json=both).status_code == 422


@pytest.mark.parametrize("text", ["battery <", "battery=", "< 20", "a=b"])
def test_a_comparison_that_lacks_a_side_is_no_query(server: Server, text: str) -> None:
    assert server.admin.get("/devices", params={"q": text}).json()["code"] == "INVALID_QUERY"


def test_the_chain_of_the_audit_log_holds_for_every_number(server: Server) -> None:
    """PostgreSQL writes 1e22 out and forgets the sign of -0.0; the hash must be of what it keeps."""
    body = b'{"huge": 1e300, "long": 123456789012345678901234567890, "minus": -0.0, "small": 1e-7, "x": [1.50, 1e22]}'
    merge = {"Content-Type": "application/merge-patch+json"}
    server.admin.patch("/shadow/red-1/desired", content=body, headers=merge).raise_for_status()
    command = [sys.executable, "-m", "rosfit.cli", "audit", "verify", "--json", "--data-dir", str(server.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=server.environment())
    assert json.loads(done.stdout)["broken"] is None, done.stdout
    assert done.returncode == 0


def test_a_group_that_a_saved_query_asks_for_keeps_its_name(server: Server) -> None:
    """Else no list of devices could be shown any more."""
    server.admin.made("/groups", {"name": "asked-for", "device_ids": ["red-1"]})
    server.admin.made("/groups", {"name": "asking", "query": "group:Asked-For tag:red"})
    for answer in (
        server.admin.patch("/groups/asked-for", json={"name": "other"}),
        server.admin.delete("/groups/asked-for"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "GROUP_IN_USE")
    assert server.admin.patch("/groups/asked-for", json={"name": "ASKED-FOR", "add": ["red-2"]}).status_code == 200
    assert server.admin.got("/devices/red-2")["groups"].count("asking") == 1
    assert server.admin.delete("/groups/asking").status_code == 204
    assert server.admin.delete("/groups/asked-for").status_code == 204
