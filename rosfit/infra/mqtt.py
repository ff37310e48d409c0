"""The MQTT side over aiomqtt. Everything private that this takes of aiomqtt and paho stands in this module.

aiomqtt 2.5 lets paho acknowledge a message as soon as it is queued, and hands messages out one by one. An ingest
session therefore takes messages from the socket itself (`publish_tap`), so that paho neither sees nor acknowledges
them, and answers a whole batch with one write. aiomqtt 3 acknowledges by hand and in batches, and can then take the
place of this module behind the same port.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import aiomqtt
import structlog
from paho.mqtt.client import PINGREQ, PUBACK
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from rosfit.infra.publish_tap import Publish, PublishTap
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.ports import Incoming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = structlog.get_logger(__name__)

# What may be unacknowledged at a time; the broker's own in-flight limit must be at least this.
RECEIVE_MAXIMUM = 1000

NEVER_EXPIRES = 0xFFFF_FFFF

_DEFAULT_PORT = {"mqtt": 1883, "mqtts": 8883, "ws": 8083, "wss": 8084}

# Mosquitto 2.0.11 forgets the receive-maximum at each acknowledgement: with a backlog it had 44,000 messages in
# flight. So we stop reading ourselves, which leaves the rest to the broker and to TCP. A thousand pictures of 8 MiB
# would be allowed by their number, so their bytes count, too.
PAUSE_ABOVE, PAUSE_ABOVE_BYTES = 4_000, 64 * 1024 * 1024
RESUME_BELOW, RESUME_BELOW_BYTES = 2_000, 32 * 1024 * 1024

# Anything that arrives is a sign of life; after this long without one the broker is asked, and after twice given up.
# Less than half the heartbeat timeout, so that a dead connection is not taken for silent devices.
SILENCE_S = 10.0
PINGREQ_PACKET = b"\xc0\x00"


def make_client(
    url: str, identifier: str, properties: Properties | None = None, *, keepalive: int = 10
) -> aiomqtt.Client:
    """A client for `mqtt://`, `mqtts://`, `ws://` or `wss://` that resumes its session."""
    parts = urlsplit(url)
    web = parts.scheme in {"ws", "wss"}
    return aiomqtt.Client(
        parts.hostname or "127.0.0.1",
        parts.port or _DEFAULT_PORT[parts.scheme],
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        identifier=identifier,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=properties,
        transport="websockets" if web else "tcp",
        websocket_path=(parts.path or "/mqtt") if web else None,
        tls_context=ssl.create_default_context() if parts.scheme in {"mqtts", "wss"} else None,
        keepalive=keepalive,
        timeout=10,
        # Without it a batch of acknowledgements waits 40 ms for the broker's delayed ACK.
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )


def _connect_properties() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = NEVER_EXPIRES
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    return properties


class _Link:
    """One connection's bytes: read by the tap, paused while too much is unacknowledged, watched for silence."""

    def __init__(self, paho: Any, take: Callable[[Publish], None]) -> None:
        self._paho = paho
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._tap: PublishTap | None = None
        self._unacknowledged = 0
        self._bytes = 0
        self._paused = False
        self._opened = paho.on_socket_open
        paho.on_socket_open = self._tap_in

    def _tap_in(self, _paho: Any, userdata: Any, sock: Any) -> None:
        # Before the first byte: a resumed session sends what it has right behind the CONNACK.
        self._paho._sock = self._tap = PublishTap(sock, self._count)
        self._opened(self._paho, userdata, sock)

    def _count(self, publish: Publish) -> None:
        if publish.qos:
            self._unacknowledged += 1
            self._bytes += len(publish.payload)
            full = self._unacknowledged > PAUSE_ABOVE or self._bytes > PAUSE_ABOVE_BYTES
            if full and not self._paused and self._tap is not None:
                self._paused = True
                self._loop.remove_reader(self._tap.fileno())
        self._take(publish)

    def acknowledged(self, count: int, size: int) -> None:
        self._unacknowledged -= count
        self._bytes -= size
        free = self._unacknowledged < RESUME_BELOW and self._bytes < RESUME_BELOW_BYTES
        if free and self._paused and self._tap is not None:
            self._paused = False
            self._loop.add_reader(self._tap.fileno(), self._read)

    def _read(self) -> None:
        """What aiomqtt's own reader does, which cannot be had again once it was taken off the loop."""
        self._paho.loop_read()
        while self._paho._sock is not None and self._tap is not None and self._tap.pending():
            self._paho.loop_read()

    async def watch(self, disconnected: asyncio.Future[None]) -> None:
        """Until the connection ends. Raises MqttError when the broker has fallen silent."""
        while not disconnected.done():
            await asyncio.wait({disconnected}, timeout=SILENCE_S / 2)
            if self._paused or self._tap is None:
                continue
            silent_s = time.monotonic() - self._tap.read_at
            if silent_s > 2 * SILENCE_S:
                raise aiomqtt.MqttError(f"the broker has been silent for {silent_s:.0f} s")
            if silent_s > SILENCE_S:
                self._paho._packet_queue(PINGREQ, bytearray(PINGREQ_PACKET), 0, 0)
        disconnected.result()


