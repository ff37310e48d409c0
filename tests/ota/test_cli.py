"""`rosfit ota`, beside a running server."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from tests.ota.conftest import Site, Updatable
from tests.server import until


def rosfit(site: Site, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rosfit.cli", "ota", *arguments, "--data-dir", str(site.server.data_dir)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=site.server.environment())
    assert done.returncode == code, done.stderr
    return done


def test_from_upload_to_a_robot_that_has_it(
    site: Site, fleet: Callable[[int], list[Updatable]], tmp_path: Path
) -> None:
    (robot,) = fleet(1)
    file = tmp_path / "app.tar.gz"
    file.write_bytes(b"x" * 3_000_000)
    fields = ["--name", f"cli-{robot.device_id}", "--version", "1.0", "--types", "ros2_robot,gateway"]
    artifact = json.loads(rosfit(site, "upload", str(file), *fields, "--json").stdout)
    assert (artifact["size"], artifact["device_types"]) == (3_000_000, ["ros2_robot", "gateway"])
    assert artifact["artifact_id"] in rosfit(site, "artifacts").stdout
    target = [artifact["artifact_id"], "--device", robot.device_id]
    assert json.loads(rosfit(site, "deploy", *target, "--preview").stdout)["count"] == 1
    deployment = json.loads(rosfit(site, "deploy", *target, "--json").stdout)["deployment_id"]
    robot.triggered()
    rosfit(site, "pause", deployment)
    rosfit(site, "resume", deployment)
    robot.result(deployment, "succeeded")
    assert "1 succeeded" in rosfit(site, "watch", deployment).stdout
    assert json.loads(rosfit(site, "status", deployment, "--json").stdout)["devices"][0]["status"] == "succeeded"
    until(lambda: site.admin.got(f"/devices/{robot.device_id}")["firmware"]["version"] == "1.0")


def test_mistakes_have_their_exit_codes(site: Site, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    rosfit(site, "upload", str(tmp_path / "f"), "--name", "x", "--version", "1", "--types", "toaster", code=2)
    rosfit(site, "upload", str(tmp_path / "gone"), "--name", "x", "--version", "1", "--types", "gateway", code=2)
    rosfit(site, "deploy", "art_none", "--device", "x", "--waves", "50,x", code=2)
    rosfit(site, "status", "dep_none", code=3)
    rosfit(site, "abort", "dep_none", code=3)


def test_keys_are_printed_as_robots_read_them(site: Site) -> None:
    site.upload()
    (key,) = [key for key in site.admin.got("/ota/keys")["items"] if key["signs"]]
    pem = rosfit(site, "keys").stdout
    public = load_pem_public_key(pem[pem.index("-----BEGIN") :].encode())
    assert base64.b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode() in str(
        [key["public_key"] for key in site.admin.got("/ota/keys")["items"]]
    )
    assert key["key_id"] in pem
