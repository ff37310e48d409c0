"""Durable changes of shadows a second: reported over MQTT until the device has its answer, desired over REST."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import aiomqtt

from rosfit.infra.mqtt import make_client
from tests.bench import serving
from tests.bench.latency import Quantiles
from tests.e2e.site import Site

DEVICES = [f"shade-{number:02d}" for number in range(50)]
# Reports on their way at a time, flat out.
WINDOW = 500
# Half of what is wanted.
STEADY_PER_S = 750


@dataclass
class Figures:
    """Reports that were answered, which RosFit does after the commit; milliseconds at STEADY_PER_S; PATCHes."""

    mqtt_per_s: float
    answer: Quantiles
    rest_per_s: float


async def measure(site: Site, seconds: float) -> Figures:
    site.register(*DEVICES)
    async with make_client(site.mqtt_url, "bench-shadows") as client:
        await client.subscribe("rosfit/+/shadow/reported/+", qos=1)
        reporter = _Reporter(client)
        listening = asyncio.create_task(reporter.listen())
        flat_out = await reporter.flat_out(seconds)
        answered = await reporter.steady(STEADY_PER_S, seconds)
        listening.cancel()
    desired: dict[str, Any] = {"state": {"nav": {"speed": 1.5}}}
    rest = await serving.requests_per_s(site, f"/api/v1/shadow/{DEVICES[0]}/desired", seconds, desired, "PATCH")
    return Figures(flat_out, Quantiles.of(answered), rest)


class _Reporter:
    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._sent: dict[str, float] = {}
        self._took: list[float] = []
        self._room = asyncio.Semaphore(WINDOW)

    async def listen(self) -> None:
        async for message in self._client.messages:
            assert isinstance(message.payload, bytes)
            answer = json.loads(message.payload)
            assert str(message.topic).endswith("accepted"), answer
            self._took.append(1000 * (time.perf_counter() - self._sent.pop(answer["client_token"])))
            self._room.release()

    async def _report(self, number: int) -> None:
        state = {"nav": {"speed": number % 7, "mode": "slow"}, "count": number}
        token = str(number)
        report = json.dumps({"state": state, "client_token": token, "seq": number})
        self._sent[token] = time.perf_counter()
        # QoS 0 on this side: what is timed is RosFit, and every report is answered or the bench stands still.
        await self._client.publish(f"rosfit/{DEVICES[number % len(DEVICES)]}/shadow/reported", report, qos=0)

    async def flat_out(self, seconds: float) -> float:
        began = time.perf_counter()
        number = 0
        while time.perf_counter() - began < seconds:
            await self._room.acquire()
            number += 1
            await self._report(number)
        await self._all_answered()
        return number / (time.perf_counter() - began)

    async def steady(self, per_s: float, seconds: float) -> list[float]:
        self._took.clear()
        began = time.perf_counter()
        for number in range(1, int(per_s * seconds) + 1):
            await asyncio.sleep(max(0.0, began + number / per_s - time.perf_counter()))
            await self._report(10_000_000 + number)
        await self._all_answered()
        return self._took

    async def _all_answered(self) -> None:
        async with asyncio.timeout(30):
            while self._sent:
                await asyncio.sleep(0.001)
