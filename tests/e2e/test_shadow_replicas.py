"""Two servers write the same shadows at once: nothing is lost, and nobody reads what was before his write."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import redis

from tests.e2e.site import Site
from tests.e2e.test_replicas import start, stores
from tests.server import Client, RunningServer, until

SHADOWS = [f"bot-{number}" for number in range(10)]
WRITERS = 20
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
def folders() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Writers:
    """Each patch sets a key of its own; the numbers of those that were answered are in `done`."""

    def __init__(self, servers: list[RunningServer], patches: int) -> None:
        self._servers = servers
        self._token = servers[0].admin.token
        self._patches = patches
        self._here = threading.local()
        self.done: set[int] = set()

    def run(self) -> None:
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(self._write, range(self._patches)))

    def _write(self, number: int) -> None:
        device_id = SHADOWS[number % len(SHADOWS)]
        body = json.dumps({f"k{number}": number})
        self._ask(number, "PATCH", f"/shadow/{device_id}/desired", content=body, headers=MERGE)
        # On the other server, if it lives.
        read = self._ask(number + 1, "GET", f"/shadow/{device_id}")
        assert read["state"]["desired"][f"k{number}"] == number
        self.done.add(number)

    def _ask(self, turn: int, method: str, path: str, **options: Any) -> Any:
        """From one server, or from the other when that one is dead: the patch may have been committed all the same."""
        for attempt in range(turn, turn + len(self._servers)):
            try:
                answer = self._client(attempt % len(self._servers)).request(method, path, **options)
            except httpx.TransportError:
                continue
            assert answer.status_code == 200, answer.text
            return answer.json()
        raise AssertionError(f"no server answered {method} {path}")

    def _client(self, which: int) -> Client:
        clients = self._here.__dict__.setdefault("clients", {})
        return clients.setdefault(which, Client(self._servers[which].url, self._token))


@pytest.mark.parametrize("patches", [100, pytest.param(1_000, marks=pytest.mark.full)])
async def test_no_patch_is_lost_over_a_flush_and_a_kill(folders, patches):
    async with stores() as endpoints:
        servers = [await start(folders, endpoints, 1, ROSFIT_RATE_LIMIT_PER_S="100000") for _ in range(2)]
        site = Site(servers[0], endpoints)
        site.register(*SHADOWS)
        writers = Writers(servers, patches)
        writing = asyncio.create_task(asyncio.to_thread(writers.run))
        await asyncio.to_thread(until, lambda: len(writers.done) > patches // 4 or writing.done(), 60)
        redis.Redis.from_url(endpoints.redis_url).flushall()
        await asyncio.to_thread(until, lambda: len(writers.done) > patches // 2 or writing.done(), 60)
        servers[0].process.kill()
        await writing
        assert len(writers.done) == patches
        history_is_whole(site, patches)
        survivor = Client(servers[1].url, servers[0].admin.token)
        for number, device_id in enumerate(SHADOWS):
            wanted = {f"k{key}": key for key in range(number, patches, len(SHADOWS))}
            assert survivor.got(f"/shadow/{device_id}")["state"]["desired"] == wanted
        await asyncio.to_thread(folders.close)


def history_is_whole(site: Site, patches: int) -> None:
    """Each version once, from the first to the current one; more than patches only where the kill hid the answer."""
    rows = site.rows(
        "SELECT s.version, array_agg(h.version ORDER BY h.version) FROM shadows s"
        " JOIN shadow_history h USING (device_id, name) GROUP BY s.device_id, s.name, s.version"
    )
    assert len(rows) == len(SHADOWS)
    assert all(versions == list(range(1, newest + 1)) for newest, versions in rows)
    assert patches <= sum(newest for newest, _ in rows) <= patches + WRITERS
