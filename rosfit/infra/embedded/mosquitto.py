"""Mosquitto: configuration, start, and reload of accounts on SIGHUP."""

import asyncio
import ipaddress
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import aiomqtt

from rosfit.infra.embedded import client_id_plugin, mosquitto_package
from rosfit.infra.embedded.broker_accounts import BrokerAccounts
from rosfit.infra.embedded.broker_acl import PROBE_USER, SERVER_USER
from rosfit.infra.embedded.data_folder import DataFolder, write_private
from rosfit.infra.embedded.errors import EmbeddedServerError
from rosfit.infra.embedded.ports import check_port_free, free_port, resolve, why_taken
from rosfit.infra.embedded.server import Command, Keeper, Server
from rosfit.infra.embedded.unprivileged import reachable_copy
from rosfit.settings import Settings

# Received by the broker but not yet by RosFit: an hour at 250 messages/s, half a gigabyte at most.
MAX_QUEUED_MESSAGES = 1_000_000
MAX_QUEUED_BYTES = 536_870_912
# At least our receive-maximum of 1,000, or the broker would be the narrow place.
MAX_INFLIGHT_MESSAGES = 2_000
# What a power cut or a kill -9 of the broker may roll back of its queues; each save rewrites the whole file.
AUTOSAVE_S = 5
# Larger than our limits, so that what is too large reaches us and is counted; the broker's own memory is bounded.
PACKET_OVER_BLOB = 4
RELOAD_WITHIN_S = 5.0


WEBSOCKETS = ("protocol websockets",)
# Mosquitto asks either every client of a listener for a certificate or none, hence a port of its own for them. The
# name in the certificate is the user name, and also the client id: by it a session can be ended (see `take_over`).
BY_CERTIFICATE = ("require_certificate true", "use_identity_as_username true", "use_username_as_clientid true")


@dataclass(frozen=True, slots=True)
class Listener:
    """One more way in, on the port of `setting`."""

    setting: str
    what: str
    address: str
    options: tuple[str, ...]
    port: int = 0

    @property
    def lines(self) -> list[str]:
        # Without it the websockets listener binds every interface, whatever its address says.
        family = f"socket_domain {'ipv6' if ':' in self.address else 'ipv4'}"
        return [f"listener {self.port} {self.address}", *self.options, family]


