"""Commands as they are asked for, kept and told."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from rosfit.commands.lifecycle import Status
from rosfit.kernel.clock import WireTime

CommandName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,99}$(?!\n)")]


class NewCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`timeout_s` runs from publishing; `expires_at` bounds the wait to be published (24 h with `queue`)."""

    command: CommandName
    data: dict[str, Any] = {}
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 30.0
    expires_at: datetime | None = None
    queue: bool = False


class Accepted(msgspec.Struct, frozen=True):
    command_id: str
    correlation_id: str
    status: Status


class CommandError(msgspec.Struct, frozen=True):
    code: str
    message: str = ""


class Step(msgspec.Struct, frozen=True):
    """One transition; with `refused` a report that came too late and changed nothing."""

    status: Status
    at: WireTime
    detail: Any = None
    refused: str | None = None


class Command(msgspec.Struct, frozen=True):
    """`late`: the result came after `timed_out`. `steps` are told with a single command only."""

    command_id: str
    device_id: str
    correlation_id: str
    command: str
    data: dict[str, Any]
    status: Status
    urgent: bool
    timeout_s: float
    expires_at: WireTime
    created_by: str
    created_at: WireTime
    published_at: WireTime | None
    finished_at: WireTime | None
    progress: float | None
    result: Any
    error: CommandError | None
    late: bool
    steps: list[Step] | msgspec.UnsetType = msgspec.UNSET


class Response(msgspec.Struct, frozen=True):
    """What a device says on `cmd/response`."""

    command_id: str
    status: Status
    correlation_id: str | None = None
    progress: float | None = None
    result: Any = None
    error: CommandError | None = None


class ToPublish(msgspec.Struct, frozen=True):
    """A pending command whose device is there, and how to reach it."""

    command_id: str
    device_id: str
    device_type: str
    layout: dict[str, str] | None
    correlation_id: str
    command: str
    data: dict[str, Any]
    timeout_s: float
    expires_at: datetime


class Lease(msgspec.Struct, frozen=True):
    """Who drives a robot."""

    device_id: str
    lease_id: str
    user_id: str
    user_name: str
    taken_at: WireTime
