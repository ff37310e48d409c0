"""A server, and devices that take updates as a stranger would write them."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.commands.test_commands import Device
from tests.server import RunningServer, running_server, until


class Site:
    """What tests do with artifacts and deployments over REST."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.admin = server.admin

    def upload(self, data: bytes = b"firmware", status: int = 201, **fields: str) -> Any:
        form = {"name": f"fw-{secrets.token_hex(4)}", "version": "1.0.0", "device_types": "ros2_robot"} | fields
        answer = self.admin.post("/ota/artifacts", data=form, files={"file": ("fw.bin", data)})
        assert answer.status_code == status, answer.text
        return answer.json()

    def deploy(self, artifact: dict[str, Any], devices: list[str], *, start: bool = True, **rules: Any) -> str:
        body = {"artifact_id": artifact["artifact_id"], "target": {"device_ids": devices}, **rules}
        made = self.admin.made("/ota/deployments", body)
        assert made["status"] == "draft"
        if start:
            self.ask(made["deployment_id"], "start")
        return made["deployment_id"]

    def ask(self, deployment_id: str, action: str, status: int = 200) -> Any:
        answer = self.admin.post(f"/ota/deployments/{deployment_id}/{action}")
        assert answer.status_code == status, answer.text
        return answer.json()

    def shown(self, deployment_id: str) -> Any:
        return self.admin.got(f"/ota/deployments/{deployment_id}")

    def becomes(self, deployment_id: str, status: str) -> Any:
        until(lambda: self.shown(deployment_id)["status"] == status)
        return self.shown(deployment_id)

    def devices(self, deployment_id: str, **filters: Any) -> dict[str, dict[str, Any]]:
        items = self.admin.got(f"/ota/deployments/{deployment_id}/devices", limit=200, **filters)["items"]
        return {item["device_id"]: item for item in items}

    def statuses(self, deployment_id: str) -> dict[str, str]:
        return {name: item["status"] for name, item in self.devices(deployment_id).items()}

    def steps(self, deployment_id: str, device_id: str) -> list[dict[str, Any]]:
        return self.admin.got(f"/ota/deployments/{deployment_id}/devices/{device_id}")["steps"]

    def public_key(self, key_id: str) -> Ed25519PublicKey:
        keys = {key["key_id"]: key for key in self.admin.got("/ota/keys")["items"]}
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(keys[key_id]["public_key"]))


class Updatable(Device):
    """A device that hears its triggers and reports what a test tells it to."""

    def __init__(self, server: RunningServer, device_id: str, row: str = "ota/trigger", **fields: Any) -> None:
        super().__init__(server, device_id, row, **fields)

    def triggered(self, timeout: float = 10) -> dict[str, Any]:
        """The payload of the next trigger."""
        message = self.requests.get(timeout=timeout)
        assert not message.retain
        assert message.qos == 1
        return json.loads(message.payload)["payload"]

    def progress(self, deployment_id: str, status: str, **more: Any) -> None:
        self.say("ota/progress", {"deployment_id": deployment_id, "status": status, **more})

    def result(self, deployment_id: str, status: str, error: Any = None) -> None:
        self.say("ota/result", {"deployment_id": deployment_id, "status": status, "error": error})


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as running:
        yield running


@pytest.fixture(scope="module")
def site(server: RunningServer) -> Site:
    return Site(server)


@pytest.fixture
def fleet(server: RunningServer) -> Iterator[Callable[[int], list[Updatable]]]:
    """Makes connected devices; they leave at the end."""
    made: list[Updatable] = []

    def make(count: int, **fields: Any) -> list[Updatable]:
        tag = secrets.token_hex(3)
        new = [Updatable(server, f"bot-{tag}-{number:02d}", **fields) for number in range(count)]
        made.extend(new)
        return new

    yield make
    for device in made:
        device.__exit__()
