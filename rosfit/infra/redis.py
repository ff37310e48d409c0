"""Redis: newest values, frames, shadows, rate limits, and live events between replicas. All of it can be rebuilt."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from rosfit.infra.request_counter import RequestCounter
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.feed import Event, Feed
from rosfit.kernel.ids import uuid7
from rosfit.kernel.loops import run_together

log = structlog.get_logger(__name__)

# Followed by the run id of the server: one that was restarted may have read back a snapshot of long ago.
_LATEST = "rosfit:latest:"
_TIMES = "rosfit:latest-times:"
_SHADOW = "rosfit:shadow:"
_FRAME = "rosfit:frame:"
_FRAMES = "rosfit:frames:"
_FEED = "rosfit:feed"

# A shadow that a server without a way to Redis has changed is out of date here for at most so long.
SHADOW_TTL_S = 60

# Longer than a commit takes; a process that died before it put what it had claimed leaves it to the next reader.
CLAIM_TTL_S = 30

FRAME_TTL_S = 7 * 86_400

# A device that makes up names without end has its list forgotten; the frames stay where they are.
FRAME_NAMES_LIMIT = 256

# Keeps newer samples only. KEYS are value hash and time hash in turn, ARGV stream, time, JSON in turn.
# A device whose hash is missing is left alone: it is rebuilt from the database, whole, when somebody asks.
_PUT_LATEST = """
for i = 1, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local a = (i - 1) / 2 * 3
    local known = redis.call('HGET', KEYS[i + 1], ARGV[a + 1])
    if not known or tonumber(known) <= tonumber(ARGV[a + 2]) then
      redis.call('HSET', KEYS[i], ARGV[a + 1], ARGV[a + 3])
      redis.call('HSET', KEYS[i + 1], ARGV[a + 1], ARGV[a + 2])
    end
  end
end
"""

# ARGV is the claim and its time to live.
_CLAIM_SHADOWS = """
for _, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[1], 'EX', ARGV[2])
end
"""

# ARGV is the claim, the time to live, and one document for each of KEYS.
_PUT_SHADOWS = """
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then
    redis.call('SET', key, ARGV[i + 2], 'EX', ARGV[2])
  else
    redis.call('DEL', key)
  end
