"""Shadows are read from Redis, and never as they were before the last write."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from rosfit.infra.redis import RedisStore, open_store
from tests.e2e.site import Site
from tests.e2e.test_outages import answers
from tests.server import RunningServer, running_server, until
from tests.shadow.test_shadow import Shadowed, patch

ELSEWHERE = b'{"elsewhere":true}'


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as running:
        yield running


@pytest.fixture
async def store(server: RunningServer) -> AsyncIterator[RedisStore]:
    async with open_store(server.endpoints.redis_url) as opened:
        yield opened


def valkey(server: RunningServer) -> redis.Redis:
    return redis.Redis.from_url(server.endpoints.redis_url)


def key_of(server: RunningServer, device_id: str) -> bytes | None:
    return next(iter(valkey(server).scan_iter(f"rosfit:shadow:*:{device_id}:default")), None)


def desired(server: RunningServer, device_id: str) -> Any:
    return server.admin.got(f"/shadow/{device_id}")["state"].get("desired")


def test_a_shadow_is_read_from_redis_and_rebuilt_when_that_is_empty(server: RunningServer) -> None:
    server.admin.device("h-1")
    written = patch(server, "h-1", {"a": 1})
    key = key_of(server, "h-1")
    assert key is not None
    document = json.loads(valkey(server).get(key) or b"")
    assert document == written == server.admin.got("/shadow/h-1")
    valkey(server).set(key, json.dumps(document | {"version": 77}))
    assert server.admin.got("/shadow/h-1")["version"] == 77
    valkey(server).flushall()
    assert server.admin.got("/shadow/h-1") == written
    assert json.loads(valkey(server).get(key) or b"") == written


def test_a_device_without_a_shadow_is_nothing_to_keep(server: RunningServer) -> None:
    server.admin.device("h-2")
    for _ in range(2):
        assert server.admin.got("/shadow/h-2")["version"] == 0
    patch(server, "h-2", {"a": 1})
    assert desired(server, "h-2") == {"a": 1}


def test_reports_and_the_command_line_are_read_at_once(server: RunningServer) -> None:
    with Shadowed(server, "h-3") as device:
        patch(server, "h-3", {"a": 1})
        assert desired(server, "h-3") == {"a": 1}
        assert device.report({"a": 1})["row"] == "accepted"
        assert server.admin.got("/shadow/h-3")["state"]["reported"] == {"a": 1}
    command = [sys.executable, "-m", "rosfit.cli", "shadow", "set", "h-3", '{"a": 2}']
    subprocess.run([*command, "--data-dir", str(server.data_dir)], check=True, capture_output=True)
    assert desired(server, "h-3") == {"a": 2}


def test_what_is_written_while_redis_stands_still_is_read_afterwards(server: RunningServer) -> None:
    server.admin.device("h-4")
    patch(server, "h-4", {"a": 1})
    assert desired(server, "h-4") == {"a": 1}
    with Site(server).frozen("valkey"):
        patch(server, "h-4", {"a": 2})
        assert desired(server, "h-4") == {"a": 2}
    for _ in range(20):
        assert desired(server, "h-4") == {"a": 2}


def test_an_old_snapshot_of_redis_is_not_taken_for_the_last_write(server: RunningServer) -> None:
    server.admin.device("h-5")
    client = valkey(server)
    patch(server, "h-5", {"a": 1})
    client.save()
    patch(server, "h-5", {"a": 2})
    Site(server).kill("valkey")
    assert desired(server, "h-5") == {"a": 2}
    until(lambda: answers(client))
    assert desired(server, "h-5") == {"a": 2}


async def test_only_the_last_claim_puts(store: RedisStore) -> None:
    shadow = ("c-1", "default")
    assert await store.shadow_or_claim(*shadow, "reader") is None
    assert await store.shadow_or_claim(*shadow, "second reader") == b""
    await store.claim_shadows([shadow], "writer")
    # What the reader found may have been replaced since.
    await store.put_shadows({shadow: ELSEWHERE}, "reader")
    assert await store.shadow_or_claim(*shadow, "third reader") is None
    await store.put_shadows({shadow: ELSEWHERE}, "third reader")
    assert await store.shadow_or_claim(*shadow, "reader") == ELSEWHERE


async def test_a_writer_whose_claim_has_run_out_drops_what_came_after_it(store: RedisStore) -> None:
    shadow = ("c-2", "default")
    await store.claim_shadows([shadow], "writer")
    await store.forget_values()
    assert await store.shadow_or_claim(*shadow, "reader") is None
    await store.put_shadows({shadow: ELSEWHERE}, "reader")
    await store.put_shadows({shadow: b'{"new":true}'}, "writer")
    assert await store.shadow_or_claim(*shadow, "reader") is None
