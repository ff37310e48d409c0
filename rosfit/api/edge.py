"""What controllers, guards and sockets reach the rest of RosFit through; `rosfit.wiring` makes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from litestar.connection import ASGIConnection

from rosfit.accounts.identity import Identities
from rosfit.accounts.setup import SetupToken
from rosfit.accounts.tokens import Signer
from rosfit.fleet.service import BrokerAccess
from rosfit.kernel.feed import Feed
from rosfit.kernel.metrics import Metrics
from rosfit.kernel.ports import HotStore, ObjectStore, Publisher
from rosfit.kernel.work import Work
from rosfit.ota.telling import Notice
from rosfit.settings import Settings
from rosfit.shadow.hot import HotShadows

Connection = ASGIConnection[Any, Any, Any, Any]

# Raises UnavailableError, with why, when its dependency cannot be used.
Check = Callable[[], Awaitable[None]]

# Takes the message of a dead letter again, within the work. Raises StillBadError.
Replay = Callable[[Work, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Edge:
    settings: Settings
    open_work: Callable[[], AbstractAsyncContextManager[Work]]
    hot: HotStore
    shadows: HotShadows
    feed: Feed
    publisher: Publisher
    metrics: Metrics
    signer: Signer
    identities: Identities
    setup_token: SetupToken
    broker_access: BrokerAccess | None
    hash_device_token: Callable[[str], str]
    checks: dict[str, Check]
    replay: Replay
    objects: ObjectStore
    update_notice: Notice


def address_of(connection: Connection) -> str | None:
    """The client's address; behind a trusted proxy the one that the proxy saw."""
    return connection.client.host if connection.client else None


def edge_of(connection: Connection) -> Edge:
    edge: Edge = connection.app.state.edge
    return edge
