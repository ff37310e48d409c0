"""A raw subscription that follows the publishers' QoS without losing or doubling a message on the way."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from rclpy.node import Node

from rosfit_bridge.node.qos import Match, match

log = logging.getLogger(__name__)

# A publisher replaced by one with another QoS between two looks leaves the counts as they were.
FULL_LOOK_EVERY = 10


class Tap:
    """`look` is called once a second. After a change the old subscription lives on until the next look."""

    def __init__(
        self,
        node: Node,
        cls: type,
        topic: str,
        callback: Callable[[Any], None],
        *,
        depth: int,
        raw: bool = True,
        latched: bool = True,
    ) -> None:
        self._node, self._cls, self._topic, self._callback = node, cls, topic, callback
        self._depth, self._raw, self._may_latch = depth, raw, latched
        self._looks = 0
        self._seen: tuple[int, int] | None = None
        self._retired: Any = None
        self._overlap: _Overlap | None = None
        self.match = self._wanted()
        self._subscription = self._subscribe(callback)

    def look(self) -> None:
        self._end_overlap()
        self._looks += 1
        counts = (self._node.count_publishers(self._topic), self._subscription.get_publisher_count())
        if counts == self._seen and self._looks % FULL_LOOK_EVERY:
            return
        self._seen = counts
        wanted = self._wanted()
        if wanted != self.match:
            self._rematch(wanted)

    def close(self) -> None:
        self._end_overlap()
        self._node.destroy_subscription(self._subscription)

    def _wanted(self) -> Match:
        found = match(self._node.get_publishers_info_by_topic(self._topic))
        return found if self._may_latch else found._replace(latched=False)

    def _subscribe(self, callback: Callable[[Any], None]) -> Any:
        profile = self.match.profile(self._depth)
        return self._node.create_subscription(self._cls, self._topic, callback, profile, raw=self._raw)

    def _rematch(self, wanted: Match) -> None:
        log.info("%s: publishers are now %s (was %s)", self._topic, wanted, self.match)
        self.match, self._seen = wanted, None
        self._overlap = _Overlap(self._callback)
        self._retired, self._retired_callback = self._subscription, self._overlap.side(0)
        self._retired.callback = self._retired_callback
        self._subscription = self._subscribe(self._overlap.side(1))

    def _end_overlap(self) -> None:
        if self._retired is None:
            return
        self._subscription.callback = self._callback
        self._node.destroy_subscription(self._retired)
        self._retired = self._overlap = None


class _Overlap:
    """Two subscriptions hear the same: of a message that comes n and m times, the larger number passes."""

    def __init__(self, callback: Callable[[Any], None]) -> None:
        self._callback = callback
        self._counts: tuple[Counter[int], Counter[int]] = (Counter(), Counter())

    def side(self, index: int) -> Callable[[Any], None]:
        own, other = self._counts[index], self._counts[1 - index]

        def heard(message: Any) -> None:
            key = hash(message) if isinstance(message, bytes) else hash(repr(message))
            own[key] += 1
            if own[key] > other[key]:
                self._callback(message)

        return heard
