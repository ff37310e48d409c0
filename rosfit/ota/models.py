"""Artifacts, deployments and what devices report, as they are asked for, kept and told."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from rosfit.fleet.models import DeviceType
from rosfit.fleet.targets import Target
from rosfit.kernel.clock import WireTime
from rosfit.ota.lifecycle import DeploymentStatus, DeviceStatus

ArtifactName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.+/-]{0,99}$(?!\n)")]
ArtifactVersion = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+~:-]{0,63}$(?!\n)")]
VersionPattern = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.+~:*?-]{1,64}$(?!\n)")]
OnFailure = Literal["pause", "abort", "rollback"]

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]

# A presigned URL of S3 lives for 7 days at most, and the one in a trigger has to outlive the deadline.
DEADLINE_LIMIT_S = 6 * 86_400


class NewArtifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of an upload. `signature` is base64, with the `key_id` of a trusted key; without it RosFit signs.

    `from_versions` are patterns (`1.4.*`) of the versions it can replace; none means any.
    """

    name: ArtifactName
    version: ArtifactVersion
    device_types: Annotated[list[DeviceType], msgspec.Meta(min_length=1)]
    from_versions: Annotated[list[VersionPattern], msgspec.Meta(max_length=50)] = []
    release_notes: Annotated[str, msgspec.Meta(max_length=20_000, pattern=r"^[^\x00]*$")] = ""
    signature: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    key_id: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class Stored(msgspec.Struct, frozen=True):
    """Bytes that lie in the object store. `sha256` is hexadecimal."""

    object_key: str
    size: int
    sha256: str
    file_name: str


class Artifact(msgspec.Struct, frozen=True):
    """`signature` is the base64 of an Ed25519 signature over the 32 bytes of the SHA-256."""

    artifact_id: str
    name: str
    version: str
    device_types: list[str]
    from_versions: list[str]
    file_name: str
    size: int
    sha256: str
    signature: str
    key_id: str
    release_notes: str
    created_by: str
    created_at: WireTime
    deleted_at: WireTime | None


class UpdateKey(msgspec.Struct, frozen=True):
    """A key that signs updates (`own`), or one of somebody else's that is trusted. `public_key`: base64 of 32 bytes."""

    key_id: str
    name: str
    public_key: str
    own: bool
    signs: bool
    created_by: str
    created_at: WireTime
    retired_at: WireTime | None


class StartWindow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`timezone` is for devices that have none of their own in `metadata.timezone`."""

    cron: Annotated[str, msgspec.Meta(max_length=100)]
    duration_s: Annotated[float, msgspec.Meta(gt=0, le=31 * 86_400)]
    timezone: str = "UTC"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How a deployment proceeds. `min_battery`: a robot whose battery is known and lower (percent) waits."""

    waves: Annotated[list[float], msgspec.Meta(min_length=1, max_length=100)] = msgspec.field(
        default_factory=lambda: [100.0]
    )
    success_threshold: Percent = 100
    failure_threshold: Percent = 10
    min_sample: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    max_in_progress: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100
    rate_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    device_deadline_s: Annotated[float, msgspec.Meta(gt=0, le=DEADLINE_LIMIT_S)] = 3600
    on_failure: OnFailure = "pause"
    requires_approval: bool = False
    window: StartWindow | None = None
    min_battery: Percent = 20


