"""Load: many small samples over few CPU cycles, and the exact set of those the broker acknowledged.

    python -m tests.load.publisher --devices d1,d2 --messages 20000 --rate 12000 --qos 1 --json

A message that is not acknowledged when the broker goes away is sent again with the very same bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from rosfit.sim.accounts import RobotAccount
from tests.load import wire
from tests.load.lane import Lane
from tests.load.plan import Device, Load, Result, new_run

TICK_S = 0.002
CONNECT_TIMEOUT_S = 30.0
# More than any run can send: flat out for a time.
_WITHOUT_END = 1 << 40


class Publisher:
    """Runs one `Load`; `result` can be read while it runs. Make it inside the event loop."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.result = Result(load.run, load.qos, {a.device_id: Device(a.device_id) for a in load.accounts})
        self._lanes = [Lane(load, self.result, number, group) for number, group in enumerate(_groups(load))]
        self._turn = 0
        self._stopping = False

    def stop(self) -> None:
        """Send nothing new; `run` returns when what is in flight has been acknowledged."""
        self._stopping = True

    async def run(self) -> Result:
        """Connect, send, wait for the acknowledgements, at most `drain_timeout_s` after the last message."""
        tasks = [asyncio.create_task(lane.run()) for lane in self._lanes]
        try:
            await self._connected()
            started, cpu = time.perf_counter(), time.process_time()
            await self._deal()
            await asyncio.wait(tasks, timeout=self._load.drain_timeout_s)
            self.result.seconds = time.perf_counter() - started
            self.result.cpu_s = time.process_time() - cpu
        finally:
            await _end(tasks)
        return self.result

    async def _connected(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.gather(*(lane.ready for lane in self._lanes))
        except TimeoutError as error:
            where = f"{self._load.host}:{self._load.port}"
            raise wire.WireError(
                f"not every connection to {where} stood after {CONNECT_TIMEOUT_S:.0f} s: is the broker running?"
            ) from error

    async def _deal(self) -> None:
        """Hand messages out to the connections in turn, as the rate makes them due."""
        load, started, dealt = self._load, time.perf_counter(), 0
        while not self._stopping and (load.messages is None or dealt < load.messages):
            elapsed_s = time.perf_counter() - started
            if load.duration_s and elapsed_s >= load.duration_s:
                break
            due = self._due(elapsed_s, dealt)
            self._hand_out(due)
            dealt += due
            await asyncio.sleep(TICK_S)
        for lane in self._lanes:
            lane.finish(cut=dealt != load.messages)

    def _due(self, elapsed_s: float, dealt: int) -> int:
        wanted = int(self._load.rate * elapsed_s) if self._load.rate else _WITHOUT_END
        return (wanted if self._load.messages is None else min(wanted, self._load.messages)) - dealt

    def _hand_out(self, due: int) -> None:
        each, rest = divmod(due, len(self._lanes))
        if each:
            for lane in self._lanes:
                lane.owe(each)
        for _ in range(rest):
            self._lanes[self._turn].owe(1)
            self._turn = (self._turn + 1) % len(self._lanes)


async def publish(load: Load) -> Result:
    return await Publisher(load).run()


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel what still runs and pass on the first failure."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


def _groups(load: Load) -> list[Sequence[RobotAccount]]:
    """The accounts of each connection: one each, or those that share a credential dealt over `connections`."""
    count = load.connections or len(load.accounts)
    if count >= len(load.accounts):
        return [[account] for account in load.accounts]
    if len({(account.username, account.password) for account in load.accounts}) > 1:
        raise ValueError("devices with credentials of their own need one connection each")
    return [load.accounts[number::count] for number in range(count)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", help="mqtt://user:password@host:port (better: ROSFIT_MQTT_URL)")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--devices", help="d1,d2 or d%%03d:100; all with the credential of the address")
    who.add_argument("--accounts", type=Path, help="JSON list of {device_id, username, password}")
    parser.add_argument("--messages", type=int, help="over all devices")
    parser.add_argument("--duration", type=float, help="seconds, instead of or besides --messages")
    parser.add_argument("--rate", type=float, help="messages/s over all devices; flat out without")
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1)
    parser.add_argument("--size", type=int, default=300, help="bytes of an envelope")
    parser.add_argument("--inflight", type=int, default=200, help="unacknowledged messages per connection")
    parser.add_argument("--connections", type=int, help="fewer than devices; needs a shared credential")
    parser.add_argument("--stream", default="load")
    parser.add_argument("--run", default=new_run(), help="start of every message_id")
    parser.add_argument("--drain-timeout", type=float, default=60.0, help="seconds for the last answers")
    parser.add_argument("--json", action="store_true", help="the whole result instead of one line")
    return parser.parse_args()


def _load(arguments: argparse.Namespace) -> Load:
    url = arguments.url or os.environ.get("ROSFIT_MQTT_URL", "mqtt://127.0.0.1:1883")
    host, port, user, password = wire.parse_url(url)
    if arguments.accounts:
        accounts = msgspec.json.decode(arguments.accounts.read_bytes(), type=list[RobotAccount])
    else:
        accounts = [RobotAccount(name, user, password) for name in device_names(arguments.devices)]
    return Load(
        host, port, accounts, arguments.messages, arguments.duration, arguments.rate, arguments.qos,
        arguments.size, arguments.inflight, arguments.connections, arguments.stream, arguments.run,
        arguments.drain_timeout,
    )  # fmt: skip


def device_names(text: str) -> list[str]:
    """`d1,d2` as it stands; `bench-%03d:100` as bench-001 … bench-100."""
    pattern, _, count = text.partition(":")
    return [pattern % number for number in range(1, int(count) + 1)] if count else text.split(",")


async def _main(arguments: argparse.Namespace) -> int:
    publisher = Publisher(_load(arguments))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, publisher.stop)
    result = await publisher.run()
    summary = result.summary()
    if not arguments.json:
        del summary["devices"]
    print(json.dumps(summary))
    return 0 if result.complete else 1


if __name__ == "__main__":
    sys.exit(uvloop.run(_main(_arguments())))
