"""Server-sent events: the feed, slowed to what a page can show. The newest wins; memory stays bounded."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any, ClassVar, Protocol

import msgspec
from litestar import Request
from litestar.response import Stream

from rosfit.fleet.vitals import BATTERY_STREAMS, battery_percent
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.feed import ANY, Event, Feed, Kind
from rosfit.protocol.numbers import read_json

# Proxies close a connection that is silent for a minute; browsers never notice one that is gone.
PING_S = 15.0

# A page comes back after this and is asked again for what it watches.
LONGEST_S = 600.0
# How long somebody whose session has ended, or whose rights have changed, may still be served.
LOOK_AGAIN_S = 5.0

LOG_LINES = 200
STATUS_CHANGES = 500
STREAMS = 256
SHADOWS = 1000

# Steps of commands and changed parameters of one robot between two looks; who drives is one thing at a time.
STEPS = 500
CHANGES = 500

_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")

_decode = msgspec.json.decode
_encode = msgspec.json.encode


class _Pending(msgspec.Struct):
    """What the fleet page wants to know of a shadow."""

    pending_since: str | None = None


class Watch(Protocol):
    """What one page waits for."""

    some: asyncio.Event

    def open(self) -> None: ...

    def close(self) -> None: ...

    def take(self) -> list[tuple[str, bytes]]:
        """(event name, JSON) of everything since the last time."""
        ...


class _Subscriptions:
    """Subscribing while a page watches, and the wish to be woken."""

    def __init__(self, feed: Feed) -> None:
        self.some = asyncio.Event()
        self._feed = feed
        self._ends: list[Callable[[], None]] = []

    def _subscribe(self, kind: Any, key: str, offer: Callable[[Event], None]) -> None:
        self._ends.append(self._feed.subscribe(kind, key, offer))

    def close(self) -> None:
        for end in self._ends:
            end()
        self._ends.clear()


class FleetWatch(_Subscriptions):
    """When each robot of a page was heard, its battery, and every change of status within reach (None: all)."""

    def __init__(self, feed: Feed, device_ids: Sequence[str], reach: Collection[str] | None = None) -> None:
        super().__init__(feed)
        self._device_ids = device_ids
        self._reach = reach
        self._heard: dict[str, str] = {}
        self._batteries: dict[str, Event] = {}
        self._shadows: dict[tuple[str, str], Event] = {}
        self._pending: dict[tuple[str, str], bool] = {}
        self._changes: deque[bytes] = deque(maxlen=STATUS_CHANGES)

    def open(self) -> None:
        for device_id in self._device_ids:
            self._subscribe("telemetry", device_id, self._on_sample)
            self._subscribe("shadow", device_id, self._on_shadow)
        self._subscribe("status", ANY, self._on_status)
        self.some.set()

    def _on_sample(self, event: Event) -> None:
        self._heard[event.key] = event.at
        if event.name in BATTERY_STREAMS:
            self._batteries[event.key] = event
        self.some.set()

    def _on_shadow(self, event: Event) -> None:
        # A device has few shadows; one that makes up names has the newest of those shown.
        if len(self._shadows) < SHADOWS or (event.key, event.name) in self._shadows:
            self._shadows[event.key, event.name] = event
        self.some.set()

    def _on_status(self, event: Event) -> None:
        if self._reach is None or event.key in self._reach:
            self._changes.append(event.data)
            self.some.set()

    def take(self) -> list[tuple[str, bytes]]:
        heard, self._heard = self._heard, {}
        batteries, self._batteries = self._batteries, {}
        rows = [
            {"id": device_id, "last_seen": at, "battery": battery_of(batteries.get(device_id))}
            for device_id, at in heard.items()
        ]
        found = [("rows", _encode({"now": format_time(now()), "rows": rows}))]
        if self._changes:
            found.append(("changes", _array(self._changes)))
            self._changes.clear()
        if self._drifted():
            found.append(("drifted", b"{}"))
        return found

    def _drifted(self) -> bool:
        """Whether a shadow began or ceased to be pending; reports that change nothing of it are many."""
        shadows, self._shadows = self._shadows, {}
        pending = {key: _decode(event.data, type=_Pending).pending_since is not None for key, event in shadows.items()}
        drifted = any(self._pending.get(key) is not one for key, one in pending.items())
        self._pending |= pending
        return drifted


class RobotWatch(_Subscriptions):
    """The newest sample of each stream of one robot, its changes of status, its log's tail, control and updates."""

    def __init__(self, feed: Feed, device_id: str, first: bytes) -> None:
        super().__init__(feed)
        self._device_id = device_id
        self._first: bytes | None = first
        self._samples: dict[str, Event] = {}
        self._battery: Event | None = None
        self._changes: deque[bytes] = deque(maxlen=STATUS_CHANGES)
        self._logs: deque[bytes] = deque(maxlen=LOG_LINES)
        self._updated = False
        self._control: dict[str, deque[bytes]] = {
            "commands": deque(maxlen=STEPS),
            "params": deque(maxlen=CHANGES),
            "teleop": deque(maxlen=1),
        }

    def open(self) -> None:
        self._subscribe("telemetry", self._device_id, self._on_sample)
        self._subscribe("status", self._device_id, self._on_status)
        self._subscribe("logs", self._device_id, self._on_log)
        self._subscribe("ota", ANY, self._on_update)
        for kind in self._control:
            self._subscribe(kind, self._device_id, self._on_control)
        self.some.set()

    def _on_sample(self, event: Event) -> None:
        if event.name in self._samples or len(self._samples) < STREAMS:
            self._samples[event.name] = event
        if event.name in BATTERY_STREAMS:
            self._battery = event
        self.some.set()

    def _on_status(self, event: Event) -> None:
        self._changes.append(event.data)
        self.some.set()

    def _on_log(self, event: Event) -> None:
        self._logs.append(event.data)
        self.some.set()

    def _on_update(self, event: Event) -> None:
        """Of a deployment, which the event is kept under; what happens to all of it concerns its robots, too."""
        if event.name in {self._device_id, event.key}:
            self._updated = True
            self.some.set()

    def _on_control(self, event: Event) -> None:
        self._control[event.kind].append(event.data)
        self.some.set()

    def take(self) -> list[tuple[str, bytes]]:
        found = []
        if self._first is not None:
            found.append(("snapshot", self._first))
            self._first = None
        if self._samples:
            found.append(("samples", self._taken_samples()))
        if self._changes:
            found.append(("changes", _array(self._changes)))
            self._changes.clear()
        if self._logs:
            found.append(("logs", _array(self._logs)))
            self._logs.clear()
        if self._updated:
            found.append(("update-changed", b"{}"))
            self._updated = False
        for kind, told in self._control.items():
            if told:
                found.append((kind, _array(told)))
                told.clear()
        return found

    def _taken_samples(self) -> bytes:
        samples, self._samples = self._samples, {}
        battery, self._battery = self._battery, None
        items = [
            msgspec.Raw(b'{"stream":%b,"time":%b,"data":%b}' % (_encode(event.name), _encode(event.at), event.data))
            for event in samples.values()
        ]
        return _encode({"now": format_time(now()), "battery": battery_of(battery), "samples": items})


