"""What waits to be written: bounded, in order of arrival, and never short of a message that was not acknowledged."""

from hypothesis import given
from hypothesis import strategies as st

from rosfit.handler.decode import Parsed
from rosfit.handler.pending import Pending
from rosfit.kernel.ports import Incoming

STREAMS = st.sampled_from(["rosfit/a/telemetry/x", "rosfit/a/telemetry/y", "rosfit/b/telemetry/x"])
# (topic, size) of QoS 0, or now and then None: take some.
COMES = st.tuples(STREAMS, st.integers(0, 2_000))
STEPS = st.lists(st.one_of(COMES, COMES, COMES, COMES, st.none()), min_size=20, max_size=80)
STREAM_LIMIT, BYTES_LIMIT = 4, 20_000


def message(topic="rosfit/a/telemetry/x", payload=b"{}", qos=0, packet_id=0, dup=False, session=1):
    return Parsed(Incoming(topic, payload, qos, dup=dup, packet_id=packet_id, session=session), None)


@given(STEPS)
async def test_qos_0_keeps_the_newest_of_each_stream_within_both_bounds(steps):
    """Whatever comes and is taken: what is gone was the oldest of its stream, and is counted."""
    pending = Pending(STREAM_LIMIT, BYTES_LIMIT)
    added, taken = [], []
    for step in steps:
        if step is None:
            taken += await pending.take(3, 1 << 40) if len(pending) else []
            continue
        added.append(message(step[0], b"x" * step[1]))
        pending.add(added[-1])
        assert pending.bytes <= BYTES_LIMIT
    rest = await pending.take(1_000, 1 << 40) if len(pending) else []
    assert len(taken) + len(rest) + pending.dropped == len(added)
    assert pending.bytes == len(pending) == 0
    order = {id(one): number for number, one in enumerate(added)}
    for found in (taken, rest):
        numbers = [order[id(one)] for one in found]
        assert numbers == sorted(numbers)
    for topic in {one.incoming.topic for one in rest}:
        kept = [one for one in rest if one.incoming.topic == topic]
        of_stream = [one for one in added if one.incoming.topic == topic]
        assert len(kept) <= STREAM_LIMIT
        assert [id(one) for one in kept] == [id(one) for one in of_stream[-len(kept) :]]


async def test_qos_1_is_never_dropped():
    """Its bound is the session's, which stops reading."""
    pending = Pending(STREAM_LIMIT, BYTES_LIMIT)
    for packet_id in range(1, 101):
        assert pending.add(message(payload=b"x" * 1_000, qos=1, packet_id=packet_id))
    taken = await pending.take(1_000, 1 << 40)
    assert [one.incoming.packet_id for one in taken] == list(range(1, 101))
    assert pending.dropped == 0


async def test_a_redelivery_takes_the_place_of_what_waits():
    """It is written once, and the acknowledgement goes to the session that can hear it."""
    pending = Pending()
    first, again = message(qos=1, packet_id=7), message(qos=1, packet_id=7, dup=True, session=2)
    first.announced = True
    assert pending.add(first)
    assert not pending.add(again)
    assert await pending.take(10, 1 << 40) == [again]
    assert again.announced


async def test_another_message_under_the_same_packet_id_is_another_message():
    """Without DUP, or with other bytes, it is none that waits already."""
    pending = Pending()
    others = [
        message(qos=1, packet_id=7),
        message(qos=1, packet_id=7),
        message(payload=b"{1}", qos=1, packet_id=7, dup=True),
    ]
    assert all(pending.add(other) for other in others)
    assert await pending.take(10, 1 << 40) == others


async def test_what_was_taken_is_forgotten():
    """Its redelivery is the database's to recognise, for it may have been written or not."""
    pending = Pending()
    pending.add(message(qos=1, packet_id=7))
    await pending.take(10, 1 << 40)
    assert pending.add(message(qos=1, packet_id=7, dup=True, session=2))


async def test_a_batch_ends_by_number_or_by_bytes():
    pending = Pending()
    for _ in range(10):
        pending.add(message(payload=b"x" * 10_000))
    assert len(await pending.take(3, 1 << 40)) == 3
    assert len(await pending.take(100, 30_000)) == 2
    assert len(await pending.take(100, 1 << 40)) == 5
