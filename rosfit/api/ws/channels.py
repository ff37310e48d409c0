"""Channel names such as `telemetry:bot-01:odom`, parsed once; and the filters and throttles of a subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from rosfit.accounts.rights import Right
from rosfit.kernel.errors import RosfitError
from rosfit.kernel.feed import ANY, Event
from rosfit.kernel.ids import is_device_id
from rosfit.protocol.topics import STREAM_LENGTH_LIMIT

# The kinds of the contract, one by one: webhooks, ended credentials and what else the feed tells are for no socket.
RIGHT_FOR: dict[str, Right] = {
    "telemetry": Right.TELEMETRY_READ,
    "status": Right.DEVICES_READ,
    "shadow": Right.DEVICES_READ,
    "commands": Right.DEVICES_READ,
    "params": Right.DEVICES_READ,
    "ota": Right.DEVICES_READ,
    "alerts": Right.DEVICES_READ,
    "logs": Right.TELEMETRY_READ,
}

# Kinds whose key is no device: a deployment, or nothing at all.
_NO_WILDCARD = frozenset({"params", "logs"})
THROTTLE_LIMIT_MS = 3_600_000
# Streams that one throttle holds back; a robot may name as many as it likes.
THROTTLED_LIMIT = 10_000


class InvalidChannelError(RosfitError):
    code = "INVALID_CHANNEL"
    status = 400
    title = "There is no such channel"


class Channel(msgspec.Struct, frozen=True):
    """`name` is the stream of a telemetry channel, or empty for all."""

    text: str
    kind: str
    key: str
    name: str = ""

    @property
    def device_id(self) -> str | None:
        """The one device it names, if it does."""
        return None if self.key == ANY or self.kind in {"ota", "alerts"} else self.key


def parse_channel(text: str) -> Channel:
    """Raises InvalidChannelError with what is expected."""
    kind, _, rest = text.partition(":")
    key, separator, name = rest.partition(":")
    if kind not in RIGHT_FOR:
        raise InvalidChannelError(f"{text[:100]!r} begins with none of {', '.join(RIGHT_FOR)}")
    wildcard_ok = kind not in _NO_WILDCARD
    key_ok = (key == ANY and wildcard_ok) or (kind != "alerts" and is_device_id(key))
    name_ok = not separator or (kind == "telemetry" and 0 < len(name) <= STREAM_LENGTH_LIMIT)
    if not key_ok or not name_ok:
        raise InvalidChannelError(f"{text[:100]!r} is not {kind}:{{device_id}}, as in {kind}:bot-01")
    return Channel(text, kind, key, name)


def event_channel(event: Event) -> str:
    """The channel on which an event is told."""
    if event.kind == "telemetry":
        return f"telemetry:{event.key}:{event.name}"
    if event.kind == "alerts":
        return "alerts:*"
    return f"{event.kind}:{event.key}"


class Subscription:
    """Hands events that fit on to `push`, the newest per channel at most every `throttle_s`."""

    def __init__(self, channel: Channel, topics: frozenset[str], throttle_s: float, push: Callable[[Event], None]):
        self._channel = channel
        self._topics = topics
        self._throttle_s = throttle_s
        self._push = push
        self._held: dict[str, Event] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def offer(self, event: Event) -> None:
        if not self._fits(event):
            return
        key = f"{event.key}:{event.name}"
        if key in self._timers:
            self._held[key] = event
            return
        self._push(event)
        if self._throttle_s > 0 and len(self._timers) < THROTTLED_LIMIT:
            self._start_timer(key)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._held.clear()

    def _fits(self, event: Event) -> bool:
        if self._channel.name and event.name != self._channel.name:
            return False
        return not self._topics or not self._topics.isdisjoint(_names(event))

    def _start_timer(self, key: str) -> None:
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(self._throttle_s, self._timer_ended, key)

    def _timer_ended(self, key: str) -> None:
        del self._timers[key]
        event = self._held.pop(key, None)
        if event is not None:
            self._push(event)
            self._start_timer(key)


def _names(event: Event) -> set[str]:
    """All the ways in which a client may write a stream in `topics`."""
    stream = event.name
    names = {stream, f"/{stream}", f"telemetry/{stream}", f"rosfit/{event.key}/telemetry/{stream}"}
    if stream.startswith("ros/"):
        names |= {stream.removeprefix("ros"), f"rosfit/{event.key}/{stream}"}
    return names
