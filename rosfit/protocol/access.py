"""Which rows of the contract a device may write and read: one table for every broker that enforces it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rosfit.protocol.topics import device_topic

Scope = Literal["publish", "subscribe"]
ALL_SCOPES: tuple[Scope, ...] = ("publish", "subscribe")

# (`write` or `read`, topic pattern of another layout with `%u` where the device id stands)
AccessPattern = tuple[Literal["read", "write"], str]

_SHADOW_ANSWERS = ("desired", "delta", "get/accepted", "get/rejected", "reported/accepted", "reported/rejected")

DEVICE_TO_CLOUD = (
    "status",
    "telemetry",
    "telemetry/#",
    "ros/#",
    "blob/#",
    "shadow/reported",
    "shadow/get",
    "shadow/name/+/reported",
    "shadow/name/+/get",
    "ota/progress",
    "ota/result",
    "log",
    "alert/#",
    "cmd/response",
    "command/response",
)
CLOUD_TO_DEVICE = (
    "cmd/#",
    "command",
    "ota",
    "ota/trigger",
    "ros/inject/#",
    *(f"shadow/{answer}" for answer in _SHADOW_ANSWERS),
    *(f"shadow/name/+/{answer}" for answer in _SHADOW_ANSWERS),
)
# Rows of one direction that lie inside a wider row of the other.
READ_ONLY = "ros/inject/#"
WRITE_ONLY = "cmd/response"

# Client ids of the server's own sessions; no device may take one of them.
SERVER_CLIENT_IDS = "rosfit-"


def may_publish(device_id: str, topic: str, layouts: Sequence[AccessPattern] = ()) -> bool:
    """Whether the device may publish on `topic`: one without wildcards."""
    if not topic or set(topic) & set("+#"):
        return False
    if _covers(device_topic(device_id, READ_ONLY), topic):
        return False
    rows = [device_topic(device_id, row) for row in DEVICE_TO_CLOUD] + _own(device_id, "write", layouts)
    return any(_covers(row, topic) for row in rows)


def may_subscribe(device_id: str, wanted: str, layouts: Sequence[AccessPattern] = ()) -> bool:
    """Whether the device may subscribe to the filter `wanted`.

    It may name everything below its own topics, as the contract says, or any filter that can match a row for it;
    none that could match another device's topic.
    """
    if wanted.startswith("$share/"):
        wanted = wanted.split("/", 2)[2] if wanted.count("/") >= 2 else ""
    if _covers(device_topic(device_id, WRITE_ONLY), wanted):
        return False
    if _covers(device_topic(device_id, "#"), wanted):
        return any(_overlap(device_topic(device_id, row), wanted) for row in CLOUD_TO_DEVICE)
    return any(_covers(row, wanted) for row in _own(device_id, "read", layouts))


def may_take_client_id(device_id: str, client_id: str) -> bool:
    """Whether a device's client id is not one of the server's. That it names no other device is for the registry."""
    return client_id == device_id or not client_id.startswith(SERVER_CLIENT_IDS)


def _own(device_id: str, access: str, layouts: Sequence[AccessPattern]) -> list[str]:
    return [pattern.replace("%u", device_id) for kind, pattern in layouts if kind == access]


def _covers(wide: str, narrow: str) -> bool:
    """Whether every topic that `narrow` matches is matched by `wide`; either may be a filter."""
    wide_parts, narrow_parts = wide.split("/"), narrow.split("/")
    for index, part in enumerate(wide_parts):
        if part == "#":
            return True
        if index >= len(narrow_parts) or narrow_parts[index] == "#":
            return False
        if part not in {"+", narrow_parts[index]}:
            return False
    return len(wide_parts) == len(narrow_parts)


def _overlap(one: str, other: str) -> bool:
    """Whether some topic is matched by both filters."""
    left, right = one.split("/"), other.split("/")
    for mine, theirs in zip(left, right, strict=False):
        if "#" in {mine, theirs}:
            return True
        if mine != theirs and "+" not in {mine, theirs}:
            return False
    longer = left[len(right) :] or right[len(left) :]
    return not longer or longer == ["#"]
