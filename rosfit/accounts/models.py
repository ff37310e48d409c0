"""Users and tokens as they go over the wire, and who is behind a request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from rosfit.accounts.rights import RIGHTS_OF, Right
from rosfit.kernel.clock import WireTime

Role = Literal["viewer", "operator", "engineer", "admin"]
ROLES: tuple[Role, ...] = Role.__args__  # type: ignore[attr-defined]

Email = Annotated[str, msgspec.Meta(pattern=r"^[^@\s\x00]+@[^@\s\x00]+$", max_length=254)]
Password = Annotated[str, msgspec.Meta(min_length=10, max_length=1024)]
PersonName = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\x00]*$")]


class User(msgspec.Struct, frozen=True):
    id: str
    email: str
    name: str
    role: Role
    created_at: WireTime


class NewUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`setup_token` is needed for the first user only, who becomes admin."""

    email: Email
    password: Password
    name: PersonName = ""
    role: Role = "viewer"
    setup_token: str | None = None


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    email: str
    password: str


class Refresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    refresh_token: str


class Tokens(msgspec.Struct, frozen=True):
    """`expires_in` is the life of the access token in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - RFC 6749's word, not a secret


class Actor(msgspec.Struct, frozen=True):
    """Who asks: `id` names a user; `expires_at` is the Unix time when the credential runs out."""

    id: str
    role: str
    email: str = ""
    name: str = ""
    expires_at: float | None = None

    def may(self, right: Right) -> bool:
        return right in RIGHTS_OF.get(self.role, frozenset())


class AuditEntry(msgspec.Struct, frozen=True):
    """One thing somebody did. `result` is `ok`, or the code of the refusal."""

    id: int
    at: WireTime
    actor: str
    action: str
    target: str
    before: Any
    after: Any
    address: str | None
    request_id: str | None
    result: str
