"""What EMQX 5 and RabbitMQ ask over HTTP, in the forms they send it."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from tests.access.beside import HOOK_TOKEN
from tests.access.mqtt import new_identity
from tests.server import Client, RunningServer

HEADER = {"X-RosFit-Token": HOOK_TOKEN}


@pytest.fixture
def emqx(server: RunningServer) -> Client:
    return server.anonymous(headers=HEADER)


@pytest.fixture
def issued(admin: Client, device_id: str) -> dict[str, Any]:
    return admin.made(f"/devices/{device_id}/credentials", {})


def login(emqx: Client, **fields: str | None) -> str:
    answer = emqx.post("/mqtt/auth", json=fields)
    assert answer.status_code == 200, answer.text
    assert answer.json()["is_superuser"] is False
    return answer.json()["result"]


def access(emqx: Client, **fields: str) -> str:
    answer = emqx.post("/mqtt/acl", json={"clientid": "any", "qos": "1", "retain": "0", **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def rabbit(server: RunningServer, question: str, **fields: str) -> str:
    answer = server.anonymous().post(f"/mqtt/rabbitmq/{question}/{HOOK_TOKEN}", data=fields)
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.parametrize("path", ["auth", "acl", "rabbitmq/user", "rabbitmq/topic"])
def test_nobody_asks_without_the_secret(server: RunningServer, path: str) -> None:
    for headers, tail in (({}, ""), ({"X-RosFit-Token": "wrong"}, ""), ({}, "/wrong")):
        body = {"data": {"a": "b"}} if path.startswith("rabbitmq") else {"json": {}}
        answer = server.anonymous(headers=headers).post(f"/mqtt/{path}{tail}", **body)
        assert answer.status_code == 401


def test_secret_in_a_path_is_in_no_log(server: RunningServer) -> None:
    for method in ("POST", "GET", "PUT"):
        server.anonymous().request(method, f"/mqtt/rabbitmq/user/{HOOK_TOKEN}")
        server.anonymous().request(method, f"/mqtt/auth/{HOOK_TOKEN}/more")
    assert "/api/v1/mqtt/rabbitmq/user/***" in server.log_text()
    assert HOOK_TOKEN not in server.log_text()


def test_emqx_lets_in_by_password_and_by_token(
    emqx: Client, admin: Client, device_id: str, issued: dict[str, Any]
) -> None:
    token = admin.made(f"/devices/{device_id}/credentials", {"kind": "jwt"})
    assert login(emqx, username=device_id, password=issued["token"], clientid="any") == "allow"
    assert login(emqx, username=device_id, password=token["token"], clientid=device_id) == "allow"
    assert login(emqx, username=token["username"], password=token["token"], clientid="x") == "allow"
    for wrong in ("", "wrong", token["token"][:-3] + "AAA", None):
        assert login(emqx, username=device_id, password=wrong, clientid="x") == "deny"
    assert admin.delete(f"/devices/{device_id}/credentials/{token['id']}").status_code == 204
    assert login(emqx, username=device_id, password=token["token"], clientid="x") == "deny"


def test_emqx_decides_itself_about_those_who_are_no_device(emqx: Client) -> None:
    for username in ("rosfit-server", "", None, "a/b", "no-such-device"):
        assert login(emqx, username=username, password="x", clientid="x") == "ignore"
        if username is not None:
            assert access(emqx, username=username, topic="rosfit/x", action="publish") == "ignore"


def test_client_id_may_not_name_another_device(
    emqx: Client, server: RunningServer, admin: Client, device_id: str, issued: dict[str, Any]
) -> None:
    other = admin.device(f"dev-{secrets.token_hex(5)}")["device_id"]
    for taken in (other, "rosfit-ingest-0"):
        assert login(emqx, username=device_id, password=issued["token"], clientid=taken) == "deny"
        form = {"username": device_id, "password": issued["token"], "client_id": taken}
        assert rabbit(server, "user", **form) == "deny"
        queue = {"username": device_id, "vhost": "/", "resource": "queue", "permission": "configure"}
        assert rabbit(server, "resource", name=f"mqtt-subscription-{taken}qos1", **queue) == "deny"


def test_certificate_that_the_broker_verified_counts_while_there_is_one(
    emqx: Client, admin: Client, device_id: str
) -> None:
    assert login(emqx, username=device_id, cert_common_name=device_id, clientid="x") == "deny"
    serial = admin.made(f"/devices/{device_id}/certificate", {"csr": new_identity().csr})["serial"]
    assert login(emqx, username=device_id, cert_common_name=device_id, clientid="x") == "allow"
    assert login(emqx, username=device_id, cert_common_name="another", clientid="x") == "deny"
    assert access(emqx, username=device_id, topic=f"rosfit/{device_id}/status", action="publish") == "allow"
    assert admin.delete(f"/devices/{device_id}/certificates/{serial}").status_code == 204
    assert login(emqx, username=device_id, cert_common_name=device_id, clientid="x") == "deny"
    assert access(emqx, username=device_id, topic=f"rosfit/{device_id}/status", action="publish") == "deny"


def test_emqx_hears_no_after_a_device_is_decommissioned(
    emqx: Client, admin: Client, device_id: str, issued: dict[str, Any]
) -> None:
    topic = f"rosfit/{device_id}/telemetry"
    assert access(emqx, username=device_id, topic=topic, action="publish") == "allow"
    assert admin.delete(f"/devices/{device_id}").status_code == 204
    assert login(emqx, username=device_id, password=issued["token"], clientid="x") == "deny"
    assert access(emqx, username=device_id, topic=topic, action="publish") == "deny"


def test_scopes_bind_brokers_that_ask(emqx: Client, admin: Client, device_id: str) -> None:
    writer = admin.made(f"/devices/{device_id}/credentials", {"scopes": ["publish"]})["username"]
    assert access(emqx, username=writer, topic=f"rosfit/{device_id}/telemetry", action="publish") == "allow"
    assert access(emqx, username=writer, topic=f"rosfit/{device_id}/#", action="subscribe") == "deny"


def test_rabbit_lets_a_device_use_mqtt_and_nothing_else(
    server: RunningServer, device_id: str, issued: dict[str, Any]
) -> None:
    me = {"username": device_id, "vhost": "/"}
    assert rabbit(server, "user", username=device_id, password=issued["token"], vhost="/", client_id="c1") == "allow"
    assert rabbit(server, "user", username=device_id, password="wrong", vhost="/", client_id="c1") == "deny"
    assert rabbit(server, "vhost", ip="10.0.0.1", **me) == "allow"
    assert rabbit(server, "vhost", username="nobody", vhost="/", ip="10.0.0.1") == "deny"
    expected = {
        ("queue", f"mqtt-subscription-{device_id}qos1", "configure"): "allow",
        ("queue", "mqtt-subscription-c1qos0", "write"): "allow",
        ("queue", "someone-else", "read"): "deny",
        ("exchange", "amq.topic", "write"): "allow",
        ("exchange", "amq.topic", "read"): "allow",
        ("exchange", "amq.topic", "configure"): "deny",
        ("exchange", "amq.direct", "write"): "deny",
    }
    for (resource, name, permission), verdict in expected.items():
        asked = rabbit(server, "resource", resource=resource, name=name, permission=permission, **me)
        assert asked == verdict, (resource, name, permission)


def test_rabbit_s_routing_keys_are_topics(server: RunningServer, device_id: str, issued: dict[str, Any]) -> None:
    assert issued["username"] == device_id
    expected = {
        (f"rosfit.{device_id}.telemetry.odom", "write"): "allow",
        (f"rosfit.{device_id}.cmd.request", "write"): "deny",
        ("rosfit.another.telemetry.odom", "write"): "deny",
        (f"rosfit.{device_id}.#", "read"): "allow",
        (f"rosfit.{device_id}.cmd.*", "read"): "allow",
        ("rosfit.*.cmd.request", "read"): "deny",
        ("#", "read"): "deny",
    }
    for (key, permission), verdict in expected.items():
        form = {"username": device_id, "vhost": "/", "resource": "topic", "name": "amq.topic"}
        assert rabbit(server, "topic", permission=permission, routing_key=key, **form) == verdict, (key, permission)
