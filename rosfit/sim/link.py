"""One robot's MQTT connection: will, presence, publishing, and coming back after a loss.

paho keeps QoS 1 messages over a loss and sends them again with the same bytes; its sockets hang on the
event loop, so that hundreds of robots need no threads.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import paho.mqtt.client
import paho.mqtt.properties
from paho.mqtt.packettypes import PacketTypes

from rosfit.kernel.errors import InvalidError
from rosfit.protocol import envelope
from rosfit.protocol.topics import device_topic
from rosfit.sim import commands, shadows
from rosfit.sim.accounts import RobotAccount
from rosfit.sim.remote import Remote
from rosfit.sim.tally import Count, Summary
from rosfit.sim.updates import Updates

# Without their types: the stubs that are published describe paho 1.6.
mqtt: Any = paho.mqtt.client
Properties: Any = paho.mqtt.properties.Properties

KEEP_ALIVE_S = 20
SESSION_EXPIRY_S = 60
CONNECT_TIMEOUT_S = 10.0
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 15.0
GOODBYE_S = 2.0
# QoS 1 messages that wait for an acknowledgement or a connection; beyond it new ones fail.
QUEUE_LIMIT = 1000
INFLIGHT_LIMIT = 100
HEARD = {"ota/trigger": 1, "cmd/request": 1, "shadow/desired": 1, "cmd/cmd_vel": 0}


class Broker(msgspec.Struct, frozen=True):
    """Where the broker listens."""

    host: str
    port: int
    tls: bool = False


def parse_broker(url: str) -> tuple[Broker, str | None, str | None]:
    """`mqtt://user:password@host:1883` or `mqtts://…` as broker, user name and password."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname or port == 0:
        raise InvalidError("the broker's address is not understood: write mqtt://user:password@host:1883 or mqtts://…")
    tls = parts.scheme == "mqtts"
    broker = Broker(parts.hostname, port or (8883 if tls else 1883), tls)
    return broker, _unquoted(parts.username), _unquoted(parts.password)


def _unquoted(text: str | None) -> str | None:
    return unquote(text) if text else None


def _presence(device_id: str, status: str, reason: str | None = None) -> bytes:
    payload = {"status": status} | ({"reason": reason} if reason else {})
    return envelope.encode(payload, type="status", device_id=device_id)


def _will(device_id: str) -> bytes:
    """Without time and id: it is written now and may be sent hours later."""
    payload = {"status": "offline", "reason": "connection_lost"}
    return msgspec.json.encode({"device_id": device_id, "type": "status", "payload": payload})


