"""Users and tokens as they go over the wire, and who is behind a request."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from rosfit.accounts.rights import RIGHTS_OF, WHOLE_FLEET, Right
from rosfit.fleet.models import EVERYWHERE, Reach, Tags
from rosfit.kernel.clock import WireTime

Role = Literal["viewer", "operator", "engineer", "admin"]
ROLES: tuple[Role, ...] = Role.__args__  # type: ignore[attr-defined]

Email = Annotated[str, msgspec.Meta(pattern=r"^[^@\s\x00]+@[^@\s\x00]+$(?!\n)", max_length=254)]
Password = Annotated[str, msgspec.Meta(min_length=8, max_length=1024)]
KeyName = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
PersonName = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\x00]*$")]


class User(msgspec.Struct, frozen=True):
    """With `only_groups` (ids) or `only_tags` the role holds for those devices alone."""

    id: str
    email: str
    name: str
    role: Role
    created_at: WireTime
    only_groups: list[str] = []
    only_tags: list[str] = []
    disabled: bool = False


class UserChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is missing stays as it is."""

    name: PersonName | msgspec.UnsetType = msgspec.UNSET
    role: Role | msgspec.UnsetType = msgspec.UNSET
    password: Password | msgspec.UnsetType = msgspec.UNSET
    only_groups: list[str] | msgspec.UnsetType = msgspec.UNSET
    only_tags: Tags | msgspec.UnsetType = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET


class NewUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`setup_token` is needed for the first user only, who becomes admin."""

    email: Email
    password: Password
    name: PersonName = ""
    role: Role = "viewer"
    only_groups: list[str] = []
    only_tags: Tags = []
    setup_token: str | None = None


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    email: str
    password: str


class Refresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    refresh_token: str


class Logout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Without `refresh_token` the access token that is sent says whose session ends."""

    refresh_token: str | None = None


class Tokens(msgspec.Struct, frozen=True):
    """`expires_in` is the life of the access token in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - RFC 6749's word, not a secret


class Actor(msgspec.Struct, frozen=True):
    """Who asks: a user or an API key (`role` is `key`).

    `expires_at` is the Unix time when the credential runs out; `scopes` are a key's rights, None for a user's role;
    `family` is that of the refresh tokens which the access token came with.
    """

    id: str
    role: str
    email: str = ""
    name: str = ""
    expires_at: float | None = None
    reach: Reach = EVERYWHERE
    scopes: frozenset[Right] | None = None
    family: str | None = None

    def may(self, right: Right) -> bool:
        rights = self.scopes if self.scopes is not None else RIGHTS_OF.get(self.role, frozenset())
        return right in rights and (self.reach.is_everything or right not in WHOLE_FLEET)


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`scopes` are rights; with `only_groups` or `only_tags` they hold for those devices alone."""

    name: KeyName
    scopes: Annotated[list[Right], msgspec.Meta(min_length=1)]
    expires_at: datetime | None = None
    only_groups: list[str] = []
    only_tags: Tags = []


class Key(msgspec.Struct, frozen=True):
    id: str
    name: str
    scopes: list[str]
    only_groups: list[str]
    only_tags: list[str]
    created_by: str | None
    created_at: WireTime
    expires_at: WireTime | None
    last_used_at: WireTime | None


class KeyWithSecret(msgspec.Struct, frozen=True):
    """`secret` is the Bearer token, shown this once."""

    id: str
    name: str
    scopes: list[str]
    secret: str
    only_groups: list[str]
    only_tags: list[str]
    expires_at: WireTime | None


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
