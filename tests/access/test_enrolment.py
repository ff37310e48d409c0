"""Robots that register themselves: at once, after approval, or not at all."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.access.beside import rosfit
from tests.access.mqtt import Doors, Identity, is_refused, new_identity
from tests.server import Client, RunningServer, until


class PatientClient(Client):
    """Somebody without any account, who waits when told so: all tests here ask from one address."""

    def request(self, method: str, url: Any, **options: Any) -> httpx.Response:
        return until(lambda: self._unless_too_many(method, url, options))

    def _unless_too_many(self, method: str, url: Any, options: dict[str, Any]) -> httpx.Response | None:
        answer = super().request(method, url, **options)
        return None if answer.status_code == 429 else answer


@pytest.fixture
def robot(server: RunningServer) -> Client:
    return PatientClient(server.url)


def new_name() -> str:
    return f"new-{secrets.token_hex(5)}"


def test_pre_approved_robot_is_in_at_once(admin: Client, robot: Client, doors: Doors) -> None:
    token = admin.made("/enrolment-tokens", {"name": "lab", "tags": ["lab"], "device_type": "gateway"})
    issued = robot.made("/enrolment", {"token": token["token"], "device_id": new_name(), "name": "Robot"})
    device = admin.got(f"/devices/{issued['device_id']}")
    assert (device["type"], device["tags"], device["name"]) == ("gateway", ["lab"], "Robot")
    assert not is_refused(doors.by_password(issued["username"], issued["token"]))


def test_token_lets_in_as_many_as_it_says_and_no_more(admin: Client, robot: Client) -> None:
    token = admin.made("/enrolment-tokens", {"name": "two", "max_uses": 2})["token"]
    statuses = [robot.post("/enrolment", json={"token": token}).status_code for _ in range(3)]
    assert statuses == [201, 201, 401]


def test_token_counts_only_what_it_let_in(admin: Client, robot: Client, device_id: str) -> None:
    """And lets nobody become a device that is there already."""
    token = admin.made("/enrolment-tokens", {"name": "one"})["token"]
    taken = robot.post("/enrolment", json={"token": token, "device_id": device_id})
    assert taken.json()["code"] == "DEVICE_EXISTS"
    assert robot.post("/enrolment", json={"token": token}).status_code == 201


def test_revoked_late_and_made_up_tokens_are_refused(admin: Client, robot: Client) -> None:
    revoked = admin.made("/enrolment-tokens", {"name": "revoked"})
    assert admin.delete(f"/enrolment-tokens/{revoked['id']}").status_code == 204
    late = admin.made("/enrolment-tokens", {"name": "late", "ttl_hours": 1e-9})
    for token in (revoked["token"], late["token"], "rfe_made-up", ""):
        answer = robot.post("/enrolment", json={"token": token})
        assert (answer.status_code, answer.json()["code"]) == (401, "ENROLMENT_TOKEN_INVALID")


def test_secrets_are_shown_once(admin: Client) -> None:
    made = admin.made("/enrolment-tokens", {"name": "once"})
    listed = admin.got("/enrolment-tokens", limit=200)["items"]
    assert made["id"] in {one["id"] for one in listed}
    assert made["token"] not in json.dumps(listed)


def test_robot_waits_for_approval_and_fetches_its_credential_once(admin: Client, robot: Client, doors: Doors) -> None:
    token = admin.made("/enrolment-tokens", {"name": "gate", "approval": True})["token"]
    waiting = robot.made("/enrolment", {"token": token, "device_id": new_name()}, 202)
    claim = f"/enrolment/{waiting['enrolment_id']}/claim"
    assert robot.post(claim, json={"claim": waiting["claim"]}).status_code == 202
    assert admin.get(f"/devices/{waiting['device_id']}").status_code == 404
    asked = admin.got("/enrolments", status="waiting")["items"]
    assert (waiting["device_id"], "127.0.0.1") in {(one["device_id"], one["address"]) for one in asked}
    assert admin.post(f"/enrolments/{waiting['enrolment_id']}/approve").json()["status"] == "approved"
    assert robot.post(claim, json={"claim": "wrong"}).status_code == 404
    issued = robot.made(claim, {"claim": waiting["claim"]})
    assert not is_refused(doors.by_password(issued["username"], issued["token"]))
    again = robot.post(claim, json={"claim": waiting["claim"]})
    assert (again.status_code, again.json()["code"]) == (409, "ENROLMENT_DECIDED")


def test_denied_robot_stays_out(admin: Client, robot: Client) -> None:
    token = admin.made("/enrolment-tokens", {"name": "gate", "approval": True})["token"]
    waiting = robot.made("/enrolment", {"token": token}, 202)
    denied = f"/enrolments/{waiting['enrolment_id']}"
    assert admin.post(f"{denied}/deny").json()["status"] == "denied"
    answer = robot.post(f"/enrolment/{waiting['enrolment_id']}/claim", json={"claim": waiting["claim"]})
    assert (answer.status_code, answer.json()["code"]) == (403, "ENROLMENT_DENIED")
    assert admin.post(f"{denied}/approve").status_code == 409
    assert admin.get(f"/devices/{waiting['device_id']}").status_code == 404


def test_lost_answer_can_be_fetched_again_with_its_key(admin: Client, robot: Client) -> None:
    token = admin.made("/enrolment-tokens", {"name": "flaky"})["token"]
    wish, key = {"token": token}, {"Idempotency-Key": secrets.token_hex(8)}
    answers = [robot.post("/enrolment", json=wish, headers=key) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    approval = admin.made("/enrolment-tokens", {"name": "flaky", "approval": True})["token"]
    wish, key = {"token": approval}, {"Idempotency-Key": secrets.token_hex(8)}
    answers = [robot.post("/enrolment", json=wish, headers=key) for _ in range(2)]
    assert [one.status_code for one in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()


def test_only_those_who_may_write_devices_deal_with_enrolment(server: RunningServer) -> None:
    for role, status in (("viewer", 403), ("operator", 403), ("engineer", 201)):
        assert server.user(role).post("/enrolment-tokens", json={"name": role}).status_code == status


def test_command_line_makes_tokens_and_decides(server: RunningServer, robot: Client) -> None:
    made = rosfit("enrol", "create-token", "cli", "--approval", "--json", data_dir=server.data_dir)
    token = json.loads(made.stdout)["token"]
    waiting = [robot.made("/enrolment", {"token": token, "device_id": new_name()}, 202)]
    listed = rosfit("enrol", "list", "--status", "waiting", "--json", data_dir=server.data_dir)
    assert waiting[0]["enrolment_id"] in {one["id"] for one in json.loads(listed.stdout)}
    approved = rosfit("enrol", "approve", waiting[0]["enrolment_id"], data_dir=server.data_dir)
    assert approved.stdout == f"{waiting[0]['device_id']} is approved\n"
    unknown = rosfit("enrol", "deny", "enr_unknown", data_dir=server.data_dir)
    assert unknown.returncode == 3


@pytest.fixture
def present(admin: Client, device_id: str) -> Identity:
    """What the robot has now."""
    identity = new_identity()
    identity.certificate = admin.made(f"/devices/{device_id}/certificate", {"csr": identity.csr})["certificate"]
    return identity


def renewal(present: Identity, wanted: Identity, *, signed: str | None = None) -> dict[str, str]:
    signature = present.key.sign((signed or wanted.csr).encode(), ec.ECDSA(hashes.SHA256()))
    return {"csr": wanted.csr, "certificate": present.certificate, "signature": base64.b64encode(signature).decode()}


def test_robot_renews_by_its_present_certificate(
    robot: Client, doors: Doors, device_id: str, present: Identity, tmp_path: Path
) -> None:
    wanted = new_identity()
    wanted.certificate = robot.made("/enrolment/renew", renewal(present, wanted))["certificate"]
    assert f"CN={device_id}" == x509.load_pem_x509_certificate(wanted.certificate.encode()).subject.rfc4514_string()
    assert not is_refused(doors.by_certificate(wanted.write(tmp_path)))


def test_renewal_needs_the_key_of_a_live_certificate(
    admin: Client, robot: Client, device_id: str, present: Identity
) -> None:
    wanted, stranger = new_identity(), new_identity()
    stranger.certificate = present.certificate
    refused = [renewal(present, wanted, signed="another"), renewal(stranger, wanted), {"csr": wanted.csr}]
    serial = admin.got(f"/devices/{device_id}/certificates")["items"][0]["serial"]
    assert all(robot.post("/enrolment/renew", json=one).status_code == 401 for one in refused)
    assert admin.delete(f"/devices/{device_id}/certificates/{serial}").status_code == 204
    assert robot.post("/enrolment/renew", json=renewal(present, wanted)).status_code == 401


def test_robot_gets_its_first_certificate_by_its_password(
    admin: Client, server: RunningServer, new_device: Callable[[], str]
) -> None:
    a, b = new_device(), new_device()
    issued = admin.made(f"/devices/{a}/credentials", {})
    wanted = new_identity(b)
    answer = PatientClient(server.url, auth=(issued["username"], issued["token"])).made(
        "/enrolment/renew", {"csr": wanted.csr}
    )
    assert x509.load_pem_x509_certificate(answer["certificate"].encode()).subject.rfc4514_string() == f"CN={a}"
    for wrong in ((b, issued["token"]), (a, "wrong"), (a, "")):
        assert (
            PatientClient(server.url, auth=wrong).post("/enrolment/renew", json={"csr": wanted.csr}).status_code == 401
        )


def test_one_address_may_not_ask_without_end(server: RunningServer) -> None:
    robot = server.anonymous()
    statuses = {robot.post("/enrolment", json={"token": "guess"}).status_code for _ in range(60)}
    assert statuses == {401, 429}
