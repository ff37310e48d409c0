"""The narrow places between commit and acknowledgement, each hit on purpose against a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest

from rosfit.handler.batch import Batch
from rosfit.handler.decode import Decoder
from rosfit.handler.hot import LatestValues, VitalsBook
from rosfit.handler.ingest import Ingest
from rosfit.handler.marks import Marks, SlotTakenError
from rosfit.handler.pending import Pending
from rosfit.handler.writer import Handlers
from rosfit.infra.postgres import Pool, make_pool
from rosfit.infra.redis import open_store
from rosfit.kernel.clock import now
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.feed import Feed
from rosfit.kernel.metrics import Metrics
from rosfit.kernel.ports import HotStore, Incoming
from rosfit.kernel.work import Work
from rosfit.protocol.envelope import Limits
from rosfit.protocol.layouts import Layouts
from rosfit.shadow.hot import HotShadows
from rosfit.wiring import work_opener
from tests.e2e.site import Site
from tests.server import RunningServer, running_server

DECODER = Decoder(Limits(), Layouts())
# Not one of the running server's.
SLOT = 7
ANONYMOUS = b'{"x":1}'


class Source:
    """A broker's session in memory: gives out what it is handed, and notes what is acknowledged."""

    connected = True

    def __init__(self, messages: int = 1) -> None:
        self._messages = messages
        self._waiting: asyncio.Queue[Incoming] = asyncio.Queue()
        self._handed_out = 0
        self.acknowledged: list[Incoming] = []
        self.done = asyncio.Event()

    def deliver(self, packet_id: int, payload: bytes, topic: str = "rosfit/bot-1/telemetry", dup: bool = False) -> None:
        self._waiting.put_nowait(Incoming(topic, payload, 1, dup=dup, packet_id=packet_id, received_at=now()))

    async def receive(self) -> list[Incoming]:
        if self._handed_out:
            self._waiting.task_done()
        self._handed_out += 1
        return [await self._waiting.get()]

    async def arrives(self, packet_id: int, payload: bytes) -> None:
        """Deliver; returns when it has been taken."""
        self.deliver(packet_id, payload)
        await self._waiting.join()

    def acknowledge(self, messages: Sequence[Incoming]) -> None:
        self.acknowledged += messages
        if len(self.acknowledged) >= self._messages:
            self.done.set()


class Database:
    """Units of work; `lost_answers` commits report that the server has gone, although they took place."""

    def __init__(self, pool: Pool, hot: HotStore) -> None:
        self._open = work_opener(pool, Feed(), HotShadows(hot, lambda: None))
        self.feed = Feed()
        self.lost_answers = 0
        # Done one by one, each in the midst of a unit of work.
        self.meanwhile: list[Callable[[], Awaitable[object]]] = []

    @asynccontextmanager
    async def open_work(self) -> AsyncIterator[Work]:
        async with self._open() as work:
            yield work
            if self.meanwhile and work.after_commit:
                await self.meanwhile.pop(0)()
        if self.lost_answers and work.after_commit:
            self.lost_answers -= 1
            raise UnavailableError("the connection is gone")

    async def rows(self, sql: str) -> list[tuple[object, ...]]:
        async with self._open() as work:
            return await (await work.connection.execute(sql)).fetchall()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as server:
        Site(server).register("bot-1")
        yield server


@pytest.fixture
async def stores(server: RunningServer) -> AsyncIterator[tuple[Database, Ingest]]:
    """The stores of a server that hears nothing, empty."""
    endpoints = server.endpoints
    async with make_pool(endpoints.database_url) as pool, open_store(endpoints.redis_url) as hot:
        database = Database(pool, hot)
        async with database.open_work() as work:
            await work.connection.execute("TRUNCATE telemetry, dead_letters, ingest_marks")
        yield database, _ingest(database, LatestValues(hot))


def _ingest(database: Database, latest: LatestValues) -> Ingest:
    return Ingest(
        open_work=database.open_work,
        decoder=DECODER,
        feed=database.feed,
        latest=latest,
        vitals=VitalsBook(),
        metrics=Metrics(),
        handlers=Handlers(ordered={}, batched={}),
    )


@asynccontextmanager
async def running(ingest: Ingest, source: Source) -> AsyncIterator[None]:
    task = asyncio.create_task(ingest.run(source, SLOT))
    try:
        yield
        async with asyncio.timeout(10):
            await source.done.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("topic", "table"), [("rosfit/bot-1/telemetry", "telemetry"), ("rosfit/stranger/telemetry", "dead_letters")]
)
async def test_commit_whose_answer_is_lost_is_not_written_again(stores, topic, table):
    """For a message without id and time, and for a dead letter."""
    database, ingest = stores
    source = Source()
    source.deliver(1, ANONYMOUS, topic)
    database.lost_answers = 1
    async with running(ingest, source):
        pass
    assert database.lost_answers == 0
    assert await database.rows(f"SELECT count(*) FROM {table}") == [(1,)]


