"""An update from upload to health check: the real server, the real bridge with its agent, a live ROS graph."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.e2e.ros_site import DEVICE, RosSite
from tests.server import RunningServer, running_server, until

from ota_rig import archive, release  # isort: skip  # found by ros_site


def trusted_key(server: RunningServer, folder: Path) -> Path:
    """The server's update key, as an operator puts it on the robot."""
    raw = base64.b64decode(server.admin.got("/ota/keys")["items"][0]["public_key"])
    path = folder / "update-key.pem"
    key = Ed25519PublicKey.from_public_bytes(raw)
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bridge")


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[RosSite]:
    with running_server() as server:
        upload(server, "0.0.1")  # the first upload makes the key
        key = trusted_key(server, folder)
        healthy = f'test "$(cat {folder}/updates/current/healthy)" = yes'
        section = f"""
ota:
  enabled: true
  device_type: ros2_robot
  folder: {folder}/updates
  public_keys: [{key}]
  gate: [{{command: [test, -e, {folder}/docked]}}]
  health: {{command: [sh, -c, '{healthy}'], within_s: 1, for_s: 0.3}}
"""
        made = RosSite(server, folder, lambda robot: f"  # the way up\n{section}")
        yield made
        made.close()


def upload(server: RunningServer, version: str, *, healthy: bool = True) -> dict[str, Any]:
    form = {"name": "robot-app", "version": version, "device_types": "ros2_robot"}
    file = {"file": ("app.tar.gz", archive(release(version, healthy=healthy)))}
    answer = server.admin.post("/ota/artifacts", data=form, files=file)
    assert answer.status_code == 201, answer.text
    return answer.json()


def deploy(site: RosSite, artifact: dict[str, Any]) -> str:
    body = {"artifact_id": artifact["artifact_id"], "target": {"device_ids": [DEVICE]}, "device_deadline_s": 120}
    made = site.server.admin.made("/ota/deployments", body)
    site.server.admin.made(f"/ota/deployments/{made['deployment_id']}/start", status=200)
    return made["deployment_id"]


def progress(site: RosSite, deployment_id: str) -> dict[str, Any]:
    return site.server.admin.got(f"/ota/deployments/{deployment_id}/devices")["items"][0]


def ended(site: RosSite, deployment_id: str) -> dict[str, Any]:
    until(lambda: progress(site, deployment_id)["finished_at"], 40)
    return progress(site, deployment_id)


def test_a_robot_waits_for_its_gate_and_then_updates(site: RosSite, folder: Path) -> None:
    deployment_id = deploy(site, upload(site.server, "1.0.0"))
    until(lambda: "says no" in (progress(site, deployment_id)["detail"] or ""), 20)
    (folder / "docked").touch()
    assert ended(site, deployment_id)["status"] == "succeeded"
    assert site.device()["firmware"] == {"name": "robot-app", "version": "1.0.0"}
    assert (folder / "updates/current/part0.txt").read_text().startswith("1.0.0")
    steps = site.server.admin.got(f"/ota/deployments/{deployment_id}/devices/{DEVICE}")["steps"]
    assert [step["status"] for step in steps] == [
        "queued", "notified", "downloading", "verifying", "installing", "rebooting", "health_check", "succeeded",
    ]  # fmt: skip


def test_a_version_that_is_not_well_is_rolled_back_by_the_robot_itself(site: RosSite, folder: Path) -> None:
    outcome = ended(site, deploy(site, upload(site.server, "1.1.0", healthy=False)))
    assert outcome["status"] == "rolled_back"
    assert outcome["error"]["code"] == "UNHEALTHY"
    assert site.device()["firmware"]["version"] == "1.0.0"
    assert (folder / "updates/current/part0.txt").read_text().startswith("1.0.0")


def test_a_bridge_killed_in_the_middle_goes_on(site: RosSite, folder: Path) -> None:
    (folder / "docked").unlink()
    deployment_id = deploy(site, upload(site.server, "1.2.0"))
    until(lambda: progress(site, deployment_id)["status"] == "notified", 20)
    site.bridge.kill()
    (folder / "docked").touch()
    site.bridge.start()
    assert ended(site, deployment_id)["status"] == "succeeded"
    assert site.device()["firmware"]["version"] == "1.2.0"
