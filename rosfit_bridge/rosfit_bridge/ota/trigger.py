"""`ota/trigger`, read once into a value that can be written down."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from rosfit_bridge.down.request import seconds_of

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


class BadTriggerError(Exception):
    """The message says which field is wrong. `deployment_id` is known where an answer can be given."""

    def __init__(self, message: str, deployment_id: str | None = None) -> None:
        super().__init__(message)
        self.deployment_id = deployment_id


@dataclass(frozen=True)
class Artifact:
    """`size` in bytes, `sha256` in lower-case hex, `signature` in base64."""

    artifact_id: str
    name: str
    version: str
    url: str
    size: int
    sha256: str
    signature: str | None = None
    key_id: str | None = None
    device_types: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trigger:
    """`deadline` in seconds of Unix time; None for none."""

    deployment_id: str
    artifact: Artifact
    deadline: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Trigger:
        artifact = Artifact(**{**data["artifact"], "device_types": tuple(data["artifact"]["device_types"])})
        return cls(data["deployment_id"], artifact, data["deadline"])


def read(payload: bytes) -> Trigger:
    """From an envelope or a bare object. Raises BadTriggerError."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadTriggerError(f"not JSON: {error}") from error
    if isinstance(message, dict) and isinstance(message.get("payload"), dict):
        message = message["payload"]
    if not isinstance(message, dict):
        raise BadTriggerError("not an object")
    deployment_id = message.get("deployment_id")
    if not isinstance(deployment_id, str) or not _ID.fullmatch(deployment_id):
        raise BadTriggerError("deployment_id: expected an id")
    try:
        deadline = message.get("deadline")
        at = None if deadline is None else seconds_of(deadline, "deadline")
        return Trigger(deployment_id, _artifact(message.get("artifact")), at)
    except ValueError as error:
        raise BadTriggerError(str(error), deployment_id) from error


def _artifact(data: Any) -> Artifact:
    if not isinstance(data, dict):
        raise ValueError("artifact: expected an object")
    texts = {name: _text(data, name) for name in ("artifact_id", "name", "version", "url", "sha256")}
    if not _ID.fullmatch(texts["artifact_id"]):
        raise ValueError("artifact.artifact_id: expected an id")
    texts["sha256"] = texts["sha256"].lower()
    if not _SHA256.fullmatch(texts["sha256"]):
        raise ValueError("artifact.sha256: expected 64 hex digits")
    size = data.get("size")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63:
        raise ValueError("artifact.size: expected a number of bytes")
    optional = {name: _text(data, name) for name in ("signature", "key_id") if data.get(name) is not None}
    types = data.get("device_types") or []
    if not isinstance(types, list) or not all(isinstance(one, str) for one in types):
        raise ValueError("artifact.device_types: expected a list of texts")
    return Artifact(**texts, **optional, size=size, device_types=tuple(types))


def _text(data: dict[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"artifact.{name}: expected text that can be printed")
    return value
