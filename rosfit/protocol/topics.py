"""MQTT topics of the contract: parsed once into `Route`, built by the functions at the end."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache

import msgspec

from rosfit.kernel.ids import is_device_id
from rosfit.protocol.errors import BadMessageError

NAMESPACE = "rosfit"
DEFAULT_STREAM = "default"

# Types of devices that take commands on `command` and updates on `ota`.
SHORT_FORM = frozenset({"mqtt_device", "micro_ros_mcu"})

# A stream is at most this long as text, so that an index entry always fits a database page.
STREAM_LENGTH_LIMIT = 512


class Kind(StrEnum):
    """Device to cloud rows; `OUTBOUND` stands for every cloud to device row."""

    STATUS = "status"
    SAMPLE = "telemetry"
    BLOB = "blob"
    COMMAND_RESPONSE = "cmd/response"
    SHADOW_REPORTED = "shadow/reported"
    SHADOW_GET = "shadow/get"
    OTA_PROGRESS = "ota/progress"
    OTA_RESULT = "ota/result"
    LOG = "log"
    ALERT = "alert"
    OUTBOUND = "outbound"


class Route(msgspec.Struct, frozen=True, gc=False):
    """Where a message belongs. `name` is the stream of a sample, or the name of a blob, alert or named shadow."""

    device_id: str
    kind: Kind
    name: str = ""


_EXACT = {
    "status": Kind.STATUS,
    "cmd/response": Kind.COMMAND_RESPONSE,
    "command/response": Kind.COMMAND_RESPONSE,
    "shadow/reported": Kind.SHADOW_REPORTED,
    "shadow/get": Kind.SHADOW_GET,
    "ota/progress": Kind.OTA_PROGRESS,
    "ota/result": Kind.OTA_RESULT,
    "log": Kind.LOG,
    "command": Kind.OUTBOUND,
    "ota": Kind.OUTBOUND,
    "ota/trigger": Kind.OUTBOUND,
    "shadow/desired": Kind.OUTBOUND,
    "shadow/delta": Kind.OUTBOUND,
    "shadow/get/accepted": Kind.OUTBOUND,
    "shadow/get/rejected": Kind.OUTBOUND,
    "shadow/reported/accepted": Kind.OUTBOUND,
    "shadow/reported/rejected": Kind.OUTBOUND,
}


# `shadow/name/{name}/…` for named shadows: the same rows as the unnamed one.
_NAMED_SHADOW = re.compile(
    r"name/([A-Za-z0-9][A-Za-z0-9_-]{0,63})/"
    r"(reported|get|desired|delta|(?:get|reported)/(?:accepted|rejected))"
)
_SHADOW_KINDS = {"reported": Kind.SHADOW_REPORTED, "get": Kind.SHADOW_GET}


@lru_cache(maxsize=65_536)
def parse_topic(topic: str, segments_limit: int = 8) -> Route:
    """The route of `rosfit/{device_id}/…`. Raises BadMessageError `bad_topic`."""
    namespace, _, rest = topic.partition("/")
    device_id, _, row = rest.partition("/")
    if namespace != NAMESPACE or not is_device_id(device_id):
        raise BadMessageError("bad_topic", f"{topic[:200]!r} is not rosfit/{{device_id}}/…")
    if kind := _EXACT.get(row):
        return Route(device_id, kind)
    if row == "telemetry":
        return Route(device_id, Kind.SAMPLE, DEFAULT_STREAM)
    head, _, tail = row.partition("/")
    return _parse_named(topic, device_id, head, tail, segments_limit)


def _parse_named(topic: str, device_id: str, head: str, tail: str, segments_limit: int) -> Route:
    match head:
        case "telemetry":
            return Route(device_id, Kind.SAMPLE, _checked(topic, tail, segments_limit))
        case "shadow" if named := _NAMED_SHADOW.fullmatch(tail):
            return Route(device_id, _SHADOW_KINDS.get(named[2], Kind.OUTBOUND), named[1])
        case "ros" if tail.startswith("inject/"):
            return Route(device_id, Kind.OUTBOUND)
        case "ros" if tail:
            return Route(device_id, Kind.SAMPLE, _checked(topic, f"ros/{tail}", segments_limit))
        case "blob" if tail:
            return Route(device_id, Kind.BLOB, _checked(topic, tail, 1))
        case "alert" if tail:
            return Route(device_id, Kind.ALERT, _checked(topic, tail, 1))
        case "cmd" if tail and "/" not in tail:
            return Route(device_id, Kind.OUTBOUND)
    raise BadMessageError("bad_topic", f"{topic[:200]!r} is no row of the contract")


def _checked(topic: str, name: str, segments_limit: int) -> str:
    segments = name.split("/")
    if len(segments) > segments_limit:
        raise BadMessageError(
            "bad_topic", f"{topic[:200]!r} has {len(segments)} segments in its name; at most {segments_limit}"
        )
    if len(name) > STREAM_LENGTH_LIMIT or not all(segments) or not name.isprintable():
        raise BadMessageError("bad_topic", f"{topic[:200]!r} has an empty, overlong or unprintable segment")
    return name


def device_topic(device_id: str, row: str) -> str:
    """`rosfit/{device_id}/{row}`."""
    return f"{NAMESPACE}/{device_id}/{row}"


def sample_topic(device_id: str, stream: str) -> str:
    """The topic on which samples of `stream` are published."""
    if stream == DEFAULT_STREAM:
        return device_topic(device_id, "telemetry")
    return device_topic(device_id, stream if stream.startswith("ros/") else f"telemetry/{stream}")


def stream_suffix(stream: str) -> str:
    """What a stream is called below `rosfit/{device_id}/`, as WebSocket clients name it in `topics`."""
    return sample_topic("", stream).split("/", 2)[2]


# Everything a device may say. One wildcard, so that what nobody expects becomes a dead letter and not silence.
INGEST_FILTER = f"{NAMESPACE}/+/#"