class _ChangeWatch(_Subscriptions):
    """That something happened, for a page that then asks again."""

    name: ClassVar[str]

    def __init__(self, feed: Feed, *wanted: tuple[Kind, str]) -> None:
        super().__init__(feed)
        self._wanted = wanted
        self._changed = False

    def open(self) -> None:
        for kind, key in self._wanted:
            self._subscribe(kind, key, self._on_event)

    def _on_event(self, _: Event) -> None:
        self._changed = True
        self.some.set()

    def take(self) -> list[tuple[str, bytes]]:
        changed, self._changed = self._changed, False
        return [(self.name, b"{}")] if changed else []


class TasksWatch(_ChangeWatch):
    """That something happened to a command, which may have begun or ended a task."""

    name = "tasks-changed"

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed, ("commands", ANY))


class UpdatesWatch(_ChangeWatch):
    """That something happened in one deployment, or in any."""

    name = "updates-changed"

    def __init__(self, feed: Feed, deployment_id: str) -> None:
        super().__init__(feed, ("ota", deployment_id))


class ShadowWatch(_ChangeWatch):
    """That a shadow of one robot has another version."""

    name = "shadow-changed"

    def __init__(self, feed: Feed, device_id: str) -> None:
        super().__init__(feed, ("shadow", device_id))


def battery_of(event: Event | None) -> float | None:
    """Percent, where the sample says it."""
    if event is None:
        return None
    payload = read_json(event.data).get("payload")
    return battery_percent(event.name, payload) if isinstance(payload, dict) else None


def _array(items: deque[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def stop_of(request: Request[Any, Any, Any]) -> asyncio.Event:
    """Set when the server is asked to end; one that never is where the application has none."""
    stop = request.app.state.get("stop")
    return stop if isinstance(stop, asyncio.Event) else asyncio.Event()


# Whether the page may still watch.
Still = Callable[[], Awaitable[bool]]


async def always() -> bool:
    return True


def event_stream(watch: Watch, stop: asyncio.Event, *, every_s: float, still: Still = always) -> Stream:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Stream(_frames(watch, stop, every_s, still), media_type="text/event-stream", headers=headers)


async def _frames(watch: Watch, stop: asyncio.Event, every_s: float, still: Still) -> AsyncIterator[bytes]:
    """SSE text until the client goes away (which cancels), `stop` is set, the stream has lasted long enough, or its
    reader may no more.
    """
    ends_at = time.monotonic() + LONGEST_S
    look_at = time.monotonic() + LOOK_AGAIN_S
    watch.open()
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set() and time.monotonic() < ends_at:
            if time.monotonic() >= look_at:
                if not await still():
                    return
                look_at = time.monotonic() + LOOK_AGAIN_S
            yield b"".join(_frame(name, data) for name, data in watch.take()) or b":\n\n"
            await asyncio.wait({stopping}, timeout=every_s)
            await _next(watch, stopping)
    finally:
        stopping.cancel()
        watch.close()


async def _next(watch: Watch, stopping: asyncio.Task[Any]) -> None:
    """Until there is something, the server stops, or a sign of life is due."""
    some = asyncio.create_task(watch.some.wait())
    try:
        await asyncio.wait({some, stopping}, timeout=PING_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        some.cancel()
    watch.some.clear()


def _frame(name: str, data: bytes) -> bytes:
    # A device may send its JSON on several lines; a line break inside a string is an escape anyway.
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data.translate(_ONE_LINE))
