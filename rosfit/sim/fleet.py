"""Plays a session over MQTT: every event at its time, every robot on its own connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from rosfit.kernel.errors import UnavailableError
from rosfit.protocol import envelope
from rosfit.sim.accounts import RobotAccount
from rosfit.sim.events import Event, Publish
from rosfit.sim.link import Broker, RobotLink, parse_broker
from rosfit.sim.recording import Recorder, read_events, read_header
from rosfit.sim.remote import Remote
from rosfit.sim.session import Scene, fleet_events
from rosfit.sim.tally import Summary
from rosfit.sim.updates import UpdateOptions, Updates

# So long without a single connection means that nobody is there.
FIRST_CONNECTION_S = 15.0
# Events played without giving the connections a turn.
_AT_ONCE = 100


class Options(msgspec.Struct, frozen=True):
    """What to play: simulated robots, or with `replay` a recorded session. `duration_s` ends it."""

    robots: int = 10
    rate: float = 5.0
    seed: int = 1
    faults: bool = False
    duration_s: float | None = None
    record: Path | None = None
    replay: Path | None = None
    updates: UpdateOptions = UpdateOptions()

    def scene(self, started_at: float = 0.0) -> Scene:
        return Scene(self.robots, self.rate, self.seed, self.faults, started_at)

    def device_ids(self) -> list[str]:
        """The robots that will appear. Raises InvalidError if `replay` is no recording."""
        return read_header(self.replay).device_ids if self.replay else self.scene().device_ids()

    def events(self, started_at: float, remotes: Mapping[str, Remote]) -> Iterator[Event]:
        return read_events(self.replay) if self.replay else fleet_events(self.scene(started_at), remotes)


async def run_fleet(
    accounts: Sequence[RobotAccount],
    options: Options,
    mqtt_url: str,
    *,
    summary: Summary | None = None,
    announce: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Play until the end of the session, `duration_s`, or cancellation; then every robot says goodbye.

    A `summary` given is kept up to date, also when the run is cancelled. Raises UnavailableError if no
    robot can connect at all.
    """
    broker, _, _ = parse_broker(mqtt_url)
    summary = summary or Summary(len(accounts))
    started_at, started = time.time(), time.perf_counter()
    try:
        updates = Updates(options.updates, options.seed, summary)
        remotes = {} if options.replay else {account.device_id: Remote() for account in accounts}
        async with _links(accounts, broker, summary, updates, remotes) as links, asyncio.TaskGroup() as group:
            reached = group.create_task(_reached(summary, broker, announce))
            await _play(options, started_at, links, remotes)
            reached.cancel()
    except* UnavailableError as errors:
        raise errors.exceptions[0] from None
    finally:
        summary.seconds = round(time.perf_counter() - started, 3)
    return summary


@asynccontextmanager
async def _links(
    accounts: Sequence[RobotAccount],
    broker: Broker,
    summary: Summary,
    updates: Updates,
    remotes: Mapping[str, Remote],
) -> AsyncIterator[dict[str, RobotLink]]:
    """The robots' connections, tended; at the end each says goodbye."""
    links = {
        account.device_id: RobotLink(account, broker, summary, updates, remotes.get(account.device_id))
        for account in accounts
    }
    tasks = [asyncio.create_task(link.run()) for link in links.values()]
    tasks.append(asyncio.create_task(_tend(list(links.values()))))
    try:
        yield links
    finally:
        updates.stop()
        for task in tasks[:-1]:
            task.cancel()
        await asyncio.shield(asyncio.gather(*(link.goodbye() for link in links.values())))
        tasks[-1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tend(links: Iterable[RobotLink]) -> None:
    while True:
        await asyncio.sleep(1)
        for link in links:
            link.tend()


async def _reached(summary: Summary, broker: Broker, announce: Callable[[str], None]) -> None:
    """Say so when robots are connected; give up when none can."""
    for _ in range(int(FIRST_CONNECTION_S * 10)):
        await asyncio.sleep(0.1)
        if summary.connects:
            announce(f"robots are connected to {broker.host}:{broker.port}")
            return
    why = ", ".join(sorted(summary.refusals)) or "no answer"
    raise UnavailableError(
        f"no robot could connect to {broker.host}:{broker.port} within {FIRST_CONNECTION_S:.0f} s ({why}): "
        "check that the broker runs there and that the credentials are right"
    )


async def _play(
    options: Options, started_at: float, links: dict[str, RobotLink], remotes: Mapping[str, Remote]
) -> None:
    events = options.events(started_at, remotes)
    if options.record is None:
        return await _perform(events, started_at, options.duration_s, links)
    with Recorder(options.record, started_at, list(links)) as recorder:
        return await _perform(_recorded(events, recorder), started_at, options.duration_s, links)


def _recorded(events: Iterator[Event], recorder: Recorder) -> Iterator[Event]:
    for event in events:
        yield event
        recorder.record(event)


async def _perform(
    events: Iterator[Event], started_at: float, duration_s: float | None, links: dict[str, RobotLink]
) -> None:
    began, epoch = time.perf_counter(), datetime.fromtimestamp(started_at, UTC)
    for number, event in enumerate(events):
        if duration_s is not None and event.at > duration_s:
            break
        ahead_s = event.at - (time.perf_counter() - began)
        if ahead_s > 0 or number % _AT_ONCE == 0:
            await asyncio.sleep(max(0.0, ahead_s))
        _happen(event, epoch, links)


def _happen(event: Event, epoch: datetime, links: dict[str, RobotLink]) -> None:
    link = links[event.device_id]
    if isinstance(event, Publish):
        link.publish(event.row, _encoded(event, epoch), event.qos, content_type=event.content_type)
    elif event.action == "up":
        link.up()
    else:
        link.drop()


def _encoded(event: Publish, epoch: datetime) -> bytes:
    if event.data is not None:
        return event.data
    return envelope.encode(
        event.payload,
        type=event.row.partition("/")[0],
        device_id=event.device_id,
        seq=event.seq,
        timestamp=epoch + timedelta(seconds=event.sampled_at),
        message_id=event.message_id,
    )
