"""A subscription's QoS after what the publishers offer: never stricter than the weakest of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


class Match(NamedTuple):
    reliable: bool
    latched: bool

    def profile(self, depth: int) -> QoSProfile:
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=depth,
            reliability=ReliabilityPolicy.RELIABLE if self.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if self.latched else DurabilityPolicy.VOLATILE,
        )

    def __str__(self) -> str:
        return f"{'reliable' if self.reliable else 'best effort'}, {'transient local' if self.latched else 'volatile'}"


# With nobody publishing yet: one hears whoever comes, the other does not miss the first messages of a reliable
# publisher (DDS drops what a best effort reader is sent before it knows the writer).
UNKNOWN = frozenset({Match(reliable=False, latched=False), Match(reliable=True, latched=False)})


def match(publishers: Iterable[Any], *, may_latch: bool = True) -> frozenset[Match]:
    """The subscriptions to hold. `publishers` as `Node.get_publishers_info_by_topic` gives them."""
    profiles = [p.qos_profile for p in publishers]
    if not profiles:
        return UNKNOWN
    reliable = all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles)
    latched = may_latch and all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles)
    return frozenset({Match(reliable, latched)})
