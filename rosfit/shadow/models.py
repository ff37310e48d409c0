"""A shadow as it is stored and told, and what changes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from rosfit.kernel.clock import WireTime

DEFAULT_NAME = "default"

ShadowName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$(?!\n)")]
Section = Literal["desired", "reported"]


class Stored(msgspec.Struct, frozen=True):
    """The row. Sections are None where there is none.

    `desired` is what layers and the device's `own` values make together. `sync_s`: how long it last took from a change
    of desired until the device had it. `at`: the database's time when this was read.
    """

    at: WireTime
    version: int = 0
    desired: dict[str, Any] | None = None
    reported: dict[str, Any] | None = None
    own: dict[str, Any] | None = None
    desired_metadata: dict[str, Any] = {}
    reported_metadata: dict[str, Any] = {}
    own_metadata: dict[str, Any] = {}
    last_seq: int | None = None
    updated_at: WireTime = ""
    pending_since: WireTime | None = None
    sync_s: float | None = None


class Shadow(msgspec.Struct, frozen=True):
    """`state` has `desired`, `reported` and `delta` where there are any. `sync_s` is of the last change to arrive."""

    device_id: str
    name: str
    version: int
    timestamp: WireTime
    state: dict[str, Any]
    metadata: dict[str, Any]
    pending_since: WireTime | None = None
    sync_s: float | None = None


class Change(msgspec.Struct, frozen=True):
    """A change of desired: a merge patch, or with `replace` the whole section; None removes it."""

    patch: Any
    replace: bool = False
    version: int | None = None
    reason: str | None = None


class Report(msgspec.Struct, frozen=True):
    """What a device says on `shadow/reported`."""

    state: Any
    client_token: str | None = None
    version: int | None = None
    seq: int | None = None


class Written(msgspec.Struct, frozen=True):
    """A new version of a shadow: which section it changed, and whether the device is to hear of it."""

    device_id: str
    name: str
    stored: Stored
    section: Section
    author: str
    reason: str | None = None

    @property
    def told(self) -> bool:
        return self.section == "desired"


class Version(msgspec.Struct, frozen=True):
    """One version in the history: who changed which section, and both sections after it."""

    version: int
    at: WireTime
    author: str
    reason: str | None
    section: str
    desired: Any
    reported: Any


class Drift(msgspec.Struct, frozen=True):
    """All shadows of a device at a glance: since when any of them is pending, and what there is.

    `sync_s` is of the slowest of them.
    """

    device_id: str
    pending_since: WireTime | None
    sync_s: float | None
    desired: bool
    reported: bool

    @property
    def state(self) -> Literal["none", "never", "pending", "in_sync"]:
        if not self.desired:
            return "none"
        if self.pending_since is None:
            return "in_sync"
        return "pending" if self.reported else "never"


class Due(msgspec.Struct, frozen=True):
    """What a device has not been told yet."""

    device_id: str
    name: str
    version: int
    desired: dict[str, Any] | None
    reported: dict[str, Any] | None
    desired_metadata: dict[str, Any]
    desired_due: bool
    delta_due: bool
    connected: bool
    # Registered and silent so far: it may listen all the same.
    unheard: bool