class MosquittoServer(Server):
    name: ClassVar[str] = "mosquitto"

    def __init__(
        self, folder: DataFolder, settings: Settings, accounts: BrokerAccounts, report: Callable[[str], None]
    ) -> None:
        super().__init__(folder)
        self._settings = settings
        self._accounts = accounts
        self._report = report
        self._address = resolve(settings.host)
        # Without TLS only programs on this machine get in, unless the operator has said otherwise.
        self._plain_address = self._address if settings.insecure else _loopback(self._address)
        self._broker: mosquitto_package.Broker | None = None
        self._built_plugin: Path | None = None

    @property
    def port(self) -> int:
        """Where we connect ourselves. With MQTT switched off that is a loopback port of our own."""
        return self._settings.mqtt_port or self._private_port()

    @property
    def host(self) -> str:
        if not self._settings.mqtt_port:
            return "127.0.0.1"
        unspecified = ipaddress.ip_address(self._plain_address).is_unspecified
        return _loopback(self._plain_address) if unspecified else self._plain_address

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt://{SERVER_USER}:{self._accounts.server_password}@{host}:{self.port}"

    def command(self) -> Command:
        broker = self._found()
        program, environment = broker.program, broker.environment
        if broker.tree is not None:
            program = reachable_copy(self.folder.user, broker.program, [broker.tree], self.folder.servers)
            tree = program.parents[2]
            environment = mosquitto_package.Broker(program, tree).environment
        return Command(
            (str(program), "-c", str(self._configuration_path)),
            cwd=self.folder.run,
            environment=environment,
            configuration=self.configuration(),
        )

    def before_start(self, command: Command) -> None:
        if self._settings.mqtt_port:
            check_port_free(self._plain_address, self._settings.mqtt_port, "mqtt_port")
        usable = [listener for listener in self._optional_listeners() if self._can_open(listener)]
        data = self.folder.mosquitto / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        self.folder.user.own(data)
        # The command's configuration is what is wanted; the file may lack a port that is taken just now.
        write_private(self._configuration_path, self.configuration(usable), self.folder.user)
        self._accounts.write_files()

    def configuration(self, optional: Sequence[Listener] | None = None) -> str:
        """With all listeners that are wanted, or with these beside the first."""
        own = self.folder.mosquitto
        others = self._optional_listeners() if optional is None else optional
        return "\n".join(
            [
                f"listener {self.port} {self._plain_address if self._settings.mqtt_port else self.host}",
                *(line for listener in others for line in listener.lines),
                *self._plugin_lines(),
                "allow_anonymous false",
                f"password_file {own / 'passwords'}",
                f"acl_file {own / 'acl'}",
                "persistence true",
                f"persistence_location {own / 'data'}/",
                f"autosave_interval {AUTOSAVE_S}",
                "persistent_client_expiration 1m",  # a month
                f"max_queued_messages {MAX_QUEUED_MESSAGES}",
                f"max_queued_bytes {MAX_QUEUED_BYTES}",
                f"max_inflight_messages {MAX_INFLIGHT_MESSAGES}",
                f"max_packet_size {self._settings.blob_limit_bytes * PACKET_OVER_BLOB}",
                "set_tcp_nodelay true",  # or every request costs 40 ms
                "log_dest stderr",
                "log_timestamp_format %Y-%m-%dT%H:%M:%SZ",
                *(f"log_type {kind}" for kind in ("error", "warning", "notice")),
                "connection_messages false",
                "",
            ]
        )

    def _plugin_lines(self) -> list[str]:
        return [f"plugin {self._plugin()}", f"plugin_opt_devices {self.folder.mosquitto / 'devices'}"]

    def _plugin(self) -> Path:
        if self._built_plugin is None:
            self._built_plugin = client_id_plugin.build(self.folder.mosquitto)
        return self._built_plugin

    async def is_ready(self) -> bool:
        return await self._log_in(SERVER_USER, self._accounts.server_password)

    async def reload(self, send: Callable[[signal.Signals], None], probe: str) -> None:
        """Have the broker read its files; return when the new probe account gets in.

        A broker that is not up reads them when it starts.
        """
        deadline = time.monotonic() + RELOAD_WITHIN_S
        send(signal.SIGHUP)
        while not await self._log_in(PROBE_USER, probe):
            if not await self._listens():
                return
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"The MQTT broker did not take over its accounts within {RELOAD_WITHIN_S:.0f} s; "
                    f"see {self.log_path}"
                )
            await asyncio.sleep(0.02)
            send(signal.SIGHUP)

    async def take_over(self, client_id: str) -> bool:
        """Connect under this client id, by which the broker ends the session that has it, and leave again."""
        return await self._log_in(SERVER_USER, self._accounts.server_password, client_id)

    async def _log_in(self, username: str, password: str, client_id: str | None = None) -> bool:
        try:
            async with aiomqtt.Client(
                self.host,
                self.port,
                username=username,
                password=password,
                identifier=client_id,
                timeout=2,
                clean_session=True,
            ):
                return True
        except aiomqtt.MqttError:
            return False

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        writer.close()
        return True

    @property
    def _configuration_path(self) -> Path:
        return self.folder.mosquitto / "mosquitto.conf"

    def _found(self) -> mosquitto_package.Broker:
        if self._broker is None:
            unpacked = self.folder.servers / "mosquitto"
            self._broker = mosquitto_package.find(unpacked)
            if self._broker is None:
                self._report("mosquitto: not installed; fetching it from this machine's package sources")
                self._broker = mosquitto_package.fetch(unpacked)
        return self._broker

    def _can_open(self, listener: Listener) -> bool:
        """A port that somebody chose must be free. A default one is done without when it is taken, so that a
        second server needs no more than ports and a folder of its own.
        """
        chosen = self._settings.origin(listener.setting) != "default"
        if not chosen and why_taken(listener.address, listener.port):
            self._report(
                f"mosquitto: port {listener.port} is taken; starting without {listener.what}. "
                f"Choose another with ROSFIT_{listener.setting.upper()}."
            )
            return False
        check_port_free(listener.address, listener.port, listener.setting)
        return True

    def _optional_listeners(self) -> list[Listener]:
        found = [Listener("mqtt_ws_port", "MQTT over WebSocket", self._plain_address, WEBSOCKETS)]
        if self._settings.tls:
            files = self._accounts.certificates
            pair = (f"certfile {files.certificate}", f"keyfile {files.key}")
            found += [
                Listener("mqtt_tls_port", "MQTT over TLS", self._address, pair),
                Listener("mqtt_wss_port", "MQTT over secure WebSocket", self._address, (*WEBSOCKETS, *pair)),
            ]
            if files.prepare():
                trusted = (f"cafile {files.authority}", f"crlfile {files.revocation_list}")
                options = (*pair, *trusted, *BY_CERTIFICATE)
                found.append(Listener("mqtt_cert_port", "MQTT with certificates", self._address, options))
        ports = [(listener, getattr(self._settings, listener.setting)) for listener in found]
        return [replace(listener, port=port) for listener, port in ports if port]

    def _private_port(self) -> int:
        """A port kept over restarts, below the range the kernel hands out."""
        path = self.folder.state / "broker-port"
        if not path.exists():
            write_private(path, f"{free_port()}\n")
        return int(path.read_text(encoding="ascii"))


class RunningMosquitto:
    """The broker while it runs, as its accounts need it (`RunningBroker`)."""

    def __init__(self, server: MosquittoServer, keeper: Keeper) -> None:
        self._server = server
        self._keeper = keeper

    async def reload(self, probe: str) -> None:
        await self._server.reload(self._keeper.send, probe)

    async def disconnect(self, client_id: str) -> None:
        await self._server.take_over(client_id)

    async def restart(self) -> None:
        await self._keeper.restart()


def _loopback(address: str) -> str:
    """`address` itself where it is loopback already."""
    parsed = ipaddress.ip_address(address)
    if parsed.is_loopback:
        return address
    return "127.0.0.1" if parsed.version == 4 else "::1"
