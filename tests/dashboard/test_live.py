"""What goes out over SSE: coalesced, bounded, one event a line, and an end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from rosfit.accounts import service as accounts
from rosfit.app import make_app
from rosfit.dashboard import live
from rosfit.dashboard.live import FleetWatch, RobotWatch, ShadowWatch, event_stream, stop_of
from rosfit.fleet import service as fleet
from rosfit.fleet.models import NewDevice
from rosfit.kernel.feed import Event, Feed
from rosfit.settings import Settings
from tests.dashboard.conftest import Site


def sample(device_id: str, stream: str, payload: str, at: str = "2026-03-30T10:00:00.000Z") -> Event:
    data = f'{{"device_id":"{device_id}","topic":"telemetry/{stream}","payload":{payload}}}'
    return Event("telemetry", device_id, stream, data.encode(), at)


def taken(watch: RobotWatch | FleetWatch) -> dict[str, object]:
    return {name: msgspec.json.decode(data) for name, data in watch.take()}


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
def robot(feed: Feed) -> RobotWatch:
    watch = RobotWatch(feed, "bot-01", b'{"first":true}')
    watch.open()
    assert taken(watch) == {"snapshot": {"first": True}}
    return watch


def test_the_newest_sample_of_each_stream_wins(feed: Feed, robot: RobotWatch) -> None:
    for value in range(1000):
        feed.publish(sample("bot-01", "odom", f'{{"x":{value}}}'))
        feed.publish(sample("bot-01", "status", f'{{"battery":{value % 100}}}'))
    feed.publish(sample("bot-02", "odom", '{"x":-1}'))
    found = taken(robot)["samples"]
    values = {one["stream"]: one["data"]["payload"] for one in found["samples"]}
    assert values == {"odom": {"x": 999}, "status": {"battery": 99}}
    assert found["battery"] == 99
    assert robot.take() == []


def test_a_page_hears_of_its_own_robots_updates_once(feed: Feed, robot: RobotWatch) -> None:
    for name in ("bot-02", "bot-01", "bot-01"):
        feed.publish(Event("ota", "dep_1", name, b"{}", ""))
    assert taken(robot) == {"update-changed": {}}
    feed.publish(Event("ota", "dep_1", "bot-02", b"{}", ""))
    assert robot.take() == []
    feed.publish(Event("ota", "dep_1", "dep_1", b'{"status":"paused"}', ""))
    assert taken(robot) == {"update-changed": {}}


def test_logs_status_and_streams_are_bounded(feed: Feed, robot: RobotWatch) -> None:
    """A page that is not read costs the newest of everything, never more."""
    for number in range(5000):
        feed.publish(Event("logs", "bot-01", "", b'{"n":%d}' % number, ""))
        feed.publish(Event("status", "bot-01", "online", b'{"n":%d}' % number, ""))
        feed.publish(sample("bot-01", f"stream-{number}", "1"))
    found = taken(robot)
    assert [found["logs"][0]["n"], found["logs"][-1]["n"]] == [5000 - live.LOG_LINES, 4999]
    assert len(found["changes"]) == live.STATUS_CHANGES
    assert len(found["samples"]["samples"]) == live.STREAMS


def test_the_fleet_hears_its_rows_and_every_status(feed: Feed) -> None:
    watch = FleetWatch(feed, ["a", "b"])
    watch.open()
    feed.publish(sample("a", "status", '{"battery":41.5}', at="2026-03-30T10:00:07.000Z"))
    feed.publish(sample("b", "odom", '{"x":1}'))
    feed.publish(sample("elsewhere", "odom", "1"))
    feed.publish(Event("status", "elsewhere", "offline", b'{"device_id":"elsewhere"}', ""))
    found = taken(watch)
    rows = {row["id"]: (row["last_seen"], row["battery"]) for row in found["rows"]["rows"]}
    assert rows == {"a": ("2026-03-30T10:00:07.000Z", 41.5), "b": ("2026-03-30T10:00:00.000Z", None)}
    assert found["changes"] == [{"device_id": "elsewhere"}]


async def test_a_payload_on_several_lines_stays_one_event(feed: Feed) -> None:
    """A device may send its JSON indented; a line break would cut the event short."""
    frames = event_stream(RobotWatch(feed, "bot-01", b"{}"), asyncio.Event(), every_s=0).iterator
    await anext(frames)
    feed.publish(sample("bot-01", "odom", '{\n "text": "a\\nb",\r\n "x": 1\n}'))
    frame = (await anext(frames)).decode()
    event, data, *rest = frame.split("\n")
    assert (event, rest) == ("event: samples", ["", ""])
    payload = msgspec.json.decode(data.removeprefix("data: "))["samples"][0]["data"]["payload"]
    assert payload == {"text": "a\nb", "x": 1}
    await frames.aclose()


async def test_a_quiet_stream_gives_signs_of_life(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PING_S", 0.01)
    frames = event_stream(RobotWatch(feed, "bot-01", b"{}"), asyncio.Event(), every_s=0).iterator
    await anext(frames)
    assert await asyncio.wait_for(anext(frames), 5) == b":\n\n"
    await frames.aclose()


async def test_the_stream_ends_with_the_server_and_lets_go_of_the_feed(feed: Feed) -> None:
    stop = asyncio.Event()
    frames = event_stream(RobotWatch(feed, "bot-01", b"{}"), stop, every_s=60).iterator
    await anext(frames)
    assert feed.wanted("telemetry", "bot-01")
    stop.set()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(frames), 5)
    assert not feed.wanted("telemetry", "bot-01")


@pytest.mark.parametrize("path", ["/fleet/events", "/robots/bot-01/events", "/tasks/events"])
async def test_a_stream_ends_with_the_session_of_its_reader(
    site: Site, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Looked at every five seconds, and before anything more is sent (shortened here)."""
    monkeypatch.setattr(live, "LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr(live, "PING_S", 0.01)
    await site.sign_in_as("viewer")
    async with site.edge.open_work() as work:
        await fleet.register(work, NewDevice("mqtt_device", device_id="bot-01"))
    reading = asyncio.create_task(site.client.get(path))
    await asyncio.wait({reading}, timeout=0.3)
    assert not reading.done()
    async with site.edge.open_work() as work:
        await accounts.close_session(work, site.session)
    assert (await asyncio.wait_for(reading, 5)).status_code == 200


async def test_a_browser_that_goes_away_is_forgotten(feed: Feed) -> None:
    frames = event_stream(RobotWatch(feed, "bot-01", b"{}"), asyncio.Event(), every_s=0).iterator
    await anext(frames)
    waiting = asyncio.ensure_future(anext(frames))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not feed.wanted("telemetry", "bot-01")


async def test_the_application_hands_the_server_s_end_to_the_streams() -> None:
    """The same event, not a copy that nobody sets."""
    stop = asyncio.Event()
    parts = ("metrics", "feed", "hot", "broker_access", "hash_device_token", "setup_token", "publisher", "signer")
    edge: Any = SimpleNamespace(settings=Settings(), **dict.fromkeys(parts))
    request: Any = SimpleNamespace(app=make_app(edge, stop))
    assert stop_of(request) is stop


def test_a_shadow_that_changes_often_is_asked_for_once(feed: Feed) -> None:
    watch = ShadowWatch(feed, "bot-01")
    watch.open()
    feed.publish(Event("shadow", "bot-02", "default", b"{}", ""))
    assert watch.take() == []
    for _ in range(100):
        feed.publish(Event("shadow", "bot-01", "default", b"{}", ""))
    assert watch.take() == [("shadow-changed", b"{}")]
    assert watch.take() == []


def test_the_fleet_hears_of_a_shadow_only_when_it_begins_or_ends_to_be_pending(feed: Feed) -> None:
    watch = FleetWatch(feed, ["bot-01"])
    watch.open()

    def drifted(data: bytes) -> bool:
        feed.publish(Event("shadow", "bot-01", "default", data, ""))
        return "drifted" in taken(watch)

    pending, synced = b'{"pending_since":"2026-03-30T10:00:00.000Z","state":{}}', b'{"pending_since":null,"state":{}}'
    assert [drifted(data) for data in (pending, pending, synced, synced, pending)] == [True, False, True, False, True]
    feed.publish(Event("shadow", "bot-02", "default", pending, ""))
    assert "drifted" not in taken(watch)
