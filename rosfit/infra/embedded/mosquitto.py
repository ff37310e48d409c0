"""Mosquitto: configuration, start, and reload of accounts on SIGHUP."""

import asyncio
import ipaddress
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import aiomqtt

from rosfit.infra.embedded import mosquitto_package
from rosfit.infra.embedded.broker_accounts import BrokerAccounts
from rosfit.infra.embedded.broker_acl import PROBE_USER, SERVER_USER
from rosfit.infra.embedded.data_folder import DataFolder, write_private
from rosfit.infra.embedded.errors import EmbeddedServerError
from rosfit.infra.embedded.ports import check_port_free, free_port, resolve, why_taken
from rosfit.infra.embedded.server import Command, Server
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
        self._broker: mosquitto_package.Broker | None = None

    @property
    def port(self) -> int:
        """Where we connect ourselves. With MQTT switched off that is a loopback port of our own."""
        return self._settings.mqtt_port or self._private_port()

    @property
    def host(self) -> str:
        if not self._settings.mqtt_port:
            return "127.0.0.1"
        address = ipaddress.ip_address(self._address)
        if address.is_unspecified:
            return "127.0.0.1" if address.version == 4 else "::1"
        return self._address

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
            check_port_free(self._address, self._settings.mqtt_port, "mqtt_port")
        websockets = self._can_open_websockets()
        data = self.folder.mosquitto / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        self.folder.user.own(data)
        # The command's configuration is what is wanted; the file may lack a port that is taken just now.
        write_private(self._configuration_path, self.configuration(websockets=websockets), self.folder.user)
        self._accounts.write_files()

    def configuration(self, *, websockets: bool = True) -> str:
        own = self.folder.mosquitto
        return "\n".join(
            [
                *self._listeners(websockets),
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

    async def _log_in(self, username: str, password: str) -> bool:
        try:
            async with aiomqtt.Client(
                self.host, self.port, username=username, password=password, timeout=2, clean_session=True
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

    def _can_open_websockets(self) -> bool:
        """A port that somebody chose must be free. The default one is done without when it is taken, so that a
        second server needs no more than ports and a folder of its own.
        """
        port = self._settings.mqtt_ws_port
        if port and self._settings.origin("mqtt_ws_port") == "default" and why_taken(self._address, port):
            self._report(
                f"mosquitto: port {port} is taken; starting without MQTT over WebSocket. "
                "Choose another with ROSFIT_MQTT_WS_PORT."
            )
            return False
        if port:
            check_port_free(self._address, port, "mqtt_ws_port")
        return bool(port)

    def _listeners(self, websockets: bool) -> list[str]:
        lines = [f"listener {self.port} {self._address if self._settings.mqtt_port else self.host}"]
        if self._settings.mqtt_ws_port and websockets:
            family = "ipv6" if ":" in self._address else "ipv4"
            lines += [
                f"listener {self._settings.mqtt_ws_port} {self._address}",
                "protocol websockets",
                # Without it the websockets listener binds every interface, whatever its address says.
                f"socket_domain {family}",
            ]
        return lines

    def _private_port(self) -> int:
        """A port kept over restarts, below the range the kernel hands out."""
        path = self.folder.state / "broker-port"
        if not path.exists():
            write_private(path, f"{free_port()}\n")
        return int(path.read_text(encoding="ascii"))
