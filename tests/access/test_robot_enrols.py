"""The bridge's own side: `bridge enrol`, what it leaves behind, and the renewal of its certificate."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rosfit_bridge.uplink import credentials, peer

from rosfit_bridge import certificates, enrol
from rosfit_bridge.config import Config, load
from tests.access.mqtt import Doors, is_refused
from tests.server import Client, RunningServer, until


@pytest.fixture
def enrolled(
    server: RunningServer, admin: Client, doors: Doors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> object:
    """Enrol with the options given; the configuration it wrote."""

    def run(device_id: str, *options: str, approval: bool = False) -> Config:
        token = admin.made("/enrolment-tokens", {"name": "robot", "approval": approval})["token"]
        monkeypatch.setenv(enrol.TOKEN_VARIABLE, token)
        config = tmp_path / "rosfit-bridge.yaml"
        where = ["--url", server.url, "--config", str(config), "--folder", str(tmp_path / "keys")]
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(enrol.main, [*where, "--ca-cert", str(doors.ca), "--device-id", device_id, *options])
            if approval:
                approve(admin, device_id)
            assert done.result(30) == enrol.DONE
        return load(config)

    return run


def approve(admin: Client, device_id: str) -> None:
    def waiting() -> str | None:
        asked = admin.got("/enrolments", status="waiting", limit=200)["items"]
        return next((one["id"] for one in asked if one["device_id"] == device_id), None)

    assert admin.post(f"/enrolments/{until(waiting)}/approve").status_code == 200


def new_name() -> str:
    return f"robot-{secrets.token_hex(4)}"


def test_one_command_leaves_a_bridge_that_connects(enrolled, doors: Doors, tmp_path: Path) -> None:
    device_id = new_name()
    config = enrolled(device_id)
    username, password = credentials(config.connection.auth, device_id)
    assert (config.rosfit.device_id, username) == (device_id, device_id)
    assert not is_refused(doors.by_password(username, password))
    assert (tmp_path / "keys" / f"{device_id}.token").stat().st_mode & 0o777 == 0o600
    assert peer(config).address == "mqtts://127.0.0.1:8883"


def test_robot_that_must_be_approved_waits_for_it(enrolled, doors: Doors, tmp_path: Path) -> None:
    device_id = new_name()
    config = enrolled(device_id, approval=True)
    assert not is_refused(doors.by_password(*credentials(config.connection.auth, device_id)))
    assert not (tmp_path / "keys/enrolment.json").exists()


def test_robot_gets_a_certificate_and_renews_it_in_time(enrolled, doors: Doors) -> None:
    """The key stays, so that key and certificate fit at every moment."""
    device_id = new_name()
    config = enrolled(device_id, "--certificate", "--mqtt-port", str(doors.cert))
    renewal = certificates.renewal_of(config)
    files = config.connection.tls.client_cert, config.connection.tls.client_key
    assert not is_refused(doors.by_certificate(files))
    first = files[0].read_text()
    assert renewal.turn() == certificates.CHECK_EVERY_S
    assert files[0].read_text() == first
    assert certificates.runs_out_within(files[0], 91 * 86_400)
    certificates.renew(*renewal._arguments)
    assert files[0].read_text() != first
    assert not is_refused(doors.by_certificate(files))


def test_failed_renewal_keeps_the_certificate_and_is_tried_again(
    enrolled, admin: Client, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    device_id = new_name()
    renewal = certificates.renewal_of(enrolled(device_id, "--certificate", "--mqtt-port", str(doors.cert)))
    before = renewal._arguments[1].read_text()
    assert admin.delete(f"/devices/{device_id}").status_code == 204
    monkeypatch.setattr(certificates, "RENEW_BEFORE_S", 91 * 86_400)
    assert renewal.turn() == certificates.RETRY_AFTER_S
    assert renewal._arguments[1].read_text() == before


def test_mistakes_are_told(server: RunningServer, doors: Doors, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.delenv(enrol.TOKEN_VARIABLE, raising=False)
    where = ["--config", str(tmp_path / "c.yaml"), "--folder", str(tmp_path)]
    assert enrol.main(["--url", server.url, *where]) == enrol.USAGE
    assert enrol.TOKEN_VARIABLE in capsys.readouterr().err
    (tmp_path / "token").write_text("rfe_wrong\n")
    given = ["--token-file", str(tmp_path / "token"), *where]
    for url, more, said in (
        (server.url, ["--ca-cert", str(doors.ca)], "The enrolment token is not valid"),
        (server.url, ["--pin-sha256", "0" * 64], "not the pinned"),
        ("http://127.0.0.1:1", [], "does not answer"),
        ("nonsense", [], "is not an address"),
    ):
        assert enrol.main(["--url", url, *given, *more]) == enrol.FAILED
        assert said in capsys.readouterr().err
    assert list(tmp_path.glob("*.token")) == []
