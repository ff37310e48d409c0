"""What a robot runs, and the update it is in or waits for: a part of its page that asks for itself again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Template

from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.dashboard.rendering import Page, render
from rosfit.fleet import service as fleet
from rosfit.fleet.models import Device
from rosfit.kernel.work import Work
from rosfit.ota import device_rows
from rosfit.ota.models import CurrentUpdate

READ: dict[str, Any] = {"right": Right.DEVICES_READ}


@dataclass(frozen=True)
class RobotUpdate(Page):
    template: ClassVar[str] = "robot_update.html"
    device: Device
    current: CurrentUpdate | None


@get("/robots/{device_id:str}/update", opt=READ)
async def show_robot_update(
    device_id: FromPath[str], work: NamedDependency[Work], actor: NamedDependency[Actor]
) -> Template:
    device = await fleet.get(work, device_id, actor.reach)
    return render(RobotUpdate(device, await device_rows.current_update(work.connection, device_id)))
