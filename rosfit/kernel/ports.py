"""What the domain and the handler need from outside. Adapters live in `infra`; each has an in-memory twin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """One MQTT message as the broker handed it over, not acknowledged yet.

    `session` counts connections: a packet id means something only within the session that delivered it.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    session: int = 0
    content_type: str | None = None
    received_at: datetime | None = None


class MessageSource(Protocol):
    """A durable subscription. What `receive` gave stays the broker's until `acknowledge`."""

    @property
    def connected(self) -> bool: ...

    async def receive(self) -> list[Incoming]:
        """Wait for at least one message, then return all that wait."""
        ...

    def acknowledge(self, messages: Sequence[Incoming]) -> None:
        """Say that these are committed. Messages of an earlier session are passed over: they come again."""
        ...


class Publisher(Protocol):
    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: int | None = None,
        content_type: str | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
    ) -> None:
        """Return once the broker has acknowledged (QoS 1) or taken (QoS 0) it. Raises UnavailableError."""
        ...


class HotStore(Protocol):
    """What is hot and can be rebuilt. Every call may raise UnavailableError; callers fall back to the database."""

    async def put_latest(self, samples: Mapping[tuple[str, str], tuple[float, bytes]]) -> None:
        """Keep, per (device_id, stream), the newest of (Unix time of the sample, its JSON)."""
        ...

    async def latest(self, device_id: str) -> dict[str, bytes] | None:
        """The newest sample of every stream as JSON, or None when this device must be rebuilt."""
        ...

    async def begin_rebuild(self, device_id: str) -> None:
        """From now on `put_latest` counts for this device; call it before reading the database."""
        ...

    async def rebuild_latest(self, device_id: str, samples: Mapping[str, tuple[float, bytes]]) -> None:
        """Complete the rebuild with what the database has; newer samples that came meanwhile stay."""
        ...

    async def forget_values(self) -> None:
        """Drop every latest value and every shadow: they may be older than the database."""
        ...

    async def shadow_or_claim(self, device_id: str, name: str, claim: str) -> bytes | None:
        """The shadow as JSON; None when there was nothing and it is claimed now; empty while somebody claims it."""
        ...

    async def claim_shadows(self, shadows: Sequence[tuple[str, str]], claim: str) -> None:
        """Take these (device_id, name) away from readers, until `claim` puts them or half a minute is over."""
        ...

    async def put_shadows(self, shadows: Mapping[tuple[str, str], bytes], claim: str) -> None:
        """Put what `claim` still holds, and drop the rest: somebody else knew more, or something older."""
        ...

    async def put_frame(self, device_id: str, name: str, frame: bytes, about: bytes) -> None:
        """Keep the newest frame of a name, and beside it what lists say of it (JSON)."""
        ...

    async def frame(self, device_id: str, name: str) -> bytes | None: ...

    async def frames(self, device_id: str) -> dict[str, bytes]:
        """What `put_frame` was told about each name."""
        ...

    async def count_request(self, key: str, limit: int) -> float:
        """Count one request of `key` in a window of a second; 0 when allowed, else seconds to wait."""
        ...


class Upload(Protocol):
    """Bytes on their way into the store. Under their key there is nothing before `commit`, and all of it after."""

    async def write(self, data: bytes) -> None: ...

    async def commit(self) -> None:
        """Return once the bytes would survive the loss of power."""
        ...

    async def discard(self) -> None:
        """Keep nothing of it; after `commit` it does nothing."""
        ...


class ObjectStore(Protocol):
    """Bytes under unique, immutable keys. Every call may raise UnavailableError."""

    async def check(self) -> None:
        """Raise UnavailableError, with why, when the store cannot be used."""
        ...

    async def begin(self, key: str) -> Upload: ...

    def read(self, key: str, start: int, length: int) -> AsyncIterator[bytes]:
        """`length` bytes from `start`, in pieces."""
        ...

    async def delete(self, key: str) -> None:
        """And what is left of an upload that broke. One that is not there is no error."""
        ...

    async def presign(self, key: str, expires_s: int) -> str | None:
        """A URL that everybody who has it can download from until then; None where RosFit serves the bytes itself."""
        ...