class RobotLink:
    """Connects while it should be `up`; make it inside the event loop."""

    def __init__(
        self, account: RobotAccount, broker: Broker, summary: Summary, updates: Updates, remote: Remote | None
    ) -> None:
        self.device_id = account.device_id
        self._updates, self._remote = updates, remote
        self.connected = False
        self._left = self._greeted = False
        self._early: list[Callable[[], None]] = []
        self._broker, self._summary = broker, summary
        self._loop = asyncio.get_running_loop()
        self._wanted, self._lost = asyncio.Event(), asyncio.Event()
        self._answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting: dict[int, Count] = {}
        self._settled = asyncio.Event()
        self._settled.set()
        self._status_topic = device_topic(account.device_id, "status")
        self._client = self._make_client(account)

    def _make_client(self, account: RobotAccount) -> Any:
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=account.device_id, protocol=mqtt.MQTTv5)
        if account.username:
            client.username_pw_set(account.username, account.password)
        if self._broker.tls:
            client.tls_set_context(ssl.create_default_context())
        client.will_set(self._status_topic, _will(account.device_id), qos=1, retain=True)
        client.max_queued_messages_set(QUEUE_LIMIT)
        client.max_inflight_messages_set(INFLIGHT_LIMIT)
        client.connect_timeout = CONNECT_TIMEOUT_S / 2
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_message = self._on_publish, self._on_message
        client.on_socket_open, client.on_socket_close = self._on_open, self._on_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        return client

    async def run(self) -> None:
        """Keep the connection while it is wanted; ends only by cancellation."""
        delay = FIRST_RETRY_S
        while True:
            await self._wanted.wait()
            if await self._connect():
                delay = FIRST_RETRY_S
                if not self._wanted.is_set():
                    self._cut()
                await self._lost.wait()
                continue
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            delay = min(delay * 2, LAST_RETRY_S)

    async def _connect(self) -> bool:
        """Try once. False, with the reason in the summary, if it did not work out."""
        self._lost.clear()
        self._answer = self._loop.create_future()
        try:
            # In a thread, since paho waits for the TCP handshake.
            await self._loop.run_in_executor(None, self._open)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reason = await self._answer
        except (OSError, TimeoutError) as error:
            return self._refused(str(error) or "no answer")
        if reason.is_failure:
            self._cut()
            return self._refused(str(reason))
        return True

    def _open(self) -> None:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        self._client.connect(self._broker.host, self._broker.port, KEEP_ALIVE_S, properties=properties)

    def _refused(self, reason: str) -> bool:
        self._summary.refusals[reason] = self._summary.refusals.get(reason, 0) + 1
        return False

    def up(self) -> None:
        self._wanted.set()

    def drop(self) -> None:
        """Cut the connection without a word, until `up`."""
        self._wanted.clear()
        self._cut()

    def _cut(self) -> None:
        sock = self._client.socket()
        if sock is None:
            return
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            # Already gone; paho notices by itself.
            return

    def tend(self) -> None:
        """Keep-alive; to be called about once a second."""
        self._client.loop_misc()

    def publish(
        self, row: str, payload: bytes, qos: int, *, retain: bool = False, content_type: str | None = None
    ) -> None:
        """Hand over one message; its outcome goes into the summary."""
        if not (self._greeted or len(self._early) >= QUEUE_LIMIT):
            # A session does not depend on how long the first connection took.
            return self._early.append(partial(self._send, row, payload, qos, retain, content_type))
        return self._send(row, payload, qos, retain, content_type)

    def _send(self, row: str, payload: bytes, qos: int, retain: bool, content_type: str | None) -> None:
        count = self._summary.of(row)
        info = self._client.publish(
            device_topic(self.device_id, row), payload, qos, retain, _publish_properties(content_type)
        )
        count.sent += 1
        if info.rc == mqtt.MQTT_ERR_QUEUE_SIZE or (qos == 0 and info.rc != mqtt.MQTT_ERR_SUCCESS):
            count.failed += 1
        elif qos:
            self._waiting[info.mid] = count
            self._settled.clear()

    async def goodbye(self) -> None:
        """Say `shutdown`, wait for what is not acknowledged yet (2 s at most), leave."""
        self._wanted.clear()
        if self.connected:
            self.publish("status", _presence(self.device_id, "offline", "shutdown"), 1, retain=True)
            await _within(GOODBYE_S, self._settled)
            properties = Properties(PacketTypes.DISCONNECT)
            properties.SessionExpiryInterval = 0
            self._client.disconnect(properties=properties)
            await _within(GOODBYE_S, self._lost)
        self._send_early()
        for count in self._waiting.values():
            count.failed += 1
        self._waiting.clear()
        self._left = True
        self._cut()

    # Called by paho.

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if not reason.is_failure:
            self.connected = True
            self._summary.connects += 1
            client.subscribe([(device_topic(self.device_id, row), qos) for row, qos in HEARD.items()])
            self._send("status", _presence(self.device_id, "online"), 1, True, None)
            self._send_early()
        if not self._answer.done():
            self._answer.set_result(reason)

    def _send_early(self) -> None:
        self._greeted = True
        for send in self._early:
            send()
        self._early.clear()

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self.connected and reason.is_failure:
            self._summary.losses += 1
        self.connected = False
        self._lost.set()
        if not self._answer.done():
            self._answer.set_result(reason)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        match message.topic.removeprefix(device_topic(self.device_id, "")):
            case "ota/trigger":
                self._updates.take(self.device_id, message.payload, self._report)
            case "shadow/desired":
                self._report("shadow/reported", shadows.report(message.payload))
            case "cmd/request":
                self._report("cmd/response", commands.answer(self.device_id, message.payload, self._remote))
            case "cmd/cmd_vel" if self._remote and (velocity := commands.velocity(message.payload)):
                self._remote.drive(velocity)

    def _report(self, row: str, payload: bytes | None) -> None:
        """What is said while the link is down goes out with the next one, unless the robot has left."""
        if payload is not None and not self._left:
            self.publish(row, payload, 1)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        count = self._waiting.pop(mid, None)
        if count is None:
            return
        if reason.is_failure:
            count.failed += 1
        else:
            count.acknowledged += 1
        if not self._waiting:
            self._settled.set()

    def _on_open(self, client: Any, userdata: Any, sock: Any) -> None:
        # paho leaves Nagle on: 17 ms instead of 0.3 at 500 messages/s.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in_loop(self._watch, sock)

    def _watch(self, sock: Any) -> None:
        if self._left:
            # The thread that connects came back after the goodbye.
            self._cut()
        elif self._client.socket() is sock:
            self._loop.add_reader(sock.fileno(), self._read)

    def _read(self) -> None:
        self._client.loop_read()
        # TLS may hold decoded bytes for which the socket never becomes readable again.
        while (sock := self._client.socket()) and getattr(sock, "pending", int)():
            self._client.loop_read()

    def _on_close(self, client: Any, userdata: Any, sock: Any) -> None:
        if (number := sock.fileno()) >= 0:
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)

    def _on_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        self._in_loop(self._watch_writable, sock)

    def _watch_writable(self, sock: Any) -> None:
        if self._client.socket() is sock and not self._left:
            self._loop.add_writer(sock.fileno(), self._client.loop_write)

    def _on_unregister_write(self, client: Any, userdata: Any, sock: Any) -> None:
        if (number := sock.fileno()) >= 0:
            self._loop.remove_writer(number)

    def _in_loop(self, call: Any, sock: Any) -> None:
        """At once on the event loop; later from the thread that connects."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._loop.call_soon_threadsafe(call, sock)
        else:
            call(sock)


def _publish_properties(content_type: str | None) -> Any:
    if content_type is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = content_type
    return properties


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for the event, but not for ever."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
