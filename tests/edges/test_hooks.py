"""Incoming webhooks: genuine, fresh and new, or refused; and the same answer for a source that does not exist."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import statistics
import time
from typing import Any

import httpx
import pytest

from tests.server import Client, RunningServer

ORDER = {"order": 4711, "to": "dock-3"}


class Sender:
    """Signs as the documentation says, with nothing of ours."""

    def __init__(self, client: Client, source: str, secret: str) -> None:
        self._client = client
        self.source = source
        self.secret = secret

    def signed(self, body: bytes, timestamp: str) -> str:
        return "sha256=" + hmac.new(self.secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()

    def send(self, content: Any = ORDER, *, at: str | None = None, **headers: str) -> httpx.Response:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        timestamp = at or str(int(time.time()))
        signed = {"X-RosFit-Timestamp": timestamp, "X-RosFit-Signature": self.signed(body, timestamp)}
        return self.deliver(body, signed | {name.replace("_", "-"): value for name, value in headers.items()})

    def deliver(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return self._client.post(f"/hooks/{self.source}", content=body, headers=headers)


@pytest.fixture
def sender(server: RunningServer, admin: Client) -> Sender:
    made = admin.made("/hook-sources", {"source": f"wms-{secrets.token_hex(4)}"})
    return Sender(server.anonymous(), made["source"], made["secret"])


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_a_signed_delivery_is_kept_and_listed(admin: Client, sender: Sender) -> None:
    answers = [sender.send(ORDER | {"line": line}) for line in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3
    ids = [answer.json()["delivery_id"] for answer in answers]
    first = admin.got(f"/hook-sources/{sender.source}/deliveries", limit=2)
    rest = admin.got(f"/hook-sources/{sender.source}/deliveries", limit=2, cursor=first["next_cursor"])
    items = first["items"] + rest["items"]
    assert [item["delivery_id"] for item in items] == ids[::-1]
    assert items[-1]["body"] == ORDER | {"line": 0}
    assert rest["next_cursor"] is None


@pytest.mark.parametrize("form", ["%d", "%d000", "rfc"])
def test_the_time_may_be_in_seconds_milliseconds_or_text(sender: Sender, form: str) -> None:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) if form == "rfc" else form % int(time.time())
    assert sender.send(at=at).status_code == 202


def test_the_same_delivery_twice_is_refused(sender: Sender) -> None:
    at = str(int(time.time()))
    assert sender.send(at=at).status_code == 202
    refused(sender.send(at=at), 409, "HOOK_REPLAYED")
    upper = sender.signed(json.dumps(ORDER).encode(), at).replace("sha256=", "").upper()
    refused(sender.send(at=at, X_RosFit_Signature=f"sha256={upper}"), 409, "HOOK_REPLAYED")
    assert sender.send(ORDER | {"again": True}, at=at).status_code == 202


@pytest.mark.parametrize("shift_s", [-310, 310, -86_400])
def test_one_outside_of_five_minutes_is_refused(sender: Sender, shift_s: int) -> None:
    refused(sender.send(at=str(int(time.time()) + shift_s)), 401, "HOOK_STALE")


def test_one_just_within_is_taken(sender: Sender) -> None:
    assert sender.send(at=str(int(time.time()) - 290)).status_code == 202


@pytest.mark.parametrize(
    "change",
    [
        {"X_RosFit_Signature": "sha256=" + "0" * 64},
        {"X_RosFit_Signature": ""},
        {"X_RosFit_Signature": "sha256=xyz"},
        {"X_RosFit_Signature": "sha1=" + "0" * 40},
        {"X_RosFit_Timestamp": "1"},
        {"X_RosFit_Timestamp": ""},
    ],
)
def test_a_wrong_signature_is_refused(sender: Sender, change: dict[str, str]) -> None:
    refused(sender.send(**change), 401, "HOOK_SIGNATURE_INVALID")


def test_a_changed_body_is_refused(sender: Sender) -> None:
    at = str(int(time.time()))
    headers = {"X-RosFit-Timestamp": at, "X-RosFit-Signature": sender.signed(b'{"order": 1}', at)}
    refused(sender.deliver(b'{"order": 2}', headers), 401, "HOOK_SIGNATURE_INVALID")
    assert sender.deliver(b'{"order": 1}', headers).status_code == 202


def test_a_source_that_does_not_exist_answers_the_same(server: RunningServer, sender: Sender) -> None:
    """Status, body and, within a factor of two, time."""
    stranger = Sender(server.anonymous(), "nobody", "guess")
    sender.secret = "guess"

    def plain(answer: httpx.Response) -> dict[str, Any]:
        return {name: value for name, value in answer.json().items() if name != "request_id"}

    def took(who: Sender) -> float:
        began = time.perf_counter()
        who.send()
        return time.perf_counter() - began

    assert plain(stranger.send()) == plain(sender.send())
    pairs = [(took(stranger), took(sender)) for _ in range(30)]
    ratio = statistics.median(one for one, _ in pairs) / statistics.median(two for _, two in pairs)
    assert 0.5 < ratio < 2


@pytest.mark.parametrize("body", [b"", b"order=1", b"{", b"\xff\xfe", b"[" * 60_000, b'"\\u0000"', b"1e999999", b"NaN"])
def test_what_is_not_json_is_refused(sender: Sender, body: bytes) -> None:
    refused(sender.send(body), 400, "HOOK_BODY_INVALID")


def test_64_kib_are_taken_and_no_more(sender: Sender) -> None:
    assert sender.send(b'"' + b"x" * (64 * 1024 - 2) + b'"').status_code == 202
    refused(sender.send(b'"' + b"x" * (64 * 1024 - 1) + b'"'), 413, "TOO_LARGE")


def test_sources_are_for_admins_and_show_their_secret_once(
    server: RunningServer, admin: Client, sender: Sender
) -> None:
    listed = admin.got("/hook-sources")
    assert sender.source in [item["source"] for item in listed["items"]]
    assert sender.secret not in json.dumps(listed)
    refused(admin.post("/hook-sources", json={"source": sender.source}), 409, "HOOK_SOURCE_EXISTS")
    engineer = server.user("engineer")
    for method, path in [
        ("GET", "/hook-sources"),
        ("POST", "/hook-sources"),
        ("POST", f"/hook-sources/{sender.source}/rotate"),
        ("DELETE", f"/hook-sources/{sender.source}"),
        ("GET", f"/hook-sources/{sender.source}/deliveries"),
    ]:
        refused(engineer.request(method, path), 403, "PERMISSION_DENIED")
        refused(server.anonymous().request(method, path), 401, "AUTH_REQUIRED")


@pytest.mark.parametrize("name", ["", "A", "a/b", "-a", "a" * 65, "a\n"])
def test_names_of_sources_are_checked(admin: Client, name: str) -> None:
    assert admin.post("/hook-sources", json={"source": name}).status_code == 422


def test_after_a_rotation_both_secrets_are_taken(admin: Client, sender: Sender) -> None:
    """The old one for a day, so that the sender can change over; the one before that not at all."""
    first, path = sender.secret, f"/hook-sources/{sender.source}/rotate"
    second = admin.made(path)["secret"]
    assert sender.send({"with": "first"}).status_code == 202
    sender.secret = second
    assert sender.send({"with": "second"}).status_code == 202
    admin.made(path)
    sender.secret = first
    refused(sender.send({"with": "first again"}), 401, "HOOK_SIGNATURE_INVALID")


def test_a_deleted_source_is_refused(admin: Client, sender: Sender) -> None:
    assert admin.delete(f"/hook-sources/{sender.source}").status_code == 204
    refused(sender.send(), 401, "HOOK_SIGNATURE_INVALID")
    refused(admin.delete(f"/hook-sources/{sender.source}"), 404, "HOOK_SOURCE_NOT_FOUND")
    refused(admin.get(f"/hook-sources/{sender.source}/deliveries"), 404, "HOOK_SOURCE_NOT_FOUND")


def test_changes_to_sources_are_in_the_audit_log(admin: Client, sender: Sender) -> None:
    admin.made(f"/hook-sources/{sender.source}/rotate")
    admin.delete(f"/hook-sources/{sender.source}")
    items = admin.got("/audit", target=sender.source)["items"]
    assert [item["action"] for item in items] == ["hook_source.delete", "hook_source.rotate", "hook_source.create"]
    assert sender.secret not in json.dumps(items)
