"""One connection of the load publisher: a window of unacknowledged messages, and what happens when it breaks."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from typing import cast

from rosfit.sim.accounts import RobotAccount
from tests.load import wire
from tests.load.plan import Load, Result
from tests.load.writer import Writer

# Silence of the broker with messages in flight that means the connection is dead without saying so.
STALL_S = 10.0
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 1.0
BAD_CREDENTIALS = {0x86, 0x87, 0x8A}

_Sample = tuple[Writer, int, bytes]


class Lane(asyncio.Protocol):
    """Sends what it owes as far as the window allows, in order, until all of it is acknowledged."""

    def __init__(self, load: Load, result: Result, number: int, accounts: Sequence[RobotAccount]) -> None:
        self._load, self._result, self._number, self._account = load, result, number, accounts[0]
        self._writers = [Writer(load, result.devices[account.device_id]) for account in accounts]
        self._turn = 0
        self._owed = 0
        self._finishing = self._open = self._was_open = self._writable = False
        self._pending: dict[int, _Sample] = {}
        self._again: deque[_Sample] = deque()
        self._free: deque[int] = deque(range(1, load.inflight + 1))
        self._window = load.inflight
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._heard_at = 0.0
        loop = asyncio.get_running_loop()
        self._lost = loop.create_future()
        self.ready: asyncio.Future[None] = loop.create_future()

    def owe(self, count: int) -> None:
        self._owed += count
        self.pump()

    def finish(self, *, cut: bool) -> None:
        """Nothing more will be owed; with `cut` forget what is owed and not yet sent."""
        self._finishing = True
        if cut:
            self._owed = 0
        self._end_if_done()

    async def run(self) -> None:
        """Stay connected until everything owed is acknowledged. Raises WireError on a bad credential."""
        delay = FIRST_RETRY_S
        while not self._done():
            was_open = await self._connection()
            if self._done():
                break
            self._result.reconnects += 1
            delay = FIRST_RETRY_S if was_open else min(delay * 1.5, LAST_RETRY_S)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))

    async def _connection(self) -> bool:
        """One connection, from open to lost; whether the broker ever accepted it."""
        loop = asyncio.get_running_loop()
        self._lost = loop.create_future()
        self._was_open = False
        try:
            await loop.create_connection(lambda: self, self._load.host, self._load.port)
        except OSError:
            return False
        watch = asyncio.create_task(self._watch())
        try:
            await self._lost
        finally:
            watch.cancel()
            self._abort()
        return self._was_open

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(STALL_S / 4)
            if (self._pending or not self._open) and time.perf_counter() - self._heard_at > STALL_S:
                self._abort()

    def _abort(self) -> None:
        if self._transport:
            self._transport.abort()

    def _done(self) -> bool:
        return self._finishing and not (self._owed or self._pending or self._again)

    def _end_if_done(self) -> None:
        if self._open and self._transport and self._done():
            self._open = False
            self._transport.write(wire.END)
            self._transport.close()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since uvloop's transports do not inherit from asyncio's.
        transport = self._transport = cast(asyncio.Transport, transport)
        self._writable, self._heard_at = True, time.perf_counter()
        self._buffer.clear()
        if sock := transport.get_extra_info("socket"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=1 << 18)
        client_id = f"load-{self._load.run}-{os.getpid()}-{self._number}"
        transport.write(wire.connect(client_id, self._account.username, self._account.password))

    def connection_lost(self, exc: Exception | None) -> None:
        self._open, self._transport = False, None
        # In the order in which they were first sent, before anything new.
        self._result.resent += len(self._pending)
        self._again.extendleft(reversed(self._pending.values()))
        self._free.extend(self._pending)
        self._pending.clear()
        if not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self.pump()

    def data_received(self, data: bytes) -> None:
        self._heard_at = time.perf_counter()
        if self._buffer or not self._all_plain_acks(data):
            self._buffer += data
            for first, body in wire.packets(self._buffer):
                self._take(first & 0xF0, body)
        self.pump()

    def _all_plain_acks(self, data: bytes) -> bool:
        """A read full of 4-byte PUBACKs, which is nearly every read, is taken in one stride."""
        count, rest = divmod(len(data), 4)
        if rest or data[0::4].count(b"\x40") != count or data[1::4].count(b"\x02") != count:
            return False
        for packet_id in struct.unpack(f">{2 * count}H", data)[1::2]:
            self._acknowledged(packet_id, 0)
        return True

    def _take(self, kind: int, body: memoryview) -> None:
        if kind == wire.PUBACK:
            self._acknowledged(int.from_bytes(body[:2], "big"), body[2] if len(body) > 2 else 0)
        elif kind == wire.CONNACK:
            self._accepted(body)

    def _accepted(self, body: memoryview) -> None:
        try:
            self._window = min(self._load.inflight, wire.receive_maximum_of(body))
        except wire.WireError as error:
            if body[1] in BAD_CREDENTIALS:
                self._give_up(error)
            return self._abort()
        self._open = self._was_open = True
        if not self.ready.done():
            self.ready.set_result(None)
        return None

    def _give_up(self, error: wire.WireError) -> None:
        for future in (self._lost, self.ready):
            if not future.done():
                future.set_exception(error)

    def _acknowledged(self, packet_id: int, reason: int) -> None:
        sample = self._pending.pop(packet_id, None)
        if sample is None:
            return
        self._free.append(packet_id)
        if reason < 0x80:
            sample[0].device.acked.append(sample[1])
        else:
            sample[0].device.refused[sample[1]] = reason

    def pump(self) -> None:
        """Send as much of what is owed as window and socket take."""
        while self._open and self._writable and self._transport:
            batch = self._batch_qos1() if self._load.qos else self._batch_qos0()
            if not batch:
                break
            self._transport.write(b"".join(batch))
        self._end_if_done()

    def _batch_qos1(self) -> list[bytes]:
        batch: list[bytes] = []
        room = self._window - len(self._pending)
        while room > 0 and self._again:
            batch.append(self._in_flight(*self._again.popleft()))
            room -= 1
        fresh = min(room, self._owed)
        for _ in range(fresh):
            writer = self._next_writer()
            batch.append(self._in_flight(writer, *writer.next()))
        self._count(fresh)
        return batch

    def _in_flight(self, writer: Writer, seq: int, payload: bytes) -> bytes:
        packet_id = self._free.popleft()
        self._pending[packet_id] = (writer, seq, payload)
        return writer.frame(packet_id, payload)

    def _batch_qos0(self) -> list[bytes]:
        count = min(self._owed, 200)
        self._count(count)
        writers = [self._next_writer() for _ in range(count)]
        return [writer.frame(0, writer.next()[1]) for writer in writers]

    def _count(self, fresh: int) -> None:
        self._owed -= fresh
        self._result.sent += fresh

    def _next_writer(self) -> Writer:
        writer = self._writers[self._turn]
        self._turn = (self._turn + 1) % len(self._writers)
        return writer