end
"""

# Fields that no stream can be called: a rebuild has begun (so that new samples are taken), and is complete.
_BEGUN, _COMPLETE = "\x1fbegun", "\x1fcomplete"


@contextmanager
def _available() -> Any:
    try:
        yield
    except (RedisError, OSError) as error:
        raise UnavailableError(f"Redis does not answer ({error})") from error


def _run_id_of(info: bytes) -> str:
    """From the answer to INFO; every run of a server makes up its own."""
    found = re.search(rb"^run_id:(\w+)", info, re.MULTILINE)
    return found[1].decode() if found else "unknown"


class RedisStore:
    """Implements `HotStore`."""

    def __init__(self, url: str) -> None:
        self._redis: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=2,
            socket_connect_timeout=2,
            health_check_interval=15,
            # What fails is rebuilt or done without; trying again would hide that the server was restarted.
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=self._on_connect,
        )
        self._put_latest = self._redis.register_script(_PUT_LATEST)
        self._claim_shadows = self._redis.register_script(_CLAIM_SHADOWS)
        self._put_shadows = self._redis.register_script(_PUT_SHADOWS)
        self._requests = RequestCounter(self._redis)
        self._run_id = ""

    async def close(self) -> None:
        await self._redis.aclose()

    async def check(self) -> None:
        """Raises UnavailableError with why."""
        with _available():
            await self._redis.ping()

    async def _on_connect(self, connection: Any) -> None:
        """Learn whom this connection leads to. Fails once after a restart, for what was asked of the old server."""
        await connection.on_connect()
        await connection.send_command("INFO", "server", check_health=False)
        run_id = _run_id_of(await connection.read_response())
        known, self._run_id = self._run_id, run_id
        if known not in {"", run_id}:
            raise redis.ConnectionError("it was restarted")

    @contextmanager
    def _one_server(self) -> Any:
        """As `_available`, and all of it on the same run of the server."""
        run_id = self._run_id
        with _available():
            yield
        if run_id != self._run_id:
            raise UnavailableError("Redis was restarted")

    async def _ensure_known(self) -> None:
        if not self._run_id:
            await self.check()

    def _keys(self, device_id: str) -> tuple[str, str]:
        """The hash of values and the hash of times."""
        return f"{_LATEST}{self._run_id}:{device_id}", f"{_TIMES}{self._run_id}:{device_id}"

    async def put_latest(self, samples: Mapping[tuple[str, str], tuple[float, bytes]]) -> None:
        await self._ensure_known()
        keys: list[str] = []
        values: list[str | bytes | float] = []
        for (device_id, stream), (at, text) in samples.items():
            keys += self._keys(device_id)
            values += (stream, at, text)
        with self._one_server():
            await self._put_latest(keys=keys, args=values)

    async def latest(self, device_id: str) -> dict[str, bytes] | None:
        await self._ensure_known()
        with self._one_server():
            found: dict[bytes, bytes] = await self._redis.hgetall(self._keys(device_id)[0])  # type: ignore[assignment]
        if _COMPLETE.encode() not in found:
            return None
        return {stream.decode(): text for stream, text in found.items() if not stream.startswith(b"\x1f")}

    async def begin_rebuild(self, device_id: str) -> None:
        await self._ensure_known()
        with self._one_server():
            await self._redis.hset(self._keys(device_id)[0], _BEGUN, "")

    async def rebuild_latest(self, device_id: str, samples: Mapping[str, tuple[float, bytes]]) -> None:
        await self.put_latest({(device_id, stream): sample for stream, sample in samples.items()})
        with self._one_server():
            await self._redis.hset(self._keys(device_id)[0], _COMPLETE, "")

    async def forget_values(self) -> None:
        with _available():
            for kind in ("rosfit:latest*", f"{_SHADOW}*"):
                keys = [key async for key in self._redis.scan_iter(kind, count=1000)]
                for start in range(0, len(keys), 1000):
                    await self._redis.unlink(*keys[start : start + 1000])

    def _shadow_key(self, device_id: str, name: str) -> str:
        return f"{_SHADOW}{self._run_id}:{device_id}:{name}"

    async def shadow_or_claim(self, device_id: str, name: str, claim: str) -> bytes | None:
        await self._ensure_known()
        with self._one_server():
            key = self._shadow_key(device_id, name)
            # redis-py types SET as a bool; with `get` it answers with what was there.
            found: bytes | None = await self._redis.set(key, claim, nx=True, get=True, ex=CLAIM_TTL_S)  # type: ignore[assignment]
        # A document is an object, and a claim is not.
        return found if found is None or found.startswith(b"{") else b""

    async def claim_shadows(self, shadows: Sequence[tuple[str, str]], claim: str) -> None:
        await self._ensure_known()
        keys = [self._shadow_key(*key) for key in shadows]
        with self._one_server():
            await self._claim_shadows(keys, [claim, CLAIM_TTL_S])

    async def put_shadows(self, shadows: Mapping[tuple[str, str], bytes], claim: str) -> None:
        keys = [self._shadow_key(*key) for key in shadows]
        with self._one_server():
            await self._put_shadows(keys, [claim, SHADOW_TTL_S, *shadows.values()])

    async def put_frame(self, device_id: str, name: str, frame: bytes, about: bytes) -> None:
        known = f"{_FRAMES}{device_id}"
        with _available():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(f"{_FRAME}{device_id}:{name}", frame, ex=FRAME_TTL_S)
                pipe.hset(known, name, about)
                pipe.expire(known, FRAME_TTL_S)
                pipe.hlen(known)
                *_, names = await pipe.execute()
            if names > FRAME_NAMES_LIMIT:
                await self._redis.unlink(known)

    async def frames(self, device_id: str) -> dict[str, bytes]:
        with _available():
            found: dict[bytes, bytes] = await self._redis.hgetall(f"{_FRAMES}{device_id}")  # type: ignore[assignment]
        return {name.decode(): about for name, about in found.items()}

    async def frame(self, device_id: str, name: str) -> bytes | None:
        with _available():
            found: bytes | None = await self._redis.get(f"{_FRAME}{device_id}:{name}")  # type: ignore[assignment]
        return found

    async def count_request(self, key: str, limit: int) -> float:
        with _available():
            return await self._requests.count(key, limit)

    def replicas(self, feed: Feed) -> ReplicaFeed:
        return ReplicaFeed(self._redis, feed)


class ReplicaFeed:
    """Live events to and from the other processes on the same stores; silent while there are none."""

    FLUSH_S = 0.02
    QUEUE_LIMIT = 10_000

    def __init__(self, client: redis.Redis, feed: Feed) -> None:
        self._redis = client
        self._feed = feed
        self._me = uuid7().hex.encode()
        self._outgoing: list[Event] = []
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[Event]).decode

    async def run(self) -> None:
        """Until cancelled, over every loss of the connection."""
        while True:
            try:
                await run_together(self._listen(), self._look_for_others(), self._send())
            except (RedisError, OSError) as lost:
                log.debug("replica_feed_lost", why=str(lost))
            except Exception:
                log.exception("replica_feed_failed")
            self._feed.elsewhere = None
            self._outgoing.clear()
            await asyncio.sleep(1)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(_FEED)
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
                if message is None:
                    continue
                sender, _, events = message["data"].partition(b":")
                if sender != self._me:
                    for event in self._decode(events):
                        self._feed.deliver(event)

    async def _look_for_others(self) -> None:
        while True:
            (_, listeners), *_ = await self._redis.pubsub_numsub(_FEED)
            self._feed.elsewhere = self._offer if listeners > 1 else None
            await asyncio.sleep(1)

    def _offer(self, event: Event) -> None:
        if len(self._outgoing) < self.QUEUE_LIMIT:
            self._outgoing.append(event)

    async def _send(self) -> None:
        while True:
            await asyncio.sleep(self.FLUSH_S)
            if self._outgoing:
                events, self._outgoing = self._outgoing, []
                await self._redis.publish(_FEED, self._me + b":" + self._encode(events))


@contextlib.asynccontextmanager
async def open_store(url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(url)
    try:
        yield store
    finally:
        await store.close()
