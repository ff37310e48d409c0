"""The command that connects a robot, and the list that follows it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rosfit.dashboard.connecting import BrokerAddress, broker_address, checklist, connect_command
from rosfit.fleet.models import Device
from rosfit.settings import Settings
from rosfit_bridge.config import parse

HERE = BrokerAddress("10.0.0.5", 1883, "tcp", False, False)


def device(**changes: object) -> Device:
    values = {
        "device_id": "bot-01", "name": "bot-01", "type": "ros2_robot", "status": "provisioning", "status_reason": None,
        "status_since": "2026-03-30T10:00:00.000Z", "tags": [], "groups": [], "metadata": {}, "firmware": None,
        "battery": None, "created_at": "2026-03-30T10:00:00.000Z", "last_seen": None,
    }  # fmt: skip
    return Device(**(values | changes))


def bridge_yaml(command: str) -> str:
    match = re.fullmatch(r"cat > rosfit-bridge.yaml <<'EOF'\n(.*)EOF\nros2 run (.*)", command, re.DOTALL)
    assert match
    assert match[2] == "rosfit_bridge bridge --config rosfit-bridge.yaml"
    return match[1]


@pytest.mark.parametrize("device_id", ["bot-01", "1e3", "no", "0x10"])
def test_the_bridge_reads_the_configuration_of_the_command(device_id: str, tmp_path: Path) -> None:
    """Also ids that YAML takes for numbers or truth values arrive as they are."""
    command = connect_command("ros2_robot", device_id, "rfd_secret", HERE)
    config = parse(bridge_yaml(command), file="rosfit-bridge.yaml", folder=tmp_path, env={})
    assert config.rosfit.device_id == device_id
    assert (config.connection.host, config.connection.effective_port) == ("10.0.0.5", 1883)
    assert config.connection.auth is not None
    assert config.connection.auth.token == "rfd_secret"
    assert "telemetry/odom" in {entry.mqtt_suffix for entry in config.bridge.publish}


def test_the_bridge_reads_a_websocket_with_tls(tmp_path: Path) -> None:
    address = BrokerAddress("broker.example.org", 443, "websocket", True, False)
    config = parse(bridge_yaml(connect_command("ros2_robot", "a", "t", address)), file="f", folder=tmp_path, env={})
    assert config.connection.address == "wss://broker.example.org:443"


def test_other_devices_get_one_line_that_a_shell_splits_rightly() -> None:
    words = shlex.split(connect_command("mqtt_device", "t-1", "rfd_x", HERE))
    assert words[0] == "mosquitto_pub"
    assert words[words.index("-t") + 1] == "rosfit/t-1/telemetry"
    assert words[words.index("-m") + 1] == '{"temperature": 21.5, "battery": 87}'


@pytest.mark.parametrize(
    ("settings", "seen_as", "host", "port", "tls", "local"),
    [
        ({}, "127.0.0.1", "127.0.0.1", 1883, False, True),
        ({}, "fleet.lan", "fleet.lan", 1883, False, False),
        ({"public_url": "https://fleet.example.org/x"}, "localhost", "fleet.example.org", 1883, False, False),
        ({"mqtt_url": "mqtts://u:p@broker.example.org"}, "localhost", "broker.example.org", 8883, True, False),
        ({"mqtt_url": "mqtt://10.1.1.1:1999"}, "localhost", "10.1.1.1", 1999, False, False),
    ],
)
def test_the_address_is_one_that_robots_can_use(
    settings: dict[str, str], seen_as: str, host: str, port: int, tls: bool, local: bool
) -> None:
    """An outside broker's own, else the host under which people reach RosFit."""
    address = broker_address(Settings(**settings), seen_as)
    assert (address.host, address.port, address.tls, address.local_only) == (host, port, tls, local)


def states(**given: object) -> list[str]:
    values = {"device": device(), "has_sample": False, "waited_s": 0.0} | given
    found = checklist(values["device"], values["has_sample"], HERE, values["waited_s"])
    return [step.state for step in found.steps]


def test_the_checklist_names_the_step_that_fails() -> None:
    """Waiting turns into a failure with hints after half a minute, one step at a time."""
    connected = device(status="online", last_seen="2026-03-30T10:00:01.000Z")
    assert states() == ["done", "waiting", "pending"]
    assert states(waited_s=31.0) == ["done", "failed", "pending"]
    assert states(device=connected) == ["done", "done", "waiting"]
    assert states(device=connected, waited_s=31.0) == ["done", "done", "failed"]
    assert states(device=connected, has_sample=True, waited_s=31.0) == ["done", "done", "done"]


def test_hints_say_what_to_check() -> None:
    failed = checklist(device(), False, HERE, 31.0).steps[1]
    assert any("nc -vz 10.0.0.5 1883" in hint for hint in failed.hints)
    assert checklist(device(), False, HERE, 0.0).steps[1].hints == ()
