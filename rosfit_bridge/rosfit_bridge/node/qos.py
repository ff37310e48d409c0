"""A subscription's QoS after what the publishers offer: never stricter than the weakest of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


class Match(NamedTuple):
    """Weakest when nobody publishes yet: that hears every publisher there may be."""

    reliable: bool = False
    latched: bool = False

    def profile(self, depth: int) -> QoSProfile:
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=depth,
            reliability=ReliabilityPolicy.RELIABLE if self.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if self.latched else DurabilityPolicy.VOLATILE,
        )

    def __str__(self) -> str:
        return f"{'reliable' if self.reliable else 'best effort'}, {'transient local' if self.latched else 'volatile'}"


def match(publishers: Iterable[Any]) -> Match:
    """`publishers` as `Node.get_publishers_info_by_topic` gives them."""
    profiles = [p.qos_profile for p in publishers]
    if not profiles:
        return Match()
    return Match(
        all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles),
        all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles),
    )
