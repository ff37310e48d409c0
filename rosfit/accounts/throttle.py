"""Failed sign-ins slow down the next ones, per account and per address.

Counted in the database, so that it holds across replicas, and in a transaction of its own, since the request that
failed rolls back. Accounts that do not exist are counted like those that do.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, TypeVar

from rosfit.accounts import audit, repository
from rosfit.accounts.audit import Origin
from rosfit.accounts.repository import QUERIES
from rosfit.kernel.errors import RateLimitedError, UnauthenticatedError
from rosfit.kernel.work import Work

T = TypeVar("T")

# An attempt holds a database connection while a password is hashed: a burst of them must leave most for the others.
AT_ONCE = 4

OpenWork = Callable[[], AbstractAsyncContextManager[Work]]


class Patience(NamedTuple):
    """From the `free`th failure on, each doubles the wait, from 1 s to `longest_s`; after `forgotten_s` none counts."""

    free: int
    longest_s: int
    forgotten_s: int


# A guesser gets about 100 tries a day at one account. An address may be a whole office behind one router, so it has
# more tries and never waits long: it slows down guessing across many accounts.
ACCOUNT = Patience(5, 900, 86_400)
ADDRESS = Patience(20, 60, 900)


class TooManyTriesError(RateLimitedError):
    title = "Too many failed sign-ins"


# Tries at one account take turns, so that a burst of guesses cannot slip past the count. Different accounts rarely
# share a lock, and waiting holds no database connection.
_turns = [asyncio.Lock() for _ in range(256)]
_attempts = asyncio.Semaphore(AT_ONCE)


async def throttled(
    open_work: OpenWork, account: str, address: str | None, attempt: Callable[[Work], Awaitable[T]]
) -> T:
    """The outcome of `attempt`, in a unit of work of its own; call it without holding another one.

    Raises TooManyTriesError without trying, or what `attempt` raises; an UnauthenticatedError counts as a failure.
    """
    subjects = _subjects(account, address)
    async with _turns[hash(subjects[0][0]) % len(_turns)], _attempts:
        async with open_work() as work:
            await _refuse_blocked(work, [subject for subject, _ in subjects])
        try:
            async with open_work() as work:
                outcome = await attempt(work)
                await work.connection.execute(QUERIES["forget_failures"], {"subject": subjects[0][0]})
        except UnauthenticatedError:
            async with open_work() as work:
                for subject, patience in subjects:
                    if await _count_failure(work, subject, patience) == patience.free:
                        await _record(work, account, address, subject)
            raise
    return outcome


def _subjects(account: str, address: str | None) -> list[tuple[str, Patience]]:
    # Hashed, since people type their password into the wrong field.
    digest = hashlib.sha256(account.strip().lower().encode(errors="replace")).hexdigest()
    subjects = [(f"account:{digest}", ACCOUNT)]
    if address:
        subjects.append((f"address:{_network(address)}", ADDRESS))
    return subjects


def _network(address: str) -> str:
    """An IPv6 host has a whole /64 to choose addresses from."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))


async def _refuse_blocked(work: Work, subjects: list[str]) -> None:
    row = await (await work.connection.execute(QUERIES["blocked_for_s"], {"subjects": subjects})).fetchone()
    if row and row[0] > 0:
        # Rounded up: who comes back after exactly this long must not be a moment too early.
        wait_s = math.ceil(row[0])
        raise TooManyTriesError(f"Wait {wait_s} s and try again", retry_after_s=wait_s)


async def _count_failure(work: Work, subject: str, patience: Patience) -> int:
    """How many there are now."""
    counted = await work.connection.execute(QUERIES["count_failure"], {"subject": subject, **patience._asdict()})
    row = await counted.fetchone()
    return int(row[0]) if row else 0


async def _record(work: Work, account: str, address: str | None, subject: str) -> None:
    """That waiting begins. An account that does not exist is not named: it may be a password in the wrong field."""
    kind = subject.partition(":")[0]
    known = await repository.get_user_by_email(work.connection, account)
    target = subject if kind == "address" else known[0] if known else "unknown account"
    origin = Origin(address=address)
    await audit.record(work, "anonymous", "auth.throttled", target, origin=origin, result="RATE_LIMITED")


async def trim(work: Work) -> None:
    await work.connection.execute(QUERIES["trim_failures"])
