"""User names and passwords of the broker we start: hashes in a file, read again on SIGHUP."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from rosfit.fleet.models import Admitted
from rosfit.fleet.mqtt_passwords import hash_password
from rosfit.infra.embedded.broker_acl import PROBE_USER, SERVER_USER, Grant, acl_text
from rosfit.infra.embedded.broker_certificates import BrokerCertificates
from rosfit.infra.embedded.data_folder import DataFolder, write_private
from rosfit.kernel.errors import InvalidError
from rosfit.protocol.access import AccessPattern

__all__ = ["SERVER_PASSWORD", "BrokerAccounts", "hash_password"]

_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")
_HASH = re.compile(r"\$[67]\$[A-Za-z0-9+/=$]+")
SERVER_PASSWORD = "broker-password"  # noqa: S105  the name of the file


class RunningBroker(Protocol):
    """What the accounts need of a broker that runs."""

    async def reload(self, probe: str) -> None:
        """Have it read its files; return once the probe account with this password gets in."""
        ...

    async def disconnect(self, client_id: str) -> None:
        """End the session of this client id, if there is one."""
        ...

    async def restart(self) -> None:
        """Start it anew with the configuration as it is now wanted."""
        ...


@dataclass(frozen=True, slots=True)
class _Roll:
    """Everybody who may connect, but for the server itself."""

    hashes: Mapping[str, str] = field(default_factory=dict)
    grants: Mapping[str, Grant] = field(default_factory=dict)
    certified: frozenset[str] = frozenset()

    @property
    def devices(self) -> set[str]:
        return {username for username in self.hashes if username not in self.grants} | self.certified


class BrokerAccounts:
    """The devices' accounts. Every change returns when the broker knows it."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self.certificates = BrokerCertificates(folder)
        self._server_hash = hash_password(self.server_password)
        self._roll = _Roll()
        self._patterns: tuple[AccessPattern, ...] = ()
        self._broker: RunningBroker | None = None
        self._writing = asyncio.Lock()
        self._syncing = asyncio.Lock()
        self._asked = 0
        self._served = 0
        self._wanted = 0
        self._written = 0
        self._read_back()

    @property
    def server_password(self) -> str:
        return self._folder.secret(SERVER_PASSWORD)

    async def sync(self, read: Callable[[], Awaitable[Admitted]]) -> None:
        """`admit` what `read` finds, one at a time. Who waits while another reads afresh is served by that."""
        self._asked += 1
        mine = self._asked
        async with self._syncing:
            if self._served >= mine:
                return
            covered = self._asked
            await self.admit(await read())
            self._served = covered

    async def admit(self, admitted: Admitted) -> None:
        """Let in exactly these. Others are disconnected, whatever they came in with."""
        hashes = {one.username: _checked(one.username, one.broker_hash) for one in admitted.credentials}
        grants = {
            one.username: Grant(one.device_id, frozenset(one.scopes))
            for one in admitted.credentials
            if one.username != one.device_id
        }
        roll = _Roll(hashes, grants, admitted.certified)
        news = await asyncio.to_thread(self.certificates.update, admitted.revoked)
        if roll != self._roll or news.changed or not self._written:
            ended = (self._roll.certified - admitted.certified) | news.revoked_of
            self._roll = roll
            await self._apply(restart=news.new_authority)
            await self._disconnect(ended)

    async def write_accounts(self, accounts: Mapping[str, str]) -> None:
        """Let in exactly these: user name → hash made by `hash_password`. Others are disconnected."""
        hashes = {username: _checked(username, line) for username, line in accounts.items()}
        self._roll = replace(self._roll, hashes=hashes)
        await self._apply()

    async def set_password(self, username: str, password: str) -> None:
        await self.write_accounts({**self._roll.hashes, username: hash_password(password)})

    async def remove(self, username: str) -> None:
        """Revoke; a connection of this user is closed."""
        await self.write_accounts({name: line for name, line in self._roll.hashes.items() if name != username})

    async def set_patterns(self, patterns: Sequence[AccessPattern]) -> None:
        """Topics of other layouts, `("write", "fleet/+/robot/%u/telemetry/#")`; %u is the user name."""
        self._patterns = tuple(patterns)
        await self._apply()

    def connect(self, broker: RunningBroker | None) -> None:
        """Tell which running broker reads the files."""
        self._broker = broker

    def write_files(self) -> str:
        """Write password and ACL files; return the password of the probe account, new each time.

        Logging in with it shows that the broker has read this version.
        """
        probe = secrets.token_urlsafe(24)
        lines = {SERVER_USER: self._server_hash, PROBE_USER: hash_password(probe), **self._roll.hashes}
        text = "".join(f"{username}:{line}\n" for username, line in lines.items())
        acl = acl_text(self._roll.devices, self._patterns, self._roll.grants)
        devices = sorted(self._roll.devices | {grant.device_id for grant in self._roll.grants.values()})
        write_private(self._folder.mosquitto / "acl", acl, self._folder.user)
        write_private(self._folder.mosquitto / "devices", "".join(f"{one}\n" for one in devices), self._folder.user)
        write_private(self._folder.mosquitto / "passwords", text, self._folder.user)
        return probe

    async def _apply(self, *, restart: bool = False) -> None:
        """Write and reload. Calls that come while one is at work are served together by the next."""
        self._wanted += 1
        mine = self._wanted
        async with self._writing:
            if self._written >= mine:
                return
            covered = self._wanted
            if self._broker is not None and restart:
                await self._broker.restart()  # it writes the files itself, since a start reads them
            else:
                probe = await asyncio.to_thread(self.write_files)
                if self._broker is not None:
                    await self._broker.reload(probe)
            self._written = covered

    async def _disconnect(self, device_ids: Iterable[str]) -> None:
        """A reload closes sessions by password only: those by certificate have the device's id as client id."""
        if self._broker is not None:
            await asyncio.gather(*(self._broker.disconnect(device_id) for device_id in device_ids))

    def _read_back(self) -> None:
        """Keep the accounts of the last run until they are written anew, so that devices stay connected."""
        path = self._folder.mosquitto / "passwords"
        if not path.exists():
            return
        hashes = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            username, _, hashed = line.partition(":")
            if _USERNAME.fullmatch(username) and _HASH.fullmatch(hashed):
                hashes[username] = hashed
        self._roll = _Roll(hashes)


def _checked(username: str, line: str) -> str:
    """Refuse what would break the files or, in a pattern, reach another device's topics."""
    if not _USERNAME.fullmatch(username):
        raise InvalidError(f"{username!r} cannot be an MQTT user name: letters, digits, '_', '-', '.', '@' only.")
    if not _HASH.fullmatch(line):
        raise InvalidError(f"The password of {username} is not a hash made by hash_password.")
    return line

