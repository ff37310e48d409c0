"""The pure parts of the shadow: documents, one report at a time, refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosfit_bridge.config import ConfigError, parse
from rosfit_bridge.convert.values import presentable
from rosfit_bridge.shadow.document import MISSING, difference, find, leaves, merge, put, same
from rosfit_bridge.shadow.reporter import DAY_MS, REFUSED, RESEND_AFTER_S, Refusals, Reporter

keys = st.sampled_from("abc")
scalars = (
    st.booleans()
    | st.integers(-3, 3)
    | st.floats(-2, 2)
    | st.text(max_size=2)
    | st.lists(st.integers(0, 2), max_size=2)
)
documents = st.recursive(
    st.dictionaries(keys, scalars, max_size=3),
    lambda inner: st.dictionaries(keys, scalars | inner, max_size=3),
    max_leaves=8,
)


@given(documents, documents)
def test_the_difference_makes_one_of_the_other(before, after):
    patch = difference(before, after)
    assert same(merge(before, patch), after)
    assert difference(after, after) == {}


@given(documents)
def test_leaves_put_back_make_the_document(document):
    made: dict[str, Any] = {}
    for path, value in leaves(document):
        if path:
            put(made, path, value)
            assert find(made, path) is value
    assert same(made, document)
    assert find(document, ("a", "b", "zz")) is MISSING


@pytest.mark.parametrize(
    ("one", "other"), [(True, 1), (False, 0), (0.0, False), ([1], [True]), ({"a": 1}, {"a": True})]
)
def test_true_is_not_one(one, other):
    assert not same(one, other)
    assert difference({"x": one}, {"x": other}) == {"x": other}


class Server:
    """What the contract says of reports, so that a reporter can be played against it."""

    def __init__(self) -> None:
        self.reported: dict[str, Any] = {}
        self.versions = 0
        self.last_seq = -1
        self._known: dict[str, bool] = {}

    def take(self, payload: dict[str, Any]) -> bool:
        token = payload["client_token"]
        if token not in self._known:
            self._known[token] = payload["seq"] >= self.last_seq
            if self._known[token]:
                self.reported = merge(self.reported, payload["state"])
                self.versions += 1
                self.last_seq = payload["seq"]
        return self._known[token]


@given(
    st.lists(st.tuples(documents, st.sampled_from(["arrives", "lost", "answer lost", "reconnect"])), max_size=20),
    st.data(),
)
def test_the_server_ends_up_with_what_the_robot_has(turns, data):
    """Whatever is lost on the way: the last word is said, each report has one effect, and silence follows."""
    server, at, now_ms = Server(), 0.0, data.draw(st.sampled_from([0, 10**12]))
    server.last_seq = data.draw(st.sampled_from([-1, 5 * 10**11]))
    reporter = Reporter([("a",), ("b",), ("c",)], lambda: now_ms)
    reporter.learn(server.reported)
    actual: dict[str, Any] = {}

    def turn(fate: str) -> bool:
        if fate == "reconnect":
            reporter.forget()
            reporter.learn(server.reported)
            return True
        payload = reporter.due(actual, at)
        if payload is None:
            return False
        if fate == "lost":
            return True
        taken = server.take(payload)
        if fate == "arrives":
            if taken:
                reporter.accepted(payload["client_token"])
            else:
                reporter.rejected(payload["client_token"], "STALE_REPORT")
        return True

    for document, fate in turns:
        actual, at = document, at + RESEND_AFTER_S
        turn(fate)
    for _ in range(80):
        at += RESEND_AFTER_S
        if not turn("arrives"):
            break
    else:
        pytest.fail("it never became silent")
    assert same(server.reported, actual)


def test_what_a_robot_says_of_itself_can_be_sent():
    """What no report can carry would stop all reports after it; a null would be reported for ever."""
    said = json.loads('{"a": [NaN, -1e400, 1.5], "b": {"c": null, "\\ud83d": "\\ud83d"}, "d": true}')
    shown = presentable(said)
    assert shown == {"a": ["NaN", "-Infinity", 1.5], "b": {"?": "?"}, "d": True}
    assert difference(merge({}, difference({}, shown)), shown) == {}


def test_what_will_never_be_taken_is_said_once():
    reporter = Reporter([("a",)], lambda: 0)
    reporter.learn({})
    payload = reporter.due({"a": 1}, 0.0)
    assert not reporter.rejected(payload["client_token"], "SHADOW_TOO_LARGE")
    assert reporter.due({"a": 1}, 99.0) is None
    assert reporter.due({"a": 2}, 99.0)["state"] == {"a": 2}


def test_a_robot_without_a_clock_jumps_ahead_of_its_former_life():
    reporter = Reporter([("a",)], lambda: 0)
    reporter.learn({})
    sequence = []
    for _ in range(3):
        payload = reporter.due({"a": 1}, 0.0)
        sequence.append(payload["seq"])
        reporter.rejected(payload["client_token"], "STALE_REPORT")
    assert sequence == [1, DAY_MS + 2, 3 * DAY_MS + 3]


def test_keys_of_others_are_left_alone():
    reporter = Reporter([("nav", "speed")], lambda: 0)
    reporter.learn({"nav": {"speed": 1, "other": 2}, "third": 3})
    assert reporter.due({"nav": {"speed": 1}}, 0.0) is None


def test_refusals_end_with_the_wish():
    refusals = Refusals()
    refusals.refuse(("nav", "speed"), 9, "too fast")
    refusals.refuse(("led",), True, "no")
    refusals.prune({"nav": {"speed": 9}})
    assert refusals.document == {REFUSED: {"nav.speed": {"value": 9, "reason": "too fast"}}}
    refusals.prune({"nav": {"speed": 1}})
    assert refusals.document == {}


def test_mistakes_in_the_section_are_named_with_their_line(tmp_path):
    content = """rosfit: {device_id: bot}
connection: {host: x}
shadow:
  enabled: true
  map:
    - {path: nav, node: /nav}
    - {path: nav.speed, node: /nav, parameter: speed}
    - {path: led, ros_service: /led}
    - {path: a..b, node: /x}
    - {path: both, node: /x, ros_topic: /y}
"""
    with pytest.raises(ConfigError) as wrong:
        parse(content, file="f", folder=tmp_path, env={})
    told = [(problem.line, problem.path) for problem in wrong.value.problems]
    assert told == [(8, "shadow.map[2].srv_type"), (9, "shadow.map[3].path"), (10, "shadow.map[4]")]
    content = "\n".join(content.splitlines()[:7])
    with pytest.raises(ConfigError, match="overlaps nav on line 6"):
        parse(content, file="f", folder=tmp_path, env={})
