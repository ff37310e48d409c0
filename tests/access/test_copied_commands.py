"""The commands that the pages show to copy, run as they stand on a machine that does not know the certificate."""

from __future__ import annotations

import html
import json
import os
import re
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from rosfit_bridge.tls import PinMismatchError

from rosfit_bridge import tls
from rosfit_bridge.config import parse
from tests.access.mqtt import Doors, is_refused
from tests.server import ADMIN_EMAIL, PASSWORD, RunningServer


@pytest.fixture(scope="module")
def browser(server: RunningServer) -> httpx.Client:
    client = httpx.Client(base_url=server.url, headers={"Accept": "text/html"}, timeout=15)
    server.admin.got("/auth/me")
    form = {"email": ADMIN_EMAIL, "password": PASSWORD}
    assert client.post("/sign-in", data=form).status_code == 303
    return client


def copied(page: httpx.Response, beginning: str) -> str:
    """The command on the page that begins like this, as the button copies it."""
    assert page.status_code == 200, page.text
    found = re.search(rf">({re.escape(beginning)}.*?)</", html.unescape(page.text), re.DOTALL)
    assert found, page.text
    return found[1]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In a shell that trusts no more than the system does."""
    clean = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    path = f"{Path(sys.executable).parent}:{clean['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=clean | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_enrolment_command_works_as_it_stands(browser: httpx.Client, doors: Doors, tmp_path: Path) -> None:
    """Once; the credential is for its owner alone to read."""
    form = {"name": secrets.token_hex(4), "device_type": "ros2_robot", "tags": "", "ttl_hours": "1", "max_uses": "2"}
    command = copied(browser.post("/enrolment/new", data=form), "python3 - <<'EOF'")
    stem = f"copied-{secrets.token_hex(4)}"
    command = command.replace("socket.gethostname()", repr(stem))
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "rosfit-credential.json"
    assert file.stat().st_mode & 0o777 == 0o600
    credential = json.loads(file.read_text())
    assert credential["device_id"] == stem
    assert not is_refused(doors.by_password(credential["username"], credential["token"]))
    again = run(command, tmp_path)
    assert again.returncode == 1
    assert f"refused: '{stem}' is registered already" in again.stderr


def test_the_enrolment_command_tells_its_token_to_nobody_else(browser: httpx.Client, tmp_path: Path) -> None:
    form = {"name": secrets.token_hex(4), "device_type": "ros2_robot", "tags": "", "ttl_hours": "1", "max_uses": "1"}
    command = copied(browser.post("/enrolment/new", data=form), "python3 - <<'EOF'")
    changed = re.sub(r"^pin = '\w{64}'$", f"pin = '{'0' * 64}'", command, flags=re.MULTILINE)
    assert changed != command
    done = run(changed, tmp_path)
    assert done.returncode == 1
    assert "does not show the certificate" in done.stderr


def test_the_bridge_s_command_pins_the_broker(browser: httpx.Client, doors: Doors, tmp_path: Path) -> None:
    device_id = f"copied-{secrets.token_hex(4)}"
    form = {"device_id": device_id, "name": device_id, "type": "ros2_robot"}
    page = browser.post("/add-robot", data=form, headers={"Host": "fleet.lan"})
    text = copied(page, "cat > rosfit-bridge.yaml").partition("<<'EOF'\n")[2].partition("EOF\n")[0]
    connection = parse(text, file="rosfit-bridge.yaml", folder=tmp_path, env={}).connection
    assert (connection.host, connection.effective_port, connection.tls.enabled) == ("fleet.lan", doors.tls, True)
    shows(doors.tls, connection.tls)
    with pytest.raises(PinMismatchError):
        shows(doors.cert, connection.tls.__class__(True, None, None, None, True, "0" * 64))


def shows(port: int, wanted: tls.Tls) -> None:
    """The handshake, in which the certificate is compared."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        tls.context(wanted).wrap_socket(plain, server_hostname="fleet.lan"),
    ):
        return
