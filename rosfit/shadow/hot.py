"""Shadows as last written, in the hot store: whoever reads them there never gets one that a commit has replaced.

Only who has claimed a shadow may put it. A writer claims before it commits, so that nobody is told of what is about to
be replaced, and puts afterwards; a reader who finds nothing claims, asks the database, and puts. A claim that came
later ends those before it. A process that dies between claim and put leaves a claim, which runs out: until then the
database answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import msgspec

from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.feed import Event
from rosfit.kernel.ids import uuid7
from rosfit.kernel.ports import HotStore
from rosfit.kernel.work import Work
from rosfit.shadow import service
from rosfit.shadow.models import Shadow
from rosfit.shadow.repository import Key

# A hot store that stands still must hold up neither reports nor people: it answers in a millisecond, or is left alone.
# A server with more work than processors must not take its own delays for that: it would write without a claim.
ANSWER_WITHIN_S = 1.0
LEFT_ALONE_S = 5.0


class Claim(NamedTuple):
    """Shadows that are about to be committed, as JSON. `taken` is false where the hot store did not answer."""

    id: str
    shadows: Mapping[Key, bytes]
    taken: bool = True


_decode = msgspec.json.Decoder(Shadow).decode


class HotShadows:
    """`distrust` has everything in the hot store forgotten as soon as it can be reached."""

    def __init__(self, hot: HotStore, distrust: Callable[[], None]) -> None:
        self._hot = hot
        self._distrust = distrust
        self._left_alone_until = 0.0

    async def get(self, work: Work, device_id: str, name: str) -> Shadow:
        claim = uuid7().hex
        try:
            async with self._answering():
                found = await self._hot.shadow_or_claim(device_id, name, claim)
        except UnavailableError:
            return await service.get(work, device_id, name)
        if found:
            return _decode(found)
        shadow = await service.get(work, device_id, name)
        if found is None and shadow.version:
            with suppress(UnavailableError):  # the claim runs out, and the next question tries again
                async with self._answering():
                    await self._hot.put_shadows({(device_id, name): msgspec.json.encode(shadow)}, claim)
        return shadow

    async def claim(self, events: Iterable[Event]) -> Claim:
        """Just before these events are committed."""
        claim = Claim(uuid7().hex, {(one.key, one.name): one.data for one in events if one.kind == "shadow"})
        if not claim.shadows:
            return claim
        try:
            async with self._answering():
                await self._hot.claim_shadows(list(claim.shadows), claim.id)
        except UnavailableError:
            return claim._replace(taken=False)
        return claim

    async def put(self, claim: Claim) -> None:
        """After the commit: what the events say of shadows is what is read from now on."""
        if not claim.shadows:
            return
        try:
            if not claim.taken:
                raise UnavailableError("Redis did not answer before the commit")
            async with self._answering():
                await self._hot.put_shadows(claim.shadows, claim.id)
        except UnavailableError:
            self._distrust()

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """Raises UnavailableError also when it takes too long, and then for a while at once."""
        if time.monotonic() < self._left_alone_until:
            raise UnavailableError("Redis is left alone for a moment, because it did not answer")
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                yield
        except (TimeoutError, UnavailableError) as error:
            self._left_alone_until = time.monotonic() + LEFT_ALONE_S
            raise UnavailableError("Redis does not answer") from error
