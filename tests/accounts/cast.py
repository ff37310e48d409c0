"""Who asks in the tests of access: a person of each role, some of them limited, and a key of each scope."""

from __future__ import annotations

import secrets
from typing import NamedTuple

import httpx

from tests.accounts.routes import Route
from tests.server import PASSWORD, Client, RunningServer

VIEWER = {"devices:read", "telemetry:read", "metrics:read"}
OPERATOR = VIEWER | {"commands:write", "alerts:write"}
ENGINEER = OPERATOR | {
    "devices:write",
    "groups:write",
    "layers:write",
    "shadow:write",
    "ota:write",
    "dead_letters:write",
}
ADMIN = ENGINEER | {"users:write", "keys:write", "hooks:write", "audit:read"}
ROLES = {"viewer": VIEWER, "operator": OPERATOR, "engineer": ENGINEER, "admin": ADMIN}

# Rights over more than any one device, which somebody with limits never has.
FLEET_WIDE = {
    "groups:write",
    "layers:write",
    "ota:write",
    "dead_letters:write",
    "metrics:read",
    "users:write",
    "keys:write",
    "hooks:write",
    "audit:read",
}

# What a limited credential is refused although it has the right: enrolment lets in devices that are in nobody's reach.
NOT_FOR_LIMITED = ("/api/v1/enrolment", "/enrolment")

PEOPLE = [*ROLES, "engineer of a tag", "admin of a group"]
KEYS = [*(f"key {right}" for right in sorted(ADMIN)), "key for red"]


class Somebody(NamedTuple):
    """Who asks: `rights` are those that hold, `limited` to the red devices."""

    name: str
    rights: frozenset[str]
    limited: bool
    client: Client
    session: str | None = None

    def may(self, route: Route) -> bool:
        if self.limited and route.template.startswith(NOT_FOR_LIMITED):
            return False
        return route.right is None or route.right.value in self.rights


class Cast:
    """Makes those who ask, each at first use."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self._made: dict[str, Somebody] = {}
        self.red = server.admin.made("/groups", {"name": "reds", "kind": "query", "query": "tag:red"})["group_id"]

    def get(self, name: str) -> Somebody:
        if name not in self._made:
            kind, _, rest = name.partition(" ")
            self._made[name] = self._key(name, rest) if kind == "key" else self._person(name, kind, rest)
        return self._made[name]

    def _person(self, name: str, role: str, limit: str) -> Somebody:
        """`engineer`, `engineer of a tag`, `admin of a group`."""
        email = f"{role}-{secrets.token_hex(4)}@matrix.example"
        limits = {"": {}, "of a tag": {"only_tags": ["red"]}, "of a group": {"only_groups": [self.red]}}[limit]
        self.server.admin.made("/users", {"email": email, "password": PASSWORD, "role": role, **limits})
        page = httpx.post(f"{self.server.url}/sign-in", data={"email": email, "password": PASSWORD})
        rights = frozenset(ROLES[role] - (FLEET_WIDE if limits else set()))
        session = page.cookies["rosfit_session"]
        return Somebody(name, rights, bool(limits), self.server.signed_in(email), session)

    def _key(self, name: str, scope: str) -> Somebody:
        """`key devices:read`, or `key for red` with every scope."""
        limited = scope == "for red"
        scopes, limits = (sorted(ADMIN), {"only_tags": ["red"]}) if limited else ([scope], {})
        made = self.server.admin.made("/api-keys", {"name": "matrix", "scopes": scopes, **limits})
        rights = frozenset(set(scopes) - (FLEET_WIDE if limited else set()))
        return Somebody(name, rights, limited, Client(self.server.url, made["secret"]))
