"""What this robot lets itself be updated with. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection
from typing import Any

from rosfit_bridge.config_ota import Ota
from rosfit_bridge.ota.errors import RejectedError
from rosfit_bridge.ota.trigger import Artifact

MB = 1_000_000
_PART = re.compile(r"\d+|[A-Za-z]+")
# 1.0-rc1 comes before 1.0, 1.0.1 after it.
_END, _NUMBER, _WORD = 1, 2, 0


def check(artifact: Artifact, policy: Ota, installed: dict[str, Any] | None, kept: Collection[str]) -> None:
    """Raises RejectedError. `kept` are the hashes of versions this robot has had and still has."""
    if not any(fnmatch.fnmatchcase(artifact.name, pattern) for pattern in policy.names):
        raise RejectedError("NAME_NOT_ALLOWED", f"{artifact.name} is not among ota.names")
    types = artifact.device_types
    if types and policy.device_type is not None and policy.device_type not in types:
        raise RejectedError("WRONG_TYPE", f"it is for {', '.join(types)}; this is a {policy.device_type}")
    if artifact.size > policy.max_mb * MB:
        raise RejectedError("TOO_LARGE", f"{artifact.size} bytes are more than ota.max_mb ({policy.max_mb:g} MB)")
    if policy.require_signature and artifact.signature is None:
        raise RejectedError("NOT_SIGNED", "it is not signed, and ota.require_signature is set")
    if not policy.allow_downgrade and artifact.sha256 not in kept and _older(artifact, installed):
        message = f"{artifact.version} is older than the installed {(installed or {}).get('version')}"
        raise RejectedError("DOWNGRADE", f"{message}; ota.allow_downgrade is not set")


def _older(artifact: Artifact, installed: dict[str, Any] | None) -> bool:
    if installed is None or installed["name"] != artifact.name:
        return False
    return version_key(artifact.version) < version_key(installed["version"])


def version_key(version: str) -> list[tuple[int, int, str]]:
    """Sorts 1.9 before 1.10, and 2.0-rc1 before 2.0. What follows a + does not count."""
    parts = _PART.findall(version.split("+", 1)[0].removeprefix("v"))
    keys = [(_NUMBER, int(part), "") if part.isdigit() else (_WORD, 0, part.lower()) for part in parts]
    return [*keys, (_END, 0, "")]
