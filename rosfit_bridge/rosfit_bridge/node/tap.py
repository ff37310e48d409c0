"""A raw subscription that follows the publishers' QoS without losing or doubling a message on the way."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rclpy.node import Node

from rosfit_bridge.node.qos import Match, match
from rosfit_bridge.throttle import complaints

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

log = logging.getLogger(__name__)

# A publisher replaced by one with another QoS between two looks can leave every count as it was.
FULL_LOOK_EVERY = 10
Callback = Callable[[Any], None]


class Tap:
    """`look` is called once a second. After a change the old subscription lives on until the next look."""

    def __init__(
        self,
        node: Node,
        cls: type,
        topic: str,
        callback: Callback,
        *,
        depth: int,
        raw: bool = True,
        latched: bool = True,
    ) -> None:
        self._node, self._cls, self._topic, self._callback = node, cls, topic, callback
        self._depth, self._raw, self._may_latch = depth, raw, latched
        self._type = f"{cls.__module__.partition('.')[0]}/msg/{cls.__name__}"
        self._strange: set[str] = set()
        self._looks = 0
        self._seen: list[int] = []
        self._subscriptions: dict[Match, Any] = {}
        self._ears: dict[Match, _Ear] = {}
        self._ghosts: list[_Ear] = []
        self.wanted: frozenset[Match] = frozenset()
        self._follow(self._wanted())

    def look(self) -> None:
        self._looks += 1
        counts = [self._node.count_publishers(self._topic)]
        counts += [_matched(s) for s in self._subscriptions.values()]
        settled = len(self._subscriptions) == len(self.wanted) and not self._ghosts
        if settled and counts == self._seen and self._looks % FULL_LOOK_EVERY:
            return
        self._seen = counts
        self._follow(self._wanted())

    def close(self) -> None:
        self._ghosts = [self._retire(each) for each in list(self._subscriptions)]

    def _wanted(self) -> frozenset[Match]:
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        self._note({each.topic_type for each in publishers} - {self._type})
        return match([each for each in publishers if each.topic_type == self._type], may_latch=self._may_latch)

    def _note(self, strange: set[str]) -> None:
        """DDS brings nothing together that differs in type, and says nothing."""
        if strange - self._strange:
            others = ", ".join(sorted(strange))
            log.warning("%s: somebody publishes %s, which is not heard: it is %s here", self._topic, others, self._type)
        self._strange = strange

    def _follow(self, wanted: frozenset[Match]) -> None:
        if wanted != self.wanted and len(wanted) == 1:
            log.info("%s: publishers are %s", self._topic, *wanted)
        self.wanted = wanted
        fresh = wanted - self._subscriptions.keys()
        # Reliable first: a publisher that sees any of them may start at once.
        for each in sorted(fresh, reverse=True):
            self._subscribe(each)
        stale = self._subscriptions.keys() - wanted if not fresh else set()
        self._ghosts = [self._retire(each) for each in stale]
        for ear in self._ears.values():
            ear.meet([other for other in [*self._ears.values(), *self._ghosts] if other is not ear])

    def _retire(self, match: Match) -> _Ear:
        """The ear stays known until the next look: what it let pass may still wait in the executor for another."""
        self._node.destroy_subscription(self._subscriptions.pop(match))
        ear = self._ears.pop(match)
        ear.muted = True
        return ear

    def _subscribe(self, to: Match) -> None:
        self._ears[to] = ear = _Ear(self._callback, self._topic)
        self._subscriptions[to] = self._node.create_subscription(
            self._cls,
            self._topic,
            ear,
            to.profile(self._depth),
            raw=self._raw,
            # rclpy warns of every publisher that one of our two subscriptions cannot hear; the other one does.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )


def _matched(subscription: Any) -> int:
    """Humble does not say."""
    return subscription.get_publisher_count() if hasattr(subscription, "get_publisher_count") else 0


class _Ear:
    """One of several subscriptions that hear the same: of a message heard n and m times, the larger number passes."""

    def __init__(self, callback: Callback, topic: str) -> None:
        self._callback, self._topic = callback, topic
        self._complaints = complaints()
        self._heard: Counter[int] = Counter()
        self.others: list[_Ear] = []
        self.muted = False

    def __call__(self, message: Any) -> None:
        if self.muted:
            return
        if self.others:
            key = hash(message if isinstance(message, bytes) else repr(message))
            self._heard[key] += 1
            if any(other._heard[key] >= self._heard[key] for other in self.others):
                return
        try:
            self._callback(message)
        except Exception:
            # It would leave the executor, and with it the whole node.
            if self._complaints.ready(time.monotonic()):
                log.exception("%s: a message could not be handled", self._topic)

    def meet(self, others: list[_Ear]) -> None:
        if not others:
            self._heard.clear()
        self.others = others
