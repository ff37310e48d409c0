"""What may be done, and which role may do it. Every route, WebSocket message and page names one right."""

from __future__ import annotations

from enum import StrEnum


class Right(StrEnum):
    DEVICES_READ = "devices:read"
    DEVICES_WRITE = "devices:write"
    GROUPS_WRITE = "groups:write"
    TELEMETRY_READ = "telemetry:read"
    COMMANDS_WRITE = "commands:write"
    SHADOW_WRITE = "shadow:write"
    LAYERS_WRITE = "layers:write"
    OTA_WRITE = "ota:write"
    ALERTS_WRITE = "alerts:write"
    DEAD_LETTERS = "dead_letters:write"
    METRICS_READ = "metrics:read"
    USERS_WRITE = "users:write"
    KEYS_WRITE = "keys:write"
    HOOKS_WRITE = "hooks:write"
    AUDIT_READ = "audit:read"


_VIEWER = frozenset({Right.DEVICES_READ, Right.TELEMETRY_READ, Right.METRICS_READ})
_OPERATOR = _VIEWER | {Right.COMMANDS_WRITE, Right.ALERTS_WRITE}
_ENGINEER = _OPERATOR | {
    Right.DEVICES_WRITE,
    Right.GROUPS_WRITE,
    Right.SHADOW_WRITE,
    Right.LAYERS_WRITE,
    Right.OTA_WRITE,
    Right.DEAD_LETTERS,
}

RIGHTS_OF: dict[str, frozenset[Right]] = {
    "viewer": _VIEWER,
    "operator": _OPERATOR,
    "engineer": _ENGINEER,
    "admin": frozenset(Right),
}

# Rights that reach beyond any one device: somebody who is limited to some devices does not have them.
WHOLE_FLEET = frozenset(
    {
        Right.GROUPS_WRITE,
        Right.LAYERS_WRITE,
        Right.OTA_WRITE,
        Right.DEAD_LETTERS,
        Right.METRICS_READ,
        Right.USERS_WRITE,
        Right.KEYS_WRITE,
        Right.HOOKS_WRITE,
        Right.AUDIT_READ,
    }
)
