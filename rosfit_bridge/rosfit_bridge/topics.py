"""MQTT topics of one device. No other module writes a topic."""

from __future__ import annotations

from dataclasses import dataclass

MAX_STREAM_SEGMENTS = 8
# As the server takes them.
MAX_SUFFIX_LENGTH = 512
HEARTBEAT_SUFFIX = "telemetry/status"
LOG_SUFFIX = "log"
STATUS_SUFFIX = "status"
COMMAND_REQUEST_SUFFIX = "cmd/request"
COMMAND_RESPONSE_SUFFIX = "cmd/response"
OTA_TRIGGER_SUFFIX = "ota/trigger"
OTA_PROGRESS_SUFFIX = "ota/progress"
OTA_RESULT_SUFFIX = "ota/result"
PARAMETERS_SUFFIX = "telemetry/parameters"

_UP_HEADS = {"telemetry": (1, None), "ros": (2, None), "blob": (2, 2), "alert": (2, 2)}
_DOWN_HEADS = {"cmd": (2, 2), "ros": (3, None)}
_RESERVED_DOWN = {COMMAND_REQUEST_SUFFIX, COMMAND_RESPONSE_SUFFIX}


def shadow_suffix(name: str, what: str) -> str:
    """`what` is `delta`, `reported`, `get/accepted` and the like; named shadows have rows of their own."""
    return f"shadow/{what}" if name == "default" else f"shadow/name/{name}/{what}"


@dataclass(frozen=True)
class DeviceTopics:
    device_id: str

    def of(self, suffix: str) -> str:
        return f"rosfit/{self.device_id}/{suffix}"

    @property
    def status(self) -> str:
        return self.of(STATUS_SUFFIX)


def message_type(suffix: str) -> str:
    """The envelope's `type`: `telemetry`, `log`, `alert`, `status`, … (a raw ROS topic is telemetry too)."""
    head = suffix.split("/", 1)[0]
    return {"ros": "telemetry", "cmd": "command"}.get(head, head)


def is_blob(suffix: str) -> bool:
    return suffix.startswith("blob/")


def problem_of_up_suffix(suffix: str) -> str | None:
    """Why the bridge may not publish on this suffix; None when it may."""
    expected = "expected telemetry/…, ros/…, blob/{name} or alert/{name}"
    if suffix == HEARTBEAT_SUFFIX:
        return "telemetry/status is the bridge's own heartbeat; choose another stream"
    return _problem(suffix, _UP_HEADS, expected)


def problem_of_down_suffix(suffix: str) -> str | None:
    """Why the bridge may not take messages for a ROS topic from this suffix; None when it may."""
    if suffix in _RESERVED_DOWN:
        return f"{suffix} carries commands; use bridge.services or bridge.actions"
    expected = "expected cmd/{name} or ros/inject/…"
    if suffix.startswith("ros/") and not suffix.startswith("ros/inject/"):
        return f"{expected}; got {suffix!r}"
    return _problem(suffix, _DOWN_HEADS, expected)


def _problem(suffix: str, heads: dict[str, tuple[int, int | None]], expected: str) -> str | None:
    parts = suffix.split("/")
    if any(c in suffix for c in "+#$") or "" in parts:
        return f"{expected}, without +, #, $ and empty parts; got {suffix!r}"
    if not suffix.isprintable() or len(suffix) > MAX_SUFFIX_LENGTH:
        return f"at most {MAX_SUFFIX_LENGTH} characters that can be printed; got {suffix[:100]!r}"
    least, most = heads.get(parts[0], (0, 0))
    if len(parts) < least or (most is not None and len(parts) > most):
        return f"{expected}; got {suffix!r}"
    stream = parts if parts[0] == "ros" else parts[1:]
    if len(stream) > MAX_STREAM_SEGMENTS:
        return f"a stream has at most {MAX_STREAM_SEGMENTS} parts; {suffix!r} has {len(stream)}"
    return None