class NewDeployment(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    artifact_id: str
    target: Target


class LeftOut(msgspec.Struct, frozen=True):
    """`reason`: `incompatible`, `maintenance`, `in_another_deployment`, `decommissioned` or `not_found`."""

    device_id: str
    reason: str


class Waiting(msgspec.Struct, frozen=True):
    """`reason`: `offline`, `busy`, `battery` or `window`."""

    device_id: str
    reason: str


class Preview(msgspec.Struct, frozen=True):
    """`count` devices take part, `ready` of them could start now; `waiting_devices` has the first fifty others."""

    count: int
    waves: list[int]
    ready: int
    waiting: dict[str, int]
    waiting_devices: list[Waiting]
    left_out: list[LeftOut]


class WaveProgress(msgspec.Struct, frozen=True):
    """`wave` counts from 1. Shares are percent of `total`, all devices of the wave."""

    wave: int
    total: int
    finished: int
    succeeded: int
    failed: int
    counts: dict[str, int]


class Deployment(Rules, frozen=True, kw_only=True):
    """`wave` is the running one, from 1, and 0 before the start. `counts` are devices by status."""

    deployment_id: str
    artifact_id: str
    name: str
    version: str
    target: Target
    status: DeploymentStatus
    status_reason: str | None
    wave: int
    total: int
    counts: dict[str, int] = {}
    wave_progress: list[WaveProgress] = []
    left_out: list[LeftOut] = []
    rollback_of: str | None
    retry_of: str | None
    created_by: str
    created_at: WireTime
    started_by: str | None
    started_at: WireTime | None
    approved_by: str | None
    approved_at: WireTime | None
    finished_at: WireTime | None


class Follower(msgspec.Struct, frozen=True):
    """A deployment that came of another one: a rollback of it, or its failed devices again."""

    deployment_id: str
    name: str
    version: str
    status: DeploymentStatus
    total: int
    succeeded: int
    is_rollback: bool


class DeploymentCreated(msgspec.Struct, frozen=True):
    deployment_id: str
    status: DeploymentStatus


class UpdateError(msgspec.Struct, frozen=True):
    code: str = "FAILED"
    message: str = ""


class DeviceDeployment(msgspec.Struct, frozen=True):
    """One device's progress. `waiting_for` says why a queued one has not started, `detail` what the robot says."""

    device_id: str
    status: DeviceStatus
    wave: int
    percent: float | None
    bytes: int | None
    error: UpdateError | None
    detail: str | None
    waiting_for: str | None
    from_version: str | None
    notified_at: WireTime | None
    deadline_at: WireTime | None
    finished_at: WireTime | None
    updated_at: WireTime


class CurrentUpdate(msgspec.Struct, frozen=True):
    """What a device is being updated to, or waits for."""

    deployment_id: str
    name: str
    version: str
    status: DeviceStatus
    percent: float | None


class UpdateStep(msgspec.Struct, frozen=True):
    """One transition; with `refused` a report that came too late, or out of order, and changed nothing."""

    status: DeviceStatus
    at: WireTime
    detail: Any = None
    refused: str | None = None


class DeviceLog(msgspec.Struct, frozen=True):
    """A device in a deployment with every step."""

    device: DeviceDeployment
    steps: list[UpdateStep]


class FailureGroup(msgspec.Struct, frozen=True):
    """Devices of a deployment that ended alike; `sample` has the first ten."""

    status: DeviceStatus
    code: str
    message: str
    count: int
    sample: list[str]


class InstalledVersion(msgspec.Struct, frozen=True):
    """How many devices have this, as far as RosFit has brought it; `version` is null for the others."""

    name: str | None
    version: str | None
    count: int


class Report(msgspec.Struct, frozen=True):
    """What a device says on `ota/progress` and `ota/result`. `error` is text or `{code, message}`.

    `detail` is what it waits for, or does, in words for a person.
    """

    deployment_id: Annotated[str, msgspec.Meta(max_length=64)]
    status: DeviceStatus
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    bytes: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    error: UpdateError | str | None = None
    detail: Annotated[str, msgspec.Meta(max_length=2000, pattern=r"^[^\x00]*$")] | None = None


class Trigger(msgspec.Struct, frozen=True):
    """A device whose turn it is, and what it is to install; already `notified` if it may have missed it."""

    deployment_id: str
    device_id: str
    status: DeviceStatus
    wave: int
    device_type: str
    deadline_at: datetime
    url_secret: bytes
    object_key: str
    artifact_id: str
    name: str
    version: str
    size: int
    sha256: str
    signature: str
    key_id: str
