"""The contract's rows as rules: which topic a device may write, and which filter it may subscribe to."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosfit.fleet.credentials import device_of, free_username
from rosfit.kernel.ids import is_device_id
from rosfit.protocol.access import _covers, _overlap, may_publish, may_subscribe
from rosfit.protocol.layouts import Layouts
from tests.embedded.test_broker import CLOUD_TO_DEVICE, DEVICE_TO_CLOUD

FLEET = Layouts(
    [
        {
            "name": "fleet",
            "up": {"fleet/{fleet}/robot/{device_id}/telemetry/{stream...}": "telemetry/{stream...}"},
            "down": {"cmd/{name}": "fleet/{fleet}/robot/{device_id}/command/{name}"},
        }
    ]
).access_patterns()

segments = st.sampled_from(["rosfit", "a", "b", "cmd", "telemetry", "ros", "inject", "response", "x"])
topics = st.lists(segments, min_size=1, max_size=5).map("/".join)
filters = st.tuples(st.lists(segments | st.just("+"), min_size=1, max_size=4), st.booleans()).map(
    lambda parts: "/".join(parts[0] + ["#"] * parts[1])
)


@pytest.mark.parametrize("row", DEVICE_TO_CLOUD)
def test_device_writes_its_rows(row: str) -> None:
    assert may_publish("a", f"rosfit/a/{row}")
    assert not may_publish("a", f"rosfit/b/{row}")


@pytest.mark.parametrize("row", CLOUD_TO_DEVICE)
def test_device_reads_its_rows(row: str) -> None:
    assert may_subscribe("a", f"rosfit/a/{row}")
    assert not may_subscribe("a", f"rosfit/b/{row}")
    assert not may_publish("a", f"rosfit/a/{row}")


@pytest.mark.parametrize(
    "wanted", ["rosfit/a/#", "rosfit/a/cmd/#", "rosfit/a/cmd/+", "$share/g/rosfit/a/#", "rosfit/a/+"]
)
def test_filters_below_its_own_topics_are_granted(wanted: str) -> None:
    assert may_subscribe("a", wanted)


@pytest.mark.parametrize(
    "wanted",
    ["#", "+/a/#", "rosfit/#", "rosfit/+/cmd/request", "rosfit/ab/#", "rosfit/a/telemetry/#", "rosfit/a/cmd/response",
     "$share/g/rosfit/#", "$share/g", "$SYS/#", "", "rosfit/a"],
)  # fmt: skip
def test_other_filters_are_refused(wanted: str) -> None:
    assert not may_subscribe("a", wanted)


def test_layouts_bring_their_own_topics() -> None:
    assert may_publish("a", "fleet/f/robot/a/telemetry/battery", FLEET)
    assert not may_publish("a", "fleet/f/robot/b/telemetry/battery", FLEET)
    assert may_subscribe("a", "fleet/+/robot/a/command/+", FLEET)
    assert not may_subscribe("a", "fleet/+/robot/+/command/+", FLEET)


def matches(pattern: str, topic: str) -> bool:
    """MQTT's own rule, written another way."""
    expression = re.escape(pattern).replace(r"\+", "[^/]*")
    expression = re.sub(r"(^|/)(\\#)$", r"(\1.*)?", expression) if pattern != "#" else ".*"
    return re.fullmatch(expression, topic) is not None


@given(filters, filters, topics)
def test_what_a_granted_filter_matches_the_wide_one_matches(wide: str, narrow: str, topic: str) -> None:
    if _covers(wide, narrow) and matches(narrow, topic):
        assert matches(wide, topic)


@given(filters, filters, topics)
def test_filters_that_share_a_topic_overlap(one: str, other: str, topic: str) -> None:
    if matches(one, topic) and matches(other, topic):
        assert _overlap(one, other)


@given(filters, topics)
def test_no_granted_filter_matches_another_s_topic(wanted: str, topic: str) -> None:
    if may_subscribe("a", wanted) and matches(wanted, topic):
        assert topic.startswith("rosfit/a/") or topic == "rosfit/a"


@given(st.sets(st.integers(2, 6)), st.booleans())
def test_user_names_lead_back_to_their_device(taken: set[int], own: bool) -> None:
    names = {f"bot.{number}" for number in taken} | ({"bot"} if own else set())
    name = free_username("bot", names)
    assert name not in names
    assert device_of(name) == "bot"
    assert name == "bot" or not is_device_id(name)
