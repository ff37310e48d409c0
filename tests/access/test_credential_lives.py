"""Credentials and certificates from issue to end: side by side, run out, revoked, forged; and how fast they end."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from rosfit.fleet import authority as authorities
from rosfit.fleet.authority import Authority, AuthorityFiles
from tests.access.mqtt import Doors, Identity, Session, is_refused, new_identity
from tests.server import Client, RunningServer, until

DISCONNECTED_WITHIN_S = 2.0


@pytest.fixture
def certified(admin: Client) -> Callable[[str], tuple[Identity, str]]:
    """A new identity of a device and the serial of its certificate."""

    def certify(device_id: str) -> tuple[Identity, str]:
        identity = new_identity()
        answer = admin.made(f"/devices/{device_id}/certificate", {"csr": identity.csr})
        identity.certificate = answer["certificate"]
        return identity, answer["serial"]

    return certify


def seconds_to_the_end(session: Session, revoke: Callable[[], Any]) -> float:
    """From the request that revokes to the moment the robot has lost its connection."""
    began = time.monotonic()
    answer = revoke()
    assert answer.status_code == 204, answer.text
    assert session.lost.wait(DISCONNECTED_WITHIN_S)
    return session.lost_at - began


def test_two_credentials_live_side_by_side_and_the_older_one_ends(admin: Client, doors: Doors, device_id: str) -> None:
    old = admin.made(f"/devices/{device_id}/credentials", {})
    new = admin.made(f"/devices/{device_id}/credentials", {"overlap_hours": 24})
    assert (old["username"], new["username"]) == (device_id, f"{device_id}.2")
    with (
        doors.by_password(old["username"], old["token"]) as one,
        doors.by_password(new["username"], new["token"]) as two,
    ):
        assert seconds_to_the_end(one, lambda: admin.delete(f"/devices/{device_id}/credentials/{old['id']}")) < 2
        assert two.connected
    assert is_refused(doors.by_password(old["username"], old["token"]))
    listed = admin.got(f"/devices/{device_id}/credentials")["items"]
    assert [(one["id"], one["revoked_at"] is None) for one in listed] == [(new["id"], True), (old["id"], False)]
    assert not any("token" in one or "hash" in str(one.keys()) for one in listed)
    ends = datetime.fromisoformat(listed[1]["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < ends <= timedelta(hours=24)


def test_without_an_overlap_the_older_credentials_end_at_once(admin: Client, doors: Doors, device_id: str) -> None:
    old = admin.made(f"/devices/{device_id}/credentials", {})
    with doors.by_password(old["username"], old["token"]) as session:
        new = admin.made(f"/devices/{device_id}/credentials", {"overlap_hours": 0})
        assert session.lost.wait(DISCONNECTED_WITHIN_S)
    assert new["username"] == device_id
    assert not is_refused(doors.by_password(new["username"], new["token"]))


def test_credential_that_has_run_out_opens_nothing_and_ends_its_session(
    admin: Client, doors: Doors, device_id: str
) -> None:
    """Nothing else tells the broker in the meantime."""
    issued = admin.made(f"/devices/{device_id}/credentials", {"ttl_hours": 2 / 3600})
    ends = datetime.fromisoformat(issued["expires_at"])
    with doors.by_password(issued["username"], issued["token"]) as session:
        until(lambda: datetime.now(UTC) > ends)
        assert session.lost.wait(DISCONNECTED_WITHIN_S)
    assert is_refused(doors.by_password(issued["username"], issued["token"]))


def test_jwt_is_a_password_of_the_broker_too(admin: Client, doors: Doors, device_id: str) -> None:
    issued = admin.made(f"/devices/{device_id}/credentials", {"kind": "jwt"})
    assert not is_refused(doors.by_password(issued["username"], issued["token"]))
    assert is_refused(doors.by_password(issued["username"], issued["token"][:-2] + "AA"))


def test_token_of_a_device_opens_no_api(server: RunningServer, admin: Client, device_id: str) -> None:
    for kind in ("jwt", "password"):
        token = admin.made(f"/devices/{device_id}/credentials", {"kind": kind})["token"]
        assert Client(server.url, token).get("/devices").status_code == 401


def test_new_token_keeps_the_device_s_own_name(admin: Client, doors: Doors, device_id: str) -> None:
    """`POST /auth/devices/token` replaces the one before it, so that a plain client needs to know one name only."""
    first, second = (admin.made("/auth/devices/token", {"device_id": device_id}) for _ in range(2))
    assert first["username"] == second["username"] == device_id
    assert is_refused(doors.by_password(device_id, first["token"]))
    assert not is_refused(doors.by_password(device_id, second["token"]))


def test_idempotency_key_gives_the_same_secret_once(admin: Client, device_id: str) -> None:
    answers = [
        admin.post(f"/devices/{device_id}/credentials", json={}, headers={"Idempotency-Key": device_id}).json()
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert len(admin.got(f"/devices/{device_id}/credentials")["items"]) == 1


def test_viewer_reads_no_secret_and_changes_nothing(server: RunningServer, admin: Client, device_id: str) -> None:
    issued = admin.made(f"/devices/{device_id}/credentials", {})
    viewer = server.user("viewer")
    assert viewer.get(f"/devices/{device_id}/credentials").status_code == 200
    for path, body in (("credentials", {}), ("certificate", {"csr": ""})):
        assert viewer.post(f"/devices/{device_id}/{path}", json=body).status_code == 403
    assert viewer.delete(f"/devices/{device_id}/credentials/{issued['id']}").status_code == 403
    assert viewer.delete(f"/devices/{device_id}/certificates/1").status_code == 403


def test_certificate_says_device_and_client_whatever_the_request_says(
    admin: Client, server: RunningServer, device_id: str
) -> None:
    identity = new_identity("somebody-else")
    answer = admin.made(f"/devices/{device_id}/certificate", {"csr": identity.csr})
    certificate = x509.load_pem_x509_certificate(answer["certificate"].encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(answer["ca_certificate"].encode()))
    assert certificate.subject.rfc4514_string() == f"CN={device_id}"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [one.dotted_string for one in usage] == ["1.3.6.1.5.5.7.3.2"]
    lasts = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=89) < lasts <= timedelta(days=90)
    assert server.anonymous().get("//.well-known/rosfit-ca.pem").text == answer["ca_certificate"]


def test_revoked_certificate_ends_its_session_and_opens_nothing(
    admin: Client,
    server: RunningServer,
    doors: Doors,
    device_id: str,
    certified: Callable[[str], tuple[Identity, str]],
    tmp_path: Path,
) -> None:
    (revoked, serial), (kept, _) = certified(device_id), certified(device_id)
    with doors.by_certificate(revoked.write(tmp_path)) as session:
        took_s = seconds_to_the_end(session, lambda: admin.delete(f"/devices/{device_id}/certificates/{serial}"))
    assert took_s < DISCONNECTED_WITHIN_S
    assert is_refused(doors.by_certificate(revoked.write(tmp_path)))
    assert not is_refused(doors.by_certificate(kept.write(tmp_path)))
    listed = x509.load_pem_x509_crl(server.anonymous().get("//.well-known/rosfit.crl").content)
    assert listed.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None


def test_revocations_close_together_all_count(
    admin: Client,
    doors: Doors,
    new_device: Callable[[], str],
    certified: Callable[[str], tuple[Identity, str]],
    tmp_path: Path,
) -> None:
    """OpenSSL goes by the newest list, to the second; `tests/embedded/test_revocation_lists.py` stops the clock."""
    robots = [(device_id, *certified(device_id)) for device_id in (new_device() for _ in range(4))]
    for device_id, _, serial in robots:
        assert admin.delete(f"/devices/{device_id}/certificates/{serial}").status_code == 204
    assert all(is_refused(doors.by_certificate(identity.write(tmp_path))) for _, identity, _ in robots)


def test_decommissioned_robot_is_out_within_two_seconds_and_stays_out(
    admin: Client,
    doors: Doors,
    device_id: str,
    certified: Callable[[str], tuple[Identity, str]],
    tmp_path: Path,
) -> None:
    """By every credential: two passwords and a certificate."""
    issued = [admin.made(f"/devices/{device_id}/credentials", {}) for _ in range(2)]
    identity, _ = certified(device_id)
    files = identity.write(tmp_path)
    ways = [
        *(lambda one=one: doors.by_password(one["username"], one["token"]) for one in issued),
        lambda: doors.by_certificate(files),
    ]
    sessions = [way().__enter__() for way in ways]
    began = time.monotonic()
    assert admin.delete(f"/devices/{device_id}").status_code == 204
    assert all(session.lost.wait(DISCONNECTED_WITHIN_S) for session in sessions)
    assert max(session.lost_at for session in sessions) - began < DISCONNECTED_WITHIN_S
    assert all(is_refused(way()) for way in ways)
    refused = admin.post(f"/devices/{device_id}/certificate", json={"csr": identity.csr})
    assert refused.json()["code"] == "DEVICE_DECOMMISSIONED"


def test_certificate_of_another_authority_is_refused(doors: Doors, device_id: str, tmp_path: Path) -> None:
    """Even of one with the same name."""
    identity = new_identity()
    identity.certificate = Authority.new().sign_request(identity.csr, device_id).pem
    assert is_refused(doors.by_certificate(identity.write(tmp_path)))


def test_certificate_that_signs_itself_is_refused(doors: Doors, device_id: str, tmp_path: Path) -> None:
    identity = new_identity()
    identity.certificate = authorities.self_signed(identity.key, [device_id], timedelta(days=1)).pem
    assert is_refused(doors.by_certificate(identity.write(tmp_path)))


def test_certificate_past_its_time_is_refused(doors: Doors, device_id: str, tmp_path: Path) -> None:
    identity = new_identity()
    authority = AuthorityFiles(doors.ca.parent.parent).require()
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer_name=x509.load_pem_x509_certificate(authority.pem.encode()).subject,
        subject_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, device_id)]),
        public_key=identity.key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(days=2),
        not_valid_after=now - timedelta(days=1),
    )
    identity.certificate = builder.sign(authority._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    assert is_refused(doors.by_certificate(identity.write(tmp_path)))


def test_certificate_door_takes_no_password(admin: Client, doors: Doors, device_id: str) -> None:
    issued = admin.made(f"/devices/{device_id}/credentials", {})
    assert is_refused(doors.by_password(issued["username"], issued["token"], "cert"))


@pytest.mark.parametrize(
    ("csr", "why"),
    [
        ("", "not a PKCS #10 request"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "not a PKCS #10 request"),
        ("x" * 20_000, "longer than"),
    ],
)
def test_bad_request_is_named(admin: Client, device_id: str, csr: str, why: str) -> None:
    answer = admin.post(f"/devices/{device_id}/certificate", json={"csr": csr})
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_CSR")
    assert why in answer.json()["errors"][0]["message"]


def test_request_whose_signature_does_not_fit_is_refused(admin: Client, device_id: str) -> None:
    request = x509.load_pem_x509_csr(new_identity().csr.encode())
    der = bytearray(request.public_bytes(Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()
    answer = admin.post(f"/devices/{device_id}/certificate", json={"csr": forged})
    assert answer.json()["errors"][0]["message"] == "its signature does not fit its key"
