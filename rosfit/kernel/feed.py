"""The live feed: events to whoever watches in this process. Nothing waits here; subscribers keep their own bounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Literal

import msgspec

Kind = Literal[
    "telemetry", "status", "shadow", "commands", "params", "ota", "alerts", "logs", "hooks", "teleop", "access"
]

ANY = "*"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened. `key` is the device (or deployment) id, `name` the stream or alert.

    `data` is the JSON text that subscribers send on; `at` is RFC 3339 text.
    """

    kind: Kind
    key: str
    name: str
    data: bytes
    at: str


Offer = Callable[[Event], None]


class Feed:
    """Publish and subscribe by (kind, key), where a subscriber's key may be `*`."""

    def __init__(self) -> None:
        self._subscribers: defaultdict[tuple[str, str], dict[int, Offer]] = defaultdict(dict)
        self._next = 0
        # Set by the bridge to other replicas while there are any; sees only what happened here.
        self.elsewhere: Offer | None = None

    def wanted(self, kind: Kind, key: str) -> bool:
        """Whether anybody would get such an event, so that nobody builds one in vain."""
        return self.elsewhere is not None or (kind, key) in self._subscribers or (kind, ANY) in self._subscribers

    def publish(self, event: Event) -> None:
        self.deliver(event)
        if self.elsewhere is not None:
            self.elsewhere(event)

    def deliver(self, event: Event) -> None:
        """To subscribers of this process only: what a replica told us goes no further."""
        for key in (event.key, ANY):
            offers = self._subscribers.get((event.kind, key))
            if offers:
                for offer in list(offers.values()):
                    offer(event)

    def subscribe(self, kind: Kind, key: str, offer: Offer) -> Callable[[], None]:
        """Call `offer` for each event; it must neither block nor raise. Returns the way out."""
        self._next += 1
        number = self._next
        self._subscribers[kind, key][number] = offer

        def unsubscribe() -> None:
            offers = self._subscribers.get((kind, key))
            if offers and offers.pop(number, None) and not offers:
                del self._subscribers[kind, key]

        return unsubscribe
