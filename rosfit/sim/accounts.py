"""Where simulated robots get their MQTT credentials from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class RobotAccount(msgspec.Struct, frozen=True):
    """One device and what it logs in to the broker with."""

    device_id: str
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"RobotAccount({self.device_id!r})"


class AccountSource(Protocol):
    """The seam: makes sure that devices exist and answers with their credentials, in the same order."""

    async def accounts(self, device_ids: Sequence[str]) -> list[RobotAccount]: ...


class SharedAccounts:
    """One credential for every robot, for an outside broker whose administrator handed it out."""

    def __init__(self, username: str | None, password: str | None) -> None:
        self._username = username
        self._password = password

    async def accounts(self, device_ids: Sequence[str]) -> list[RobotAccount]:
        return [RobotAccount(device_id, self._username, self._password) for device_id in device_ids]
