"""The connection to the broker: one thread that connects, reads and reconnects; any thread publishes.

`publish` writes to the socket in the caller's thread, under `lock`: no queue and no thread switch between a ROS
callback and the wire. paho runs as its documentation's external event loop, a new client for every attempt, so that
what is in flight belongs to the outbox alone.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt

from rosfit_bridge import presence
from rosfit_bridge.backoff import Backoff
from rosfit_bridge.counters import Counters
from rosfit_bridge.envelope import Outgoing
from rosfit_bridge.holdback import Holdback
from rosfit_bridge.outbox import Outbox
from rosfit_bridge.paho_client import Connack, Peer, new_client, properties_of, refusal_of, session_of
from rosfit_bridge.spool import age_clock
from rosfit_bridge.throttle import Throttle, complaints

log = logging.getLogger(__name__)

# MQTT's own overhead on a publish beside topic, payload and properties.
_HEADER_BYTES = 16
_QUOTA_EXCEEDED = 0x97
Handler = Callable[[str, bytes, Any], None]


@dataclass(frozen=True)
class Subscription:
    qos: int
    handler: Handler
    retained: bool


class LinkLostError(Exception):
    """Why the connection ended; the next attempt follows after the backoff."""


@dataclass
class LinkState:
    """For diagnostics: `name` is connecting, online, waiting or closed."""

    name: str = "connecting"
    detail: str = ""
    since: float = 0.0


class Link:
    def __init__(self, peer: Peer, outbox: Outbox, counters: Counters, lock: threading.RLock, backoff: Backoff) -> None:
        self.lock = lock
        self.state = LinkState()
        self.on_progress: Callable[[], None] = lambda: None
        # Called at once, by the link's thread, when a connection has ended.
        self.on_lost: Callable[[], None] = lambda: None
        # Whether this connection's own subscriptions are confirmed: before that comes what the broker kept for us.
        self.settled = False
        self._peer, self._outbox, self._counters, self._backoff = peer, outbox, counters, backoff
        self._holdback = Holdback()
        self._complaints: defaultdict[str, Throttle] = defaultdict(complaints)
        self._subscriptions: dict[str, Subscription] = {}
        self._asked: dict[int, str] = {}  # topics of subscriptions that the broker has not confirmed yet
        self._client: mqtt.Client | None = None
        self._max_packet = 0
        self._goodbye_mid: int | None = None
        self._close_by: float | None = None
        self._failure: str | None = None
        self._told: str | None = None  # the last reason that the log has
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_w, False)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    @property
    def online(self) -> bool:
        return self._client is not None

    def start(self) -> None:
        self._thread.start()

    def publish(self, message: Outgoing) -> None:
        """QoS 1 is kept until acknowledged; QoS 0 goes out now or, on a slow link, gives way to newer ones."""
        if not message.qos:
            self._publish_qos0(message)
            return
        with self.lock:
            self._outbox.put(message, age_clock())
            self._pump()
        self.on_progress()

    def _publish_qos0(self, message: Outgoing) -> None:
        with self.lock:
            if self._client is None:
                self._counters.dropped_offline += 1
            elif len(self._holdback) or self._client.want_write():
                self._counters.dropped_slow_link += self._holdback.put(message)
                self._pump()
            else:
                self._send(message)
                if self._client.want_write():  # the link's thread sends the rest, or sees that the socket is gone
                    self._wake()

    def subscribe(self, topic: str, qos: int, handler: Handler, *, retained: bool = False) -> None:
        """`handler(topic, payload, properties)` runs in the link's thread; subscribed anew on every connection.

        Unless `retained`, what the broker kept from before does not count: a velocity or a goal would be driven again
        with every connection.
        """
        with self.lock:
            self._subscriptions[topic] = Subscription(qos, handler, retained)
            if self._client is not None:
                self._ask(self._client, topic, qos)

    def unsubscribe(self, topic: str) -> None:
        with self.lock:
            if self._subscriptions.pop(topic, None) is not None and self._client is not None:
                self._client.unsubscribe(topic)

    def resume(self) -> None:
        """There may be something to send that `publish` did not bring: rows back from disk."""
        with self.lock:
            self._pump()

    def waiting(self) -> int:
        return len(self._holdback)

    def close(self, drain_s: float) -> None:
        """Sends what can be sent within `drain_s`, says goodbye and ends the thread."""
        self._close_by = time.monotonic() + drain_s
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(drain_s + 5.0)
        self.state = LinkState("closed", "", time.monotonic())

    def _run(self) -> None:
        while self._close_by is None:
            reason = "closed"
            try:
                self._session()
            except (LinkLostError, OSError, ValueError, mqtt.WebsocketConnectionError) as error:
                # Where another thread's write broke the connection, the error here is only what followed from it.
                reason = self._failure or self._explain(error)
            self._drop_client()
            if self._close_by is None:
                self._wait(reason)

    def _session(self) -> None:
        """From connecting to the loss of the connection, or to the goodbye."""
        self.state = LinkState("connecting", self._peer.address, time.monotonic())
        self._failure = None
        client = new_client(self._peer)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.connect(self._peer.host, self._peer.port, self._peer.keepalive_s, **session_of(self._peer))
        deadline = time.monotonic() + self._peer.connect_timeout_s
        try:
            while self._close_by is None:
                if self._client is None and time.monotonic() > deadline:
                    raise LinkLostError(f"no answer to CONNECT within {self._peer.connect_timeout_s:g} s")
                self._turn(client)
            if self._client is not None:
                self._goodbye(client)
        finally:
            with self.lock:
                client.on_disconnect = None
                client.disconnect()
                client.loop_write()

    def _turn(self, client: mqtt.Client) -> None:
        """Waits for the socket, then reads, writes and lets the outbox go on."""
        sock = client.socket()
        if sock is None:
            raise LinkLostError(self._failure or "the connection was closed")
        with self.lock:
            writing = client.want_write()
        readable = _wait_for(sock, self._wake_r, writing)
        with self.lock:
            if readable or _pending(sock):
                self._read(client, sock)
            client.loop_misc()
            if client.want_write():
                client.loop_write()
            if client.socket() is None:
                raise LinkLostError(self._failure or "the connection was closed")
            self._pump()
        self.on_progress()

    def _read(self, client: mqtt.Client, sock: Any) -> None:
        # paho also calls on_publish when a QoS 0 message has left, whose id may be that of one in flight.
        client.on_publish = self._on_publish
        client.loop_read()
        while client.socket() is not None and _pending(sock):
            client.loop_read()
        client.on_publish = None

    def _pump(self) -> None:
        """Sends until the window or the socket is full. Caller holds the lock."""
        client = self._client
        if client is None:
            return
        while not client.want_write():
            held = self._holdback.pop()
            if held is None:
                break
            self._send(held)
        while self._client is not None and not client.want_write():
            row = self._outbox.next()
            if row is None:
                return
            mid = self._send(row.message)
            if mid is None:
                self._outbox.skip()
            else:
                self._outbox.sent(mid)
        if threading.current_thread() is not self._thread:
            self._wake()

    def _send(self, message: Outgoing) -> int | None:
        """The message's id, or None when the broker would cut us off for its size."""
        size = (
            len(message.payload)
            + len(message.topic)
            + _HEADER_BYTES
            + sum(len(k) + len(v) + 5 for k, v in message.user)
        )
        if self._max_packet and size > self._max_packet:
            self._counters.too_large += 1
            self._complain(message.topic, f"{size} bytes, the broker takes {self._max_packet}; dropped")
            return None
        client, properties = self._client, properties_of(message, self._peer.version)
        info = client.publish(message.topic, message.payload, message.qos, properties=properties)
        while info.rc == mqtt.MQTT_ERR_QUEUE_SIZE:  # the id is still in flight, 65535 messages later
            info = client.publish(message.topic, message.payload, message.qos, properties=properties)
        client.loop_write()
        self._counters.sent += 1
        return info.mid

    def _on_connect(self, client: mqtt.Client, _userdata: Any, _flags: Any, code: Any, properties: Any = None) -> None:
        connack = Connack.read(code, properties)
        if connack.refusal:
            self._failure = f"the broker refused the connection: {connack.refusal}"
            client.disconnect()
            return
        self._client, self._max_packet = client, connack.maximum_packet_size
        self._outbox.connected(connack.receive_maximum)
        self._counters.connects += 1
        self.state, self._told = LinkState("online", self._peer.address, time.monotonic()), None
        log.info("connected to %s as %s", self._peer.address, self._peer.client_id)
        # Before the status: whoever reads that we are online may send a command at once.
        for topic, subscription in self._subscriptions.items():
            self._ask(client, topic, subscription.qos)
        client.publish(self._peer.status_topic, presence.ONLINE, presence.QOS, presence.RETAIN)

    def _on_publish(
        self, _client: mqtt.Client, _userdata: Any, mid: int, code: Any = None, _properties: Any = None
    ) -> None:
        if mid == self._goodbye_mid:
            self._goodbye_mid = None
            return
        refusal = refusal_of(code)
        if refusal is not None and refusal.value == _QUOTA_EXCEEDED:
            self._failure = "the broker's quota for this device is exhausted"
            self._client.disconnect()
        elif (row := self._outbox.acknowledged(mid)) is not None:
            if refusal is None:
                self._counters.acknowledged += 1
            else:
                self._counters.refused += 1
                self._complain(row.message.topic, f"the broker refused it: {refusal.text}")

    def _complain(self, topic: str, what: str) -> None:
        if self._complaints[topic].ready(time.monotonic()):
            log.warning("%s: %s", topic, what)

    def _ask(self, client: mqtt.Client, topic: str, qos: int) -> None:
        _, mid = client.subscribe(topic, qos)
        self._asked[mid] = topic

    def _on_subscribe(self, _client: mqtt.Client, _userdata: Any, mid: int, codes: Any, *_: Any) -> None:
        self.settled = True
        topic = self._asked.pop(mid, "")
        for refusal in filter(None, map(refusal_of, codes)):
            log.error("%s: the broker refuses the subscription (%s); nothing will come from there", topic, refusal.text)

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: Any) -> None:
        for pattern, subscription in list(self._subscriptions.items()):
            if not mqtt.topic_matches_sub(pattern, message.topic):
                continue
            if message.retain and not subscription.retained:
                self._counters.stale += 1
                self._complain(message.topic, "a retained message is left out; nothing old is done again")
            else:
                try:
                    subscription.handler(message.topic, message.payload, getattr(message, "properties", None))
                except Exception:
                    # A handler's mistake must not end the connection.
                    log.exception("message on %s could not be handled", message.topic)

    def _on_disconnect(self, _client: mqtt.Client, _userdata: Any, *details: Any) -> None:
        if self._failure is None:
            # paho 2: (flags, reason, properties); 1.6: (reason[, properties])
            reason = details[1] if len(details) == 3 else details[0]
            self._failure = f"the connection was lost ({reason})"

    def _goodbye(self, client: mqtt.Client) -> None:
        """The outbox first, as every message counts as a heartbeat; then the status, then DISCONNECT."""
        self._turn_until(client, lambda: not len(self._outbox))
        with self.lock:
            # `_turn` writes it.
            info = client.publish(self._peer.status_topic, presence.GOODBYE, presence.QOS, presence.RETAIN)
            self._goodbye_mid = info.mid
        self._close_by = max(self._close_by or 0.0, time.monotonic() + 1.0)
        self._turn_until(client, lambda: self._goodbye_mid is None)

    def _turn_until(self, client: mqtt.Client, done: Callable[[], bool]) -> None:
        while not done() and time.monotonic() < (self._close_by or 0.0):
            self._turn(client)

    def _drop_client(self) -> None:
        if self._client is not None:
            try:
                self.on_lost()
            except Exception:
                # This thread must go on to the next connection.
                log.exception("the end of the connection could not be told")
        with self.lock:
            self._client, self.settled = None, False
            self._asked.clear()
            self._outbox.disconnected()
            self._counters.dropped_offline += self._holdback.clear()

    def _wait(self, reason: str) -> None:
        if self.state.name == "online":
            self._backoff.was_connected(time.monotonic() - self.state.since)
        pause = self._backoff.failed()
        self.state = LinkState("waiting", reason, time.monotonic())
        # Once for each reason: a robot may be out of reach for weeks.
        level = logging.DEBUG if reason == self._told else logging.WARNING
        log.log(level, "%s: %s; next attempt in %.1f s", self._peer.address, reason, pause)
        self._told = reason
        select.select([self._wake_r], [], [], 0)
        until = time.monotonic() + pause
        while self._close_by is None and (left := until - time.monotonic()) > 0:
            if select.select([self._wake_r], [], [], left)[0]:
                os.read(self._wake_r, 4096)

    def _explain(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLError):
            return f"TLS: {error.args[-1] if error.args else error}; check connection.tls"
        if isinstance(error, socket.gaierror):
            return f"cannot find {self._peer.host}: {error.strerror}; check connection.host"
        if isinstance(error, mqtt.WebsocketConnectionError):
            return f"{error}; check connection.transport and connection.path"
        return str(error) or type(error).__name__

    def _wake(self) -> None:
        try:
            os.write(self._wake_w, b"\0")
        except BlockingIOError:
            return  # enough bytes wait already


def _pending(sock: Any) -> int:
    """Bytes that TLS has decrypted and select does not know of."""
    pending = getattr(sock, "pending", None)
    return pending() if pending else 0


def _wait_for(sock: Any, wake: int, writing: bool, timeout_s: float = 1.0) -> bool:
    """Whether the socket has something to read. poll, as select stops at file descriptor 1023."""
    if _pending(sock):
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN | (select.POLLOUT if writing else 0))
    poll.register(wake, select.POLLIN)
    events = dict(poll.poll(timeout_s * 1000))
    if wake in events:
        os.read(wake, 4096)
    return bool(events.get(sock.fileno(), 0) & ~select.POLLOUT)
