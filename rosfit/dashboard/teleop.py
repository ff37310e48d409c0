"""Who drives a robot by hand, and how fast it may be driven. Driving itself is `/ws/teleop/{device_id}`."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.commands import service
from rosfit.commands.models import Lease
from rosfit.commands.teleop import limits_of
from rosfit.dashboard.rendering import NO_STORE
from rosfit.fleet import service as fleet
from rosfit.kernel.work import Work

READ: dict[str, Any] = {"right": Right.DEVICES_READ}


class Driving(msgspec.Struct, frozen=True):
    """`linear_x` in m/s and `angular_z` in rad/s are the limits; `user_id` is who looks at the page."""

    lease: Lease | None
    linear_x: float
    angular_z: float
    user_id: str


@get("/robots/{device_id:str}/driving.json", opt=READ)
async def robot_driving(
    device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Response[Driving]:
    device = await fleet.get(work, device_id, actor.reach)
    lease = await service.lease_of(work, device_id)
    return Response(Driving(lease, *limits_of(device.metadata), actor.id), headers=NO_STORE)
