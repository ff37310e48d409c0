"""Everything between a converted message and the broker, put together from the configuration."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from pathlib import Path

from rosfit_bridge import tls
from rosfit_bridge.backoff import Backoff
from rosfit_bridge.config import Auth, Config
from rosfit_bridge.counters import Counters
from rosfit_bridge.envelope import Outgoing
from rosfit_bridge.link import Link
from rosfit_bridge.outbox import Outbox
from rosfit_bridge.paho_client import Peer
from rosfit_bridge.spool import Spool
from rosfit_bridge.spooler import Spooler
from rosfit_bridge.throttle import Throttle, complaints
from rosfit_bridge.topics import DeviceTopics, is_blob

log = logging.getLogger(__name__)

MIB = 1024 * 1024
MQTT_VERSIONS = {"5": 5, "3.1.1": 4}


class Uplink:
    """`SpoolError` when the spool cannot be used; `OSError` or `ssl.SSLError` when a credential file cannot."""

    def __init__(self, config: Config) -> None:
        self.counters = Counters()
        lock = threading.RLock()
        spool = _spool(config)
        last_id = spool.last_id if spool else 0
        self.outbox = Outbox(self.counters, config.connection.max_inflight, last_id, has_disk=spool is not None)
        times = config.connection.reconnect
        self.link = Link(peer(config), self.outbox, self.counters, lock, Backoff(times.min_s, times.max_s))
        self._limits = config.bridge.limits
        self._limit_of: dict[str, int] = {}
        self._complaints: defaultdict[str, Throttle] = defaultdict(complaints)
        self.spooler: Spooler | None = None
        if spool is not None:
            flush_s = config.bridge.spool.flush_ms / 1000
            self.spooler = Spooler(spool, self.outbox, lock, self.counters, flush_s, self.link.resume)
            self.link.on_progress = self.spooler.nudge

    def start(self) -> None:
        if self.spooler:
            self.spooler.start()
        self.link.start()

    def publish(self, message: Outgoing) -> bool:
        """False for what is larger than the server takes, which is dropped."""
        if not self.admits(message.topic, len(message.payload)):
            return False
        self.link.publish(message)
        return True

    def admits(self, topic: str, size: int) -> bool:
        """Whether so many bytes may be sent; if not, that is counted and told."""
        limit = self._limit_of.get(topic) or self._learn_limit(topic)
        if size <= limit:
            return True
        self.counters.too_large += 1
        if self._complaints[topic].ready(time.monotonic()):
            log.warning("%s: at least %d bytes, bridge.limits allows %d; dropped", topic, size, limit)
        return False

    def _learn_limit(self, topic: str) -> int:
        suffix = topic.split("/", 2)[2]
        kib = self._limits.blob_kib if is_blob(suffix) else self._limits.payload_kib
        self._limit_of[topic] = kib * 1024
        return kib * 1024

    def close(self, drain_s: float = 2.0) -> None:
        self.link.close(drain_s)
        if self.spooler:
            self.spooler.close()


def peer(config: Config) -> Peer:
    connection, device_id = config.connection, config.rosfit.device_id
    secure = connection.tls.enabled
    if secure:
        tls.context(connection.tls)  # a bad certificate file is a mistake to report now
    made = Peer(
        host=connection.host,
        port=connection.effective_port,
        address=connection.address,
        websocket_path=connection.path if connection.transport == "websocket" else None,
        version=MQTT_VERSIONS[connection.protocol],
        client_id=connection.client_id or device_id,
        keepalive_s=connection.keepalive_s,
        connect_timeout_s=connection.connect_timeout_s,
        status_topic=DeviceTopics(device_id).status,
        credentials=lambda: credentials(connection.auth, device_id),
        tls=(lambda: tls.context(connection.tls)) if secure else None,
        session_s=config.bridge.commands.session_s,
    )
    made.credentials()
    return made


def credentials(auth: Auth | None, device_id: str) -> tuple[str | None, str | None]:
    """User name and password as MQTT wants them. A file's trailing newline is not part of the secret."""
    if auth is None:
        return None, None
    if auth.method == "certificate":
        return auth.username, None
    if auth.method == "token":
        secret, file = auth.token, auth.token_file
    else:
        secret, file = auth.password, auth.password_file
    if file is not None:
        secret = file.read_text(encoding="utf-8").rstrip("\r\n")
    return auth.username or device_id, secret


def spool_path(config: Config) -> Path:
    return config.bridge.spool.path or _at_home(f"{config.rosfit.device_id}.spool")


def ledger_path(config: Config) -> Path:
    """Beside the spool, unless it has a place of its own."""
    own, spool = config.bridge.commands.path, config.bridge.spool.path
    if own is None and spool is not None:
        return spool.with_name(f"{config.rosfit.device_id}.commands")
    return own or _at_home(f"{config.rosfit.device_id}.commands")


def update_folder(config: Config) -> Path:
    """Versions, downloads and journal of the update agent."""
    return config.ota.folder or _at_home(f"{config.rosfit.device_id}.updates")


def _at_home(name: str) -> Path:
    return Path(os.environ.get("ROS_HOME") or Path.home() / ".ros") / "rosfit" / name


def _spool(config: Config) -> Spool | None:
    wanted = config.bridge.spool
    if not wanted.enabled:
        return None
    return Spool(spool_path(config), int(wanted.max_mb * MIB), wanted.max_age_h * 3600)
