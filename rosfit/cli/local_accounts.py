"""Credentials for simulated robots, straight from the stores of a server that runs beside us."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rosfit.cli.beside import work_beside
from rosfit.fleet import repository, service
from rosfit.fleet.models import NewDevice
from rosfit.infra.embedded.broker_accounts import hash_password
from rosfit.settings import Settings
from rosfit.sim.accounts import RobotAccount

# A simulation that runs longer than this asks again at its next start.
TTL = timedelta(days=90)


class LocalAccounts:
    """Implements `AccountSource`: registers what is missing and gives each a new credential."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def accounts(self, device_ids: Sequence[str]) -> list[RobotAccount]:
        async with work_beside(self._settings) as work:
            known = await repository.statuses(work.connection, list(device_ids))
            found = []
            for device_id in device_ids:
                if device_id not in known:
                    await service.register(work, NewDevice("simulator", device_id, tags=["simulated"]))
                await repository.revoke_credentials(work.connection, device_id)
                issued = await service.issue_credential(work, hash_password, device_id, ("publish", "subscribe"), TTL)
                found.append(RobotAccount(device_id, issued.username, issued.token))
            return found
