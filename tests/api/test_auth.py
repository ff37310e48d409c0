"""Section 3, `/auth`: the first user, sign-in, refresh tokens and MQTT credentials of devices."""

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from rosfit.kernel.clock import parse_time
from tests.api.problems import assert_problem
from tests.server import ADMIN_EMAIL, PASSWORD, Client, Robot, running_server, until


def new_user(**fields):
    return {"email": f"{secrets.token_hex(5)}@example.com", "password": PASSWORD, "name": "Eve", **fields}


def test_the_first_user_needs_the_setup_token_and_becomes_admin():
    with running_server() as server:
        nobody = server.anonymous()
        first = new_user(role="viewer")
        for wrong in ({}, {"setup_token": None}, {"setup_token": ""}, {"setup_token": "x" * 32}):
            assert_problem(nobody.post("/auth/register", json=first | wrong), 403, "SETUP_TOKEN_INVALID")
        token_file = server.data_dir / "setup-token"
        assert token_file.stat().st_mode & 0o077 == 0, "others must not read it"
        token = token_file.read_text().strip()
        assert token in server.log_text(), "the operator is told where to go"
        with ThreadPoolExecutor(4) as pool:
            bodies = [new_user(setup_token=token) for _ in range(4)]
            answers = list(pool.map(lambda body: server.anonymous().post("/auth/register", json=body), bodies))
        assert sorted(answer.status_code for answer in answers) == [201, 401, 401, 401], "a token lets one user in"
        made = next(answer for answer in answers if answer.status_code == 201).json()
        assert made["role"] == "admin"
        assert made["id"].startswith("usr_")
        assert "password" not in str(made)
        assert not token_file.exists()
        assert_problem(nobody.post("/auth/register", json=first | {"setup_token": token}), 401)
        server.restart()
        assert not token_file.exists(), "set-up does not open again"


def test_later_users_are_added_by_admins_only(server, admin, viewer):
    assert_problem(server.anonymous().post("/auth/register", json=new_user()), 401, "AUTH_REQUIRED")
    assert_problem(viewer.post("/auth/register", json=new_user()), 403, "PERMISSION_DENIED")
    made = admin.made("/auth/register", new_user(role="operator"))
    assert made["role"] == "operator"
    again = admin.post("/auth/register", json=new_user(email=made["email"].upper()))
    assert_problem(again, 409, "USER_EXISTS")


def test_who_may_not_register_is_told_so_before_the_body_is_looked_at(server, viewer):
    for body in ({"json": {}}, {"content": b"{"}):
        assert_problem(server.anonymous().post("/auth/register", **body), 401)
        assert_problem(viewer.post("/auth/register", **body), 403)


@pytest.mark.parametrize(
    "wrong", [{"email": "no at"}, {"email": "a@b\n"}, {"password": "short"}, {"role": "god"}, {"email": None}, {"x": 1}]
)
def test_a_user_with_a_wrong_field_is_422(admin, wrong):
    assert assert_problem(admin.post("/auth/register", json=new_user() | wrong), 422)["errors"]


def test_login_gives_tokens(server):
    answer = server.anonymous().post("/auth/login", json={"email": ADMIN_EMAIL.upper(), "password": PASSWORD})
    assert answer.status_code == 200
    tokens = answer.json()
    assert tokens.keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert tokens["token_type"] == "bearer"
    assert tokens["expires_in"] == 3600
    me = server.anonymous().get("/auth/me", headers={"Authorization": f"bearer {tokens['access_token']}"}).json()
    assert (me["email"], me["role"]) == (ADMIN_EMAIL, "admin")
    assert parse_time(me["created_at"])


def test_a_wrong_password_and_an_unknown_user_look_alike(server, admin):
    """The same answer, and it takes about as long: nobody learns who has an account."""
    nobody = server.anonymous()
    known = admin.made("/auth/register", new_user())["email"]
    details, took = set(), {}
    for name, email in {"wrong": known, "unknown": "nobody@example.com"}.items():
        started = time.perf_counter()
        problem = assert_problem(nobody.post("/auth/login", json={"email": email, "password": "another"}), 401)
        took[name] = time.perf_counter() - started
        details.add((problem["code"], problem["detail"]))
    assert len(details) == 1
    assert took["unknown"] > took["wrong"] / 4


@pytest.mark.parametrize("body", [{}, {"email": ADMIN_EMAIL}, {"email": 1, "password": "x"}, []])
def test_an_incomplete_login_is_422(server, body):
    assert_problem(server.anonymous().post("/auth/login", json=body), 422)


def test_a_login_with_nul_is_no_fault(server):
    answer = server.anonymous().post("/auth/login", json={"email": "a\0@b", "password": "\0" * 10})
    assert answer.status_code in {401, 422}


def tokens_of(server):
    return server.anonymous().made("/auth/login", {"email": ADMIN_EMAIL, "password": PASSWORD}, 200)


def test_refresh_tokens_rotate_and_reuse_revokes_the_family(server):
    nobody = server.anonymous()
    first = tokens_of(server)
    second = nobody.made("/auth/refresh", {"refresh_token": first["refresh_token"]}, 200)
    assert second["refresh_token"] != first["refresh_token"]
    assert second["expires_in"] == 3600
    other_family = tokens_of(server)
    reused = nobody.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert_problem(reused, 401, "REFRESH_REUSED")
    assert_problem(nobody.post("/auth/refresh", json={"refresh_token": second["refresh_token"]}), 401)
    nobody.made("/auth/refresh", {"refresh_token": other_family["refresh_token"]}, 200)