@pytest.mark.parametrize("payload", [ANONYMOUS, b'{"message_id":"m","payload":{"x":1}}'])
async def test_redelivery_after_a_death_between_commit_and_acknowledgement(stores, payload):
    """The next process knows what has no time by its mark."""
    database, ingest = stores
    first, second = Source(), Source()
    first.deliver(1, payload)
    async with running(ingest, first):
        pass
    second.deliver(1, payload, dup=True)
    async with running(ingest, second):
        pass
    assert await database.rows("SELECT count(*) FROM telemetry") == [(1,)]


async def test_the_same_words_said_anew_are_another_sample(stores):
    database, ingest = stores
    for packet_id in (1, 2):
        source = Source()
        source.deliver(packet_id, ANONYMOUS)
        async with running(ingest, source):
            pass
    assert await database.rows("SELECT count(*) FROM telemetry") == [(2,)]


async def test_what_is_told_live_keeps_its_order_from_the_first_sample_on(stores):
    """The second arrives while nobody knows the device yet, the third when the first has been committed."""
    database, ingest = stores
    told: list[bytes] = []
    database.feed.subscribe("telemetry", "bot-1", lambda event: told.append(event.data))
    source = Source(messages=3)
    database.meanwhile = [partial(source.arrives, number, b'{"n":%d}' % number) for number in (2, 3)]
    source.deliver(1, b'{"n":1}')
    async with running(ingest, source):
        pass
    assert [msgspec.json.decode(data)["payload"]["n"] for data in told] == [1, 2, 3]


async def test_a_row_that_postgres_refuses_is_alone_a_dead_letter(stores):
    database, ingest = stores
    source = Source(messages=10)
    payloads = [b'{"n":%d}' % number for number in range(9)] + [b'{"text":"a\\u0000b"}']
    for packet_id, payload in enumerate(payloads, 1):
        source.deliver(packet_id, payload)
    async with running(ingest, source):
        pass
    assert await database.rows("SELECT count(*) FROM telemetry") == [(9,)]
    assert await database.rows("SELECT reason FROM dead_letters") == [("not_storable",)]


async def test_a_fault_of_ours_costs_one_message(stores, monkeypatch):
    """An error that nobody expects becomes a dead letter that can be replayed; the stream goes on."""
    database, ingest = stores
    add = Batch.add

    def fails_for_one(batch, parsed):
        if b"poison" in parsed.incoming.payload:
            raise RuntimeError("a fault")
        add(batch, parsed)

    monkeypatch.setattr(Batch, "add", fails_for_one)
    source = Source(messages=5)
    for packet_id in range(1, 6):
        source.deliver(packet_id, b'{"poison":1}' if packet_id == 3 else ANONYMOUS)
    async with running(ingest, source):
        pass
    assert await database.rows("SELECT count(*) FROM telemetry") == [(4,)]
    assert await database.rows("SELECT detail FROM dead_letters") == [("RuntimeError: a fault",)]


async def test_who_lost_the_slot_cannot_commit_marks(stores):
    """The fence between a process that does not know yet that it lost its lease, and the next one."""
    database, _ = stores
    old, new = Marks(SLOT), Marks(SLOT)
    for marks in (old, new):
        async with database.open_work() as work:
            await marks.claim(work)
    parsed = DECODER.decode(Incoming("rosfit/bot-1/telemetry", ANONYMOUS, 1, packet_id=7))
    with pytest.raises(SlotTakenError):
        async with database.open_work() as work:
            await old.write(work, [parsed], 7)
    async with database.open_work() as work:
        await new.write(work, [parsed], 7)
    assert new.has(parsed)


def incoming(packet_id: int, payload: bytes, qos: int = 1, session: int = 1, dup: bool = False) -> Incoming:
    return Incoming("rosfit/bot-1/telemetry", payload, qos, dup=dup, packet_id=packet_id, session=session)


async def test_redelivery_takes_the_place_of_what_waits():
    """However often the connection breaks, nothing piles up, and the newest delivery is the one acknowledged."""
    pending = Pending()
    assert pending.add(DECODER.decode(incoming(1, ANONYMOUS)))
    for session in (2, 3, 4):
        assert not pending.add(DECODER.decode(incoming(1, ANONYMOUS, session=session, dup=True)))
    # The same packet id for something else is a new message: the broker has lost its session.
    assert pending.add(DECODER.decode(incoming(1, b'{"x":2}', session=5)))
    taken = await pending.take(10, 1000)
    assert [(one.incoming.session, one.incoming.payload) for one in taken] == [(4, ANONYMOUS), (5, b'{"x":2}')]
    assert (len(pending), pending.bytes) == (0, 0)


async def test_small_messages_count_with_what_they_take():
    """A million tiny QoS 0 messages on as many topics stay within the limit of memory, too."""
    pending = Pending(bytes_limit=100_000)
    for number in range(2_000):
        message = Incoming(f"rosfit/bot-1/telemetry/{number}", b"{}", 0)
        pending.add(DECODER.decode(message))
    assert len(pending) < 120
    assert pending.bytes <= 100_000
    assert pending.dropped == 2_000 - len(pending)
