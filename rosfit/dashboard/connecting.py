"""What connects a device: the address robots use, one command to copy, and how far it has come. Pure."""

from __future__ import annotations

import ipaddress
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from rosfit.fleet.models import Device
from rosfit.settings import Settings

# After this long without a sign of life a step counts as failed, and says what to check.
PATIENCE_S = 30.0

_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}


@dataclass(frozen=True)
class BrokerAddress:
    """Where devices connect; `local_only` when no other machine can. `pin` is the SHA-256 of a certificate that
    nobody else vouches for.
    """

    host: str
    port: int
    transport: str
    tls: bool
    local_only: bool
    pin: str | None = None


def broker_address(settings: Settings, request_host: str, pin: str | None = None) -> BrokerAddress:
    """An outside broker's own address, else the embedded one's under the host that people use for RosFit."""
    if settings.mqtt_url:
        parts = urlsplit(settings.mqtt_url)
        transport = "websocket" if parts.scheme in {"ws", "wss"} else "tcp"
        host, tls = parts.hostname or "localhost", parts.scheme in {"mqtts", "wss"}
        return BrokerAddress(host, parts.port or _DEFAULT_PORTS[parts.scheme], transport, tls, _is_loopback(host))
    public = urlsplit(settings.public_url).hostname if settings.public_url else None
    host = public or request_host
    # Beyond this machine the broker listens with TLS only, where there is TLS.
    if settings.tls and not _is_loopback(host):
        return BrokerAddress(host, settings.mqtt_tls_port, "tcp", True, False, pin)
    return BrokerAddress(host, settings.mqtt_port, "tcp", False, _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def connect_command(device_type: str, device_id: str, password: str, address: BrokerAddress) -> str:
    """For a shell on the robot: the bridge with its configuration, or one message of a plain MQTT client."""
    if device_type == "ros2_robot":
        return _bridge_command(device_id, password, address)
    return _publish_command(device_id, password, address)


_BRIDGE = """\
cat > rosfit-bridge.yaml <<'EOF'
rosfit:
  device_id: "{device_id}"
connection:
  host: "{host}"
  port: {port}
  transport: {transport}
  tls: {{{tls}}}
  auth: {{method: token, token: "{password}"}}
bridge:
  publish:
    - {{ros_topic: /odom, mqtt_suffix: telemetry/odom, msg_type: nav_msgs/Odometry, qos: 1, throttle_hz: 10}}
    - {{ros_topic: /battery_state, mqtt_suffix: telemetry/battery_state, msg_type: sensor_msgs/BatteryState, qos: 1, \
throttle_hz: 1}}
    - {{ros_topic: /scan, mqtt_suffix: telemetry/scan, msg_type: sensor_msgs/LaserScan, qos: 0, throttle_hz: 5}}
    - {{ros_topic: /diagnostics, mqtt_suffix: telemetry/diagnostics, msg_type: diagnostic_msgs/DiagnosticArray, qos: 1}}
    - {{ros_topic: /camera/image_raw/compressed, mqtt_suffix: blob/image, msg_type: sensor_msgs/CompressedImage, \
qos: 0, throttle_hz: 5}}
EOF
ros2 run rosfit_bridge bridge --config rosfit-bridge.yaml"""


def _bridge_command(device_id: str, password: str, address: BrokerAddress) -> str:
    # Ids and hosts stand in quotes: 1e3 or no is text only then.
    return _BRIDGE.format(
        device_id=device_id,
        host=address.host,
        port=address.port,
        transport=address.transport,
        tls=f'enabled: true, pin_sha256: "{address.pin}"' if address.pin else f"enabled: {str(address.tls).lower()}",
        password=password,
    )


def _publish_command(device_id: str, password: str, address: BrokerAddress) -> str:
    words = ["mosquitto_pub", "-h", address.host, "-p", str(address.port), *_tls_words(address)]
    words += ["-i", device_id, "-u", device_id, "-P", password, "-q", "1"]
    words += ["-t", f"rosfit/{device_id}/telemetry", "-m", '{"temperature": 21.5, "battery": 87}']
    return " ".join(shlex.quote(word) for word in words)


def _tls_words(address: BrokerAddress) -> list[str]:
    return ["--capath", "/etc/ssl/certs"] if address.tls else []


@dataclass(frozen=True)
class Step:
    """`state` is done, waiting (for this one), pending (for an earlier one) or failed."""

    name: str
    state: str
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checklist:
    steps: tuple[Step, ...]

    @property
    def complete(self) -> bool:
        return all(step.state == "done" for step in self.steps)


def checklist(device: Device, has_sample: bool, address: BrokerAddress, waited_s: float) -> Checklist:
    """How far a new device has come; the first step that is not done says what to check once it takes long."""
    connected = device.last_seen is not None or device.status == "online" or has_sample
    state = "failed" if waited_s >= PATIENCE_S else "waiting"
    steps = (
        Step(f"Registered as {device.device_id}", "done"),
        _step("Connected to the broker", connected, state, _connection_hints(device, address)),
        _step("First telemetry", has_sample, state if connected else "pending", _telemetry_hints(device)),
    )
    return Checklist(steps)


def _step(name: str, done: bool, otherwise: str, hints: tuple[str, ...]) -> Step:
    state = "done" if done else otherwise
    return Step(name, state, hints if state == "failed" else ())


def _connection_hints(device: Device, address: BrokerAddress) -> tuple[str, ...]:
    hints = (
        "The command is still running, and its output shows no error.",
        f"The robot reaches the broker: nc -vz {address.host} {address.port}",
        f"The token was copied whole, and the user name is {device.device_id}.",
    )
    if address.local_only:
        return (*hints, "This address works on this machine only: set ROSFIT_PUBLIC_URL for others.")
    return hints


def _telemetry_hints(device: Device) -> tuple[str, ...]:
    if device.type == "ros2_robot":
        return (
            "The ROS topics exist: ros2 topic list",
            "The list under bridge.publish names them, with their types.",
            "Something is published: ros2 topic hz /odom",
        )
    return (
        f"The device publishes on rosfit/{device.device_id}/telemetry.",
        "The payload is a JSON object; what cannot be read becomes a dead letter.",
    )