class IngestSession:
    """A durable subscription under a fixed client id; implements `MessageSource`.

    `run` keeps it connected. What was received and not acknowledged comes again on the next connection.
    """

    def __init__(self, url: str, slot: int, slots: int, filters: Sequence[str]) -> None:
        self._url = url
        self._identifier = f"rosfit-ingest-{slot}"
        # Shared subscriptions cannot exclude our own messages and get no retained ones, so one slot goes without.
        share = f"$share/{self._identifier.rsplit('-', 1)[0]}/"
        plain = list(filters)
        shared = [share + pattern for pattern in filters]
        self._subscribe, self._unsubscribe = (shared, plain) if slots > 1 else (plain, shared)
        self._no_local = slots == 1
        self._inbox: list[Incoming] = []
        self._arrived = asyncio.Event()
        self._client: aiomqtt.Client | None = None
        self._connected_at: float | None = None
        self._session = 0
        self._link: _Link | None = None

    @property
    def connected(self) -> bool:
        return self._client is not None

    def connected_for_s(self) -> float:
        return 0.0 if self._connected_at is None else time.monotonic() - self._connected_at

    async def receive(self) -> list[Incoming]:
        await self._arrived.wait()
        self._arrived.clear()
        messages, self._inbox = self._inbox, []
        return messages

    def acknowledge(self, messages: Sequence[Incoming]) -> None:
        if self._client is None or self._link is None:
            return
        acks = bytearray()
        size = 0
        for message in messages:
            if message.qos and message.session == self._session:
                acks += b"\x40\x02" + message.packet_id.to_bytes(2, "big")
                size += len(message.payload)
        if acks:
            # As `paho.ack` would, but for the whole batch in one write: 1,000 system calls fewer.
            self._client._client._packet_queue(PUBACK, acks, 0, 0)
            self._link.acknowledged(len(acks) // 4, size)

    async def run(self) -> None:
        """Connect, and connect again with backoff and jitter, until cancelled."""
        delay_s = 0.2
        while True:
            try:
                async with self._connection() as lost:
                    delay_s = 0.2
                    await lost
            except (aiomqtt.MqttError, OSError, ValueError) as error:
                log.warning("broker_unreachable", slot=self._identifier, why=str(error), retry_s=round(delay_s, 1))
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            delay_s = min(delay_s * 2, 5.0)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncio.Future[None]]:
        # paho's own pings would wait for their answer behind a backlog and take the connection for dead.
        client = make_client(self._url, self._identifier, _connect_properties(), keepalive=0)
        paho = client._client
        paho.disable_logger()
        self._session += 1
        link = self._link = _Link(paho, self._take)
        async with client:
            self._client = client
            watch = asyncio.ensure_future(link.watch(client._disconnected))
            try:
                await self._resubscribe(client)
                log.info("ingest_connected", slot=self._identifier)
                self._connected_at = time.monotonic()
                yield watch
            finally:
                watch.cancel()
                self._client = None
                self._connected_at = None

    async def _resubscribe(self, client: aiomqtt.Client) -> None:
        options = SubscribeOptions(qos=1, noLocal=self._no_local, retainHandling=1)
        await client.unsubscribe(self._unsubscribe)
        codes = await client.subscribe([(pattern, options) for pattern in self._subscribe])
        refused = [code for code in codes if getattr(code, "is_failure", False)]
        if refused:
            raise aiomqtt.MqttError(f"the broker refused the subscription ({refused[0]}); allow {self._subscribe}")

    def _take(self, publish: Publish) -> None:
        topic, payload, qos, retain, dup, packet_id, content_type = publish
        at = datetime.now(UTC)
        self._inbox.append(
            Incoming(topic, payload, qos, retain, dup, packet_id, self._session, content_type, at)
        )
        self._arrived.set()


async def check_broker(url: str) -> None:
    """Connect and leave. Raises UnavailableError with why."""
    try:
        async with make_client(url, f"rosfit-check-{random.getrandbits(32):08x}"):
            return
    except (aiomqtt.MqttError, OSError) as error:
        raise UnavailableError(f"the MQTT broker does not answer ({error})") from error
