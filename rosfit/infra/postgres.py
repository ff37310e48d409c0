"""PostgreSQL: the pool, and the lock that elects one process for a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.pq import ConnStatus
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from rosfit.kernel.errors import InvalidError, UnavailableError

Pool = AsyncConnectionPool[AsyncConnection[TupleRow]]

# Advisory lock keys; any two different numbers do.
MIGRATION_LOCK = 7_201_001
PERIODIC_LOCK = 7_201_002
DISPATCH_LOCK = 7_201_004
UPDATES_LOCK = 7_201_006
SLOT_LOCK = 7_201_100  # and the slot's number

LOCK_RETRY_S = 1.0
RECONNECT_FOR_S = 3.0

# A partner that vanished without a word is noticed, by either side of a lock, within half a minute.
_LOCK_OPTIONS: dict[str, str | int] = {
    "application_name": "rosfit-lock",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


async def _configure(connection: AsyncConnection[TupleRow]) -> None:
    await connection.execute("SET TIME ZONE 'UTC'")
    await connection.commit()


def make_pool(url: str, *, min_size: int = 2, max_size: int = 16, timeout_s: float = 10.0) -> Pool:
    """A pool that is opened by `async with`; connections answer in UTC. `timeout_s` is for a free one."""
    return AsyncConnectionPool(
        url,
        min_size=min_size,
        max_size=max_size,
        open=False,
        timeout=timeout_s,
        configure=_configure,
        check=AsyncConnectionPool.check_connection,
        kwargs={"application_name": "rosfit", "connect_timeout": 5},
        # The pool doubles its pauses between attempts: after an outage of minutes it would stay away for minutes more.
        # Whoever asks next begins anew.
        reconnect_timeout=RECONNECT_FOR_S,
    )


def make_ingest_pool(url: str, slots: int) -> Pool:
    """Connections for the ingest alone: nobody's slow question holds it up.

    libpq keeps a buffer as large as the largest statement it sent, and batches are megabytes: one connection a slot
    swells by them, where all of the other pool would in turn.
    """
    # Nobody else asks here, so nobody else would have a connection made that the pool has given up.
    return make_pool(url, min_size=slots, max_size=slots, timeout_s=RECONNECT_FOR_S)


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[AsyncConnection[TupleRow]]:
    """One unit of work: commits at the end, rolls back on an error.

    Raises UnavailableError without a server, and InvalidError for a value that no column can hold.
    """
    try:
        async with pool.connection() as connection:
            yield connection
    except psycopg.DataError as error:
        raise InvalidError(f"A value cannot be stored or compared: {error.diag.message_primary or error}") from error
    except (PoolTimeout, psycopg.OperationalError, psycopg.InterfaceError, ReadOnlySqlTransaction) as error:
        raise UnavailableError(f"PostgreSQL does not answer ({error}); try again shortly") from error


@asynccontextmanager
async def session_lock(url: str, key: int) -> AsyncIterator[asyncio.Future[None]]:
    """Wait for an advisory lock and hold it on a connection of its own.

    Yields a future that fails with UnavailableError when the connection, and so the lock, is lost.
    """
    try:
        connection = await AsyncConnection.connect(make_conninfo(url, **_LOCK_OPTIONS), autocommit=True)
    except psycopg.OperationalError as error:
        raise UnavailableError(f"PostgreSQL does not answer ({error})") from error
    async with connection:
        try:
            while not await _try_lock(connection, key):
                await asyncio.sleep(LOCK_RETRY_S)
        except psycopg.OperationalError as error:
            raise UnavailableError(f"PostgreSQL went away ({error})") from error
        watch = asyncio.ensure_future(_watch(connection))
        try:
            yield watch
        finally:
            watch.cancel()


async def _try_lock(connection: AsyncConnection[TupleRow], key: int) -> bool:
    row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", [key])).fetchone()
    return bool(row and row[0])


async def _watch(connection: AsyncConnection[TupleRow]) -> None:
    """Until the connection is lost. It is idle, so whatever arrives is notice of its end, or harmless.

    Nothing is asked: a server that stands still would not answer, but it keeps the lock, too.
    """
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection.fileno(), readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            connection.pgconn.consume_input()
            if connection.pgconn.status != ConnStatus.OK:
                raise UnavailableError("the lock's connection is gone")
    except psycopg.Error as error:
        raise UnavailableError(f"the lock's connection is gone ({error})") from error
    finally:
        if not connection.closed:
            loop.remove_reader(connection.fileno())


async def notifications(url: str, channel: str, every_s: float) -> AsyncIterator[None]:
    """Yields at once, on each notification of `channel`, and at least every `every_s`; over every loss."""
    while True:
        try:
            async with await AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                while True:
                    yield
                    async for _ in connection.notifies(timeout=every_s, stop_after=1):
                        pass
        except psycopg.OperationalError:
            await asyncio.sleep(LOCK_RETRY_S)
