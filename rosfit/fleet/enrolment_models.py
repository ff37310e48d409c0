"""Enrolment tokens and enrolments as they go over the wire."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from rosfit.fleet.models import DeviceId, DeviceType, Name, Tags
from rosfit.kernel.clock import WireTime

EnrolmentStatus = Literal["waiting", "approved", "denied", "claimed"]


class NewEnrolmentToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """With `approval` each robot waits until somebody lets it in."""

    name: Name
    device_type: DeviceType = "ros2_robot"
    tags: Tags = []
    ttl_hours: Annotated[float, msgspec.Meta(gt=0, le=8766)] = 24
    max_uses: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1
    approval: bool = False


class EnrolmentToken(msgspec.Struct, frozen=True):
    id: str
    name: str
    device_type: DeviceType
    tags: list[str]
    approval: bool
    max_uses: int
    uses: int
    created_by: str | None
    created_at: WireTime
    expires_at: WireTime


class EnrolmentTokenWithSecret(msgspec.Struct, frozen=True):
    """`token` is what robots send, shown this once."""

    id: str
    name: str
    device_type: DeviceType
    tags: list[str]
    approval: bool
    max_uses: int
    expires_at: WireTime
    token: str


class EnrolmentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`device_id` is made up when it is missing."""

    token: str
    device_id: DeviceId | None = None
    name: Name | None = None


class Waiting(msgspec.Struct, frozen=True):
    """`claim` fetches the answer, once there is one; who holds it gets the credential."""

    enrolment_id: str
    device_id: str
    claim: str
    status: Literal["waiting"] = "waiting"


class Enrolment(msgspec.Struct, frozen=True):
    id: str
    device_id: str
    name: str
    device_type: DeviceType
    status: EnrolmentStatus
    address: str | None
    token_id: str
    token_name: str
    created_at: WireTime
    decided_at: WireTime | None
    decided_by: str | None