def test_a_refresh_token_is_spent_by_one_of_four_at_once(server):
    body = {"refresh_token": tokens_of(server)["refresh_token"]}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.anonymous().post("/auth/refresh", json=body), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]


@pytest.mark.parametrize("token", ["", "x", "\0", "é" * 100])
def test_an_unknown_refresh_token_is_401(server, token):
    assert_problem(server.anonymous().post("/auth/refresh", json={"refresh_token": token}), 401)


def test_logout_ends_the_family(server):
    nobody = server.anonymous()
    token = tokens_of(server)["refresh_token"]
    assert nobody.post("/auth/logout", json={"refresh_token": token}).status_code == 204
    assert_problem(nobody.post("/auth/refresh", json={"refresh_token": token}), 401)
    assert nobody.post("/auth/logout", json={"refresh_token": "never seen"}).status_code == 204


@pytest.mark.parametrize("body", [None, {}])
def test_logout_without_a_refresh_token_ends_the_session_of_the_access_token(server, body):
    tokens, other = tokens_of(server), tokens_of(server)
    signed_in, elsewhere = Client(server.url, tokens["access_token"]), Client(server.url, other["access_token"])
    assert signed_in.get("/auth/me").status_code == 200
    assert signed_in.post("/auth/logout", json=body).status_code == 204
    assert_problem(signed_in.get("/auth/me"), 401)
    assert_problem(server.anonymous().post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]}), 401)
    assert elsewhere.get("/auth/me").status_code == 200
    assert_problem(server.anonymous().post("/auth/logout", json=body), 401, "AUTH_REQUIRED")


def test_access_tokens_end_with_their_family(server):
    first = tokens_of(server)
    second = server.anonymous().made("/auth/refresh", {"refresh_token": first["refresh_token"]}, 200)
    signed_in = Client(server.url, second["access_token"])
    assert signed_in.get("/auth/me").status_code == 200
    server.anonymous().post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert_problem(signed_in.get("/auth/me"), 401)


def test_an_old_access_token_does_not_stand_in_the_way_of_a_new_one(server):
    """HTTP clients send the token they have with every request."""
    stale = Client(server.url, "run-out")
    tokens = stale.made("/auth/login", {"email": ADMIN_EMAIL, "password": PASSWORD}, 200)
    tokens = stale.made("/auth/refresh", {"refresh_token": tokens["refresh_token"]}, 200)
    assert stale.post("/auth/logout", json={"refresh_token": tokens["refresh_token"]}).status_code == 204
    assert_problem(stale.post("/auth/register", json=new_user()), 401)


def test_a_device_token_opens_mqtt_for_that_device_alone(server, admin, device_id, new_id):
    answer = admin.made("/auth/devices/token", {"device_id": device_id, "scopes": ["publish"], "ttl_hours": 2})
    assert answer.keys() >= {"device_id", "username", "token", "scopes", "expires_at"}
    assert answer["scopes"] == ["publish"]
    expiry = parse_time(answer["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=1.99) < expiry < timedelta(hours=2.01)
    other = admin.device(new_id())["device_id"]
    with Robot(server.mqtt_port, device_id, answer["token"], answer["username"]) as robot:
        robot.sample("odom", {"x": 1})
        robot.publish(f"rosfit/{other}/telemetry/odom", {"x": 666}, prefix="")
        robot.sample("odom", {"x": 2})
        until(lambda: len(admin.got(f"/telemetry/{device_id}")["items"]) == 2)
    assert admin.got(f"/telemetry/{other}")["items"] == []
    for username, password in ((device_id, "wrong"), (other, answer["token"])):
        with pytest.raises(AssertionError, match="Not authorized"):
            Robot(server.mqtt_port, username, password)


def test_a_device_token_opens_mqtt_at_once(server, admin, new_id):
    """When the answer is there, the broker knows it: also while others ask for theirs."""
    ids = [admin.device(new_id())["device_id"] for _ in range(24)]

    def connect(device_id):
        with server.mqtt(device_id) as robot:
            robot.sample("odom", {"x": 1})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(connect, ids))


@pytest.mark.parametrize("body", [{}, {"json": {}}])
def test_a_credential_is_rotated_without_a_wish(admin, device_id, body):
    assert admin.post(f"/devices/{device_id}/credentials", **body).status_code == 201


def test_device_tokens_are_refused_where_they_must_be(admin, viewer, device_id):
    assert_problem(viewer.post("/auth/devices/token", json={"device_id": device_id}), 403)
    assert_problem(admin.post("/auth/devices/token", json={"device_id": "ghost"}), 404, "DEVICE_NOT_FOUND")
    for wrong in ({"scopes": []}, {"scopes": ["all"]}, {"ttl_hours": 0}, {"ttl_hours": -1}, {"ttl_hours": 1e9}):
        assert_problem(admin.post("/auth/devices/token", json={"device_id": device_id, **wrong}), 422)
    admin.delete(f"/devices/{device_id}")
    assert_problem(admin.post("/auth/devices/token", json={"device_id": device_id}), 409, "DEVICE_DECOMMISSIONED")


def test_decommissioning_cuts_the_device_off(server, admin, device_id):
    token = admin.device_token(device_id)
    with Robot(server.mqtt_port, device_id, token) as robot:
        assert admin.delete(f"/devices/{device_id}").status_code == 204
        until(lambda: robot.lost)
    with pytest.raises(AssertionError, match="Not authorized"):
        Robot(server.mqtt_port, device_id, token)
