"""A consumer that only counts: the upper limit against which durable ingest is measured.

    python -m tests.load.counter --messages 20000 --json

One durable QoS 1 session, acknowledging at once, with at most 1,000 messages in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import cast

import uvloop

from rosfit.protocol.topics import INGEST_FILTER
from tests.load import wire

RECEIVE_MAXIMUM = 1000
SESSION_EXPIRY_S = 3600


@dataclass
class Count:
    """`seconds` and `cpu_s` run from the first message to the last."""

    messages: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0

    def summary(self) -> dict[str, float]:
        rate = self.messages / self.seconds if self.seconds else 0.0
        cpu_us = 1e6 * self.cpu_s / self.messages if self.messages else 0.0
        return {
            "messages": self.messages,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "rate": round(rate, 1),
            "cpu_s": round(self.cpu_s, 3),
            "cpu_us_per_message": round(cpu_us, 2),
        }


class Counter(asyncio.Protocol):
    """Counts PUBLISH packets and acknowledges those of QoS 1. `subscribed` and `done` are futures."""

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        *,
        client_id: str = "load-counter",
        topic_filter: str = INGEST_FILTER,
        messages: int | None = None,
        qos: int = 1,
    ) -> None:
        self.count = Count()
        loop = asyncio.get_running_loop()
        self.subscribed: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self._credential = (username, password)
        self._client_id, self._filter, self._qos = client_id, topic_filter, qos
        self._messages = messages
        self._buffer = bytearray()
        self._started: tuple[float, float] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.write(
            wire.connect(
                self._client_id,
                *self._credential,
                clean_start=False,
                session_expiry_s=SESSION_EXPIRY_S,
                receive_maximum=RECEIVE_MAXIMUM,
            )
        )

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.subscribed, self.done):
            if not future.done():
                future.set_exception(wire.WireError(f"the broker closed the connection ({exc})"))

    def close(self) -> Count:
        """Leave, keeping the session at the broker."""
        if not self.done.done():
            self.done.set_result(None)
        self._transport.write(wire.END)
        self._transport.close()
        return self.count

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answers = []
        for first, body in wire.packets(self._buffer):
            kind = first & 0xF0
            if kind == wire.PUBLISH:
                answers.append(self._counted(first, body))
            elif kind == wire.CONNACK:
                self._connected(body)
            elif kind == wire.SUBACK and not self.subscribed.done():
                self._subscribed(body)
        if answers:
            self._transport.write(b"".join(answers))
            self._measure()

    def _counted(self, first: int, body: memoryview) -> bytes:
        if self._started is None:
            self._started = time.perf_counter(), time.process_time()
        self.count.messages += 1
        self.count.bytes += len(body)
        if not first & 0x06:
            return b""
        at = 2 + (body[0] << 8 | body[1])
        return b"\x40\x02%b" % bytes(body[at : at + 2])

    def _connected(self, body: memoryview) -> None:
        try:
            wire.receive_maximum_of(body)
        except wire.WireError as error:
            self.subscribed.set_exception(error)
            return
        self._transport.write(wire.subscribe(1, self._filter, self._qos))

    def _subscribed(self, suback: memoryview) -> None:
        reason = suback[-1]
        if reason < 0x80:
            self.subscribed.set_result(None)
        else:
            text = f"the broker refused to subscribe to {self._filter}: reason code 0x{reason:02x}"
            self.subscribed.set_exception(wire.WireError(text))

    def _measure(self) -> None:
        assert self._started
        self.count.seconds = time.perf_counter() - self._started[0]
        self.count.cpu_s = time.process_time() - self._started[1]
        if self._messages is not None and self.count.messages >= self._messages and not self.done.done():
            self.done.set_result(None)


async def connect_counter(url: str, **options: object) -> Counter:
    """A counter that is subscribed. `options` are those of `Counter`."""
    host, port, user, password = wire.parse_url(url)
    loop = asyncio.get_running_loop()
    _, counter = await loop.create_connection(
        lambda: Counter(user, password, **options),  # type: ignore[arg-type]
        host,
        port,
    )
    await counter.subscribed
    return counter


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", help="mqtt://user:password@host:port (better: ROSFIT_MQTT_URL)")
    parser.add_argument("--filter", default=INGEST_FILTER)
    parser.add_argument("--client-id", default="load-counter")
    parser.add_argument("--messages", type=int, help="end after so many")
    parser.add_argument("--duration", type=float, help="end after so many seconds")
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1)
    parser.add_argument("--json", action="store_true", help="the same line; for symmetry with the publisher")
    return parser.parse_args()


async def _main(arguments: argparse.Namespace) -> int:
    url = arguments.url or os.environ.get("ROSFIT_MQTT_URL", "mqtt://127.0.0.1:1883")
    counter = await connect_counter(
        url,
        client_id=arguments.client_id,
        topic_filter=arguments.filter,
        messages=arguments.messages,
        qos=arguments.qos,
    )
    print("subscribed", file=sys.stderr, flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([stopped, counter.done], timeout=arguments.duration, return_when=asyncio.FIRST_COMPLETED)
    print(json.dumps(counter.close().summary()))
    return 0 if arguments.messages is None or counter.count.messages >= arguments.messages else 1


if __name__ == "__main__":
    sys.exit(uvloop.run(_main(_arguments())))
