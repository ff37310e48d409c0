"""User names and passwords of the broker we start: hashes in a file, read again on SIGHUP."""

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence

from rosfit.infra.embedded.broker_acl import PROBE_USER, SERVER_USER, AccessPattern, acl_text
from rosfit.infra.embedded.data_folder import DataFolder, write_private
from rosfit.kernel.errors import InvalidError

# What mosquitto_passwd uses. Passwords here are random and long, so more rounds would only slow every connect.
ITERATIONS = 101
_SALT_BYTES = 12  # Mosquitto refuses any other length.
_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")
_HASH = re.compile(r"\$[67]\$[A-Za-z0-9+/=$]+")
SERVER_PASSWORD = "broker-password"  # noqa: S105  the name of the file

Reload = Callable[[str], Awaitable[None]]


def hash_password(password: str) -> str:
    """Mosquitto's `$7$` form: PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${_base64(salt)}${_base64(digest)}"


class BrokerAccounts:
    """The devices' accounts. Every change returns when the broker knows it."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._server_hash = hash_password(self.server_password)
        self._accounts: dict[str, str] = {}
        self._patterns: tuple[AccessPattern, ...] = ()
        self._reload: Reload | None = None
        self._writing = asyncio.Lock()
        self._wanted = 0
        self._written = 0
        self._read_back()

    @property
    def server_password(self) -> str:
        return self._folder.secret(SERVER_PASSWORD)

    async def write_accounts(self, accounts: Mapping[str, str]) -> None:
        """Let in exactly these: user name → hash made by `hash_password`. Others are disconnected."""
        self._accounts = {username: _checked(username, line) for username, line in accounts.items()}
        await self._apply()

    async def set_password(self, username: str, password: str) -> None:
        self._accounts[username] = _checked(username, hash_password(password))
        await self._apply()

    async def remove(self, username: str) -> None:
        """Revoke; a connection of this user is closed."""
        self._accounts.pop(username, None)
        await self._apply()

    async def set_patterns(self, patterns: Sequence[AccessPattern]) -> None:
        """Topics of other layouts, `("write", "fleet/+/robot/%u/telemetry/#")`; %u is the user name."""
        self._patterns = tuple(patterns)
        await self._apply()

    def connect(self, reload: Reload | None) -> None:
        """Tell how the running broker reads its files again: `reload(password of the probe account)`."""
        self._reload = reload

    def write_files(self) -> str:
        """Write password and ACL files; return the password of the probe account, new each time.

        Logging in with it shows that the broker has read this version.
        """
        probe = secrets.token_urlsafe(24)
        lines = {SERVER_USER: self._server_hash, PROBE_USER: hash_password(probe), **self._accounts}
        text = "".join(f"{username}:{line}\n" for username, line in lines.items())
        acl = acl_text(self._accounts, self._patterns)
        write_private(self._folder.mosquitto / "acl", acl, self._folder.user)
        write_private(self._folder.mosquitto / "passwords", text, self._folder.user)
        return probe

    async def _apply(self) -> None:
        """Write and reload. Calls that come while one is at work are served together by the next."""
        self._wanted += 1
        mine = self._wanted
        async with self._writing:
            if self._written >= mine:
                return
            covered = self._wanted
            probe = await asyncio.to_thread(self.write_files)
            if self._reload is not None:
                await self._reload(probe)
            self._written = covered

    def _read_back(self) -> None:
        """Keep the accounts of the last run until they are written anew, so that devices stay connected."""
        path = self._folder.mosquitto / "passwords"
        if not path.exists():
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            username, _, hashed = line.partition(":")
            if _USERNAME.fullmatch(username) and _HASH.fullmatch(hashed):
                self._accounts[username] = hashed


def _checked(username: str, line: str) -> str:
    """Refuse what would break the files or, in a pattern, reach another device's topics."""
    if not _USERNAME.fullmatch(username):
        raise InvalidError(f"{username!r} cannot be an MQTT user name: letters, digits, '_', '-', '.', '@' only.")
    if not _HASH.fullmatch(line):
        raise InvalidError(f"The password of {username} is not a hash made by hash_password.")
    return line


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
