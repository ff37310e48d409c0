"""What a device is, and what callers send to register, change and find one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from rosfit.kernel.clock import WireTime
from rosfit.protocol.access import Scope

DeviceType = Literal["ros2_robot", "micro_ros_mcu", "mqtt_device", "gateway", "simulator"]
Status = Literal["provisioning", "online", "offline", "error", "maintenance", "decommissioned"]

DEVICE_TYPES: tuple[DeviceType, ...] = DeviceType.__args__  # type: ignore[attr-defined]
STATUSES: tuple[Status, ...] = Status.__args__  # type: ignore[attr-defined]

# In Python `$` also stands before a line's end, hence the look-ahead.
DeviceId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$(?!\n)")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Tag = Annotated[str, msgspec.Meta(pattern=r"^[^\s,\x00-\x1f]{1,64}$(?!\n)")]
Tags = Annotated[list[Tag], msgspec.Meta(max_length=64)]


class Firmware(msgspec.Struct, frozen=True):
    name: str
    version: str


class Device(msgspec.Struct, frozen=True):
    """`battery` is a percentage (0 to 100); `last_seen` is null until the first message."""

    device_id: str
    name: str
    type: DeviceType
    status: Status
    status_reason: str | None
    status_since: WireTime
    tags: list[str]
    groups: list[str]
    metadata: dict[str, Any]
    firmware: Firmware | None
    battery: float | None
    created_at: WireTime
    last_seen: WireTime | None


class NewDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`device_id` is made up when it is missing; `name` is the id when it is missing."""

    type: DeviceType = "ros2_robot"
    device_id: DeviceId | None = None
    name: Name | None = None
    tags: Tags = []
    metadata: dict[str, Any] = {}


class DeviceChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is missing stays as it is. `metadata` replaces the whole object."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    type: DeviceType | msgspec.UnsetType = msgspec.UNSET
    status: Status | msgspec.UnsetType = msgspec.UNSET
    tags: Tags | msgspec.UnsetType = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class DeviceFilter(msgspec.Struct, frozen=True):
    """An empty field does not filter; `q` is a query (see `fleet.query`), `group` an id or a name."""

    status: tuple[str, ...] = ()
    type: str | None = None
    tag: str | None = None
    q: str | None = None
    group: str | None = None


class Reach(msgspec.Struct, frozen=True):
    """Which devices somebody may see: all, or those in any of the groups (ids) or with any of the tags."""

    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def is_everything(self) -> bool:
        return not self.groups and not self.tags


EVERYWHERE = Reach()


class Group(msgspec.Struct, frozen=True):
    """`count` is how many devices a static list holds; null for a saved query."""

    group_id: str
    name: str
    kind: Literal["static", "query"]
    query: str | None
    count: int | None
    created_at: WireTime


class StatusChange(msgspec.Struct, frozen=True):
    """One transition of a device's status, as the feed and the history tell it."""

    device_id: str
    previous_status: str
    status: str
    reason: str | None
    last_seen: WireTime | None


class Vitals(msgspec.Struct, frozen=True):
    """What the newest messages of a device say: `last_seen` as Unix seconds, battery in percent."""

    last_seen: float
    battery: float | None = None
    pose: dict[str, float] | None = None


CredentialKind = Literal["password", "jwt"]


class Credential(msgspec.Struct, frozen=True):
    """An MQTT credential as it is given out once; only a hash of the token is kept."""

    device_id: str
    username: str
    token: str
    scopes: list[str]
    expires_at: WireTime | None
    id: str = ""
    kind: CredentialKind = "password"


class CredentialInfo(msgspec.Struct, frozen=True):
    """A credential as lists show it."""

    id: str
    device_id: str
    username: str
    kind: CredentialKind
    scopes: list[str]
    created_at: WireTime
    expires_at: WireTime | None
    revoked_at: WireTime | None


class LiveCredential(msgspec.Struct, frozen=True):
    """A credential that is neither revoked nor run out, as brokers need it."""

    id: str
    device_id: str
    username: str
    kind: CredentialKind
    broker_hash: str
    scopes: list[Scope]

    def answers_to(self, username: str) -> bool:
        """By its own user name; a JWT by the device's id, too, since it says itself which one it is."""
        return username == self.username or (self.kind == "jwt" and username == self.device_id)


class Certificate(msgspec.Struct, frozen=True):
    """A certificate of a device; `serial` is hexadecimal, `fingerprint` the SHA-256 of its DER form."""

    serial: str
    device_id: str
    fingerprint: str
    created_at: WireTime
    expires_at: WireTime
    revoked_at: WireTime | None


class Revoked(msgspec.Struct, frozen=True):
    """A certificate that was revoked before it ran out; `serial` is hexadecimal."""

    serial: str
    device_id: str
    revoked_at: datetime


class Admitted(msgspec.Struct, frozen=True):
    """Who may connect to a broker: live credentials and devices with a certificate; and what is revoked."""

    credentials: list[LiveCredential]
    certified: frozenset[str] = frozenset()
    revoked: list[Revoked] = []

