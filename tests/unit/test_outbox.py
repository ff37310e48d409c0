"""What waits for a slow reader: the newest, within bounds, whatever robots call their streams."""

import pytest

from rosfit.api.ws.channels import THROTTLED_LIMIT, Subscription, parse_channel
from rosfit.api.ws.outbox import EVENTS_LIMIT, NEWEST_LIMIT_BYTES, Outbox
from rosfit.kernel.feed import Event


def sample(stream: str, data: bytes = b"{}") -> Event:
    return Event("telemetry", "bot", stream, data, "")


async def test_a_reader_in_time_gets_everything() -> None:
    outbox = Outbox()
    for number in range(EVENTS_LIMIT):
        outbox.push(sample("odom", b"%d" % number))
    _, events = await outbox.take()
    assert [int(event.data) for _, event in events] == list(range(EVENTS_LIMIT))
    assert outbox.skipped == 0


async def test_a_slow_reader_gets_the_newest_of_each_channel() -> None:
    outbox = Outbox()
    for number in range(5_000):
        outbox.push(sample(f"s{number % 3}", b"%d" % number))
    _, events = await outbox.take()
    assert [(channel, int(event.data)) for channel, event in events] == [
        ("telemetry:bot:s2", 4_997), ("telemetry:bot:s0", 4_998), ("telemetry:bot:s1", 4_999),
    ]  # fmt: skip
    assert outbox.skipped == 4_997


async def test_a_throttle_keeps_no_more_than_so_many_streams() -> None:
    told: list[Event] = []
    subscription = Subscription(parse_channel("telemetry:*"), frozenset(), 3_600, told.append)
    for number in range(2 * THROTTLED_LIMIT):
        for _ in range(2):
            subscription.offer(sample(f"s{number}"))
    assert len(told) == 3 * THROTTLED_LIMIT, "what finds no place is told at once"
    subscription.close()


@pytest.mark.parametrize(("count", "size"), [(100_000, 2), (2_000, 100_000)])
async def test_ever_new_streams_take_bounded_memory(count: int, size: int) -> None:
    outbox = Outbox()
    for number in range(count):
        outbox.push(sample(f"s{number}", b"x" * size))
    _, events = await outbox.take()
    assert sum(len(event.data) for _, event in events) <= NEWEST_LIMIT_BYTES
    assert EVENTS_LIMIT / 10 < len(events) <= NEWEST_LIMIT_BYTES / 500
    assert events[-1][0] == f"telemetry:bot:s{count - 1}"
    assert len(events) + outbox.skipped == count
