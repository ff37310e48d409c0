"""Layers laid over each other. Pure."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rosfit.shadow.changes import leaves
from rosfit.shadow.delta import merge, merge_stamps
from rosfit.shadow.overlay import Layer, overlay
from tests.shadow.test_delta import documents


def stamped(document: dict[str, Any], who: str) -> Layer:
    return Layer(document, merge_stamps({}, document, {"timestamp": "t", "by": who}))


stacks = st.lists(documents, max_size=4).map(
    lambda found: [stamped(document, str(number)) for number, document in enumerate(found)]
)


@given(stacks)
def test_the_overlay_is_the_merge_of_all_from_the_bottom_up(stack: list[Layer]) -> None:
    merged: dict[str, Any] = {}
    for layer in stack:
        merged = merge(merged, layer.document)
    assert overlay(stack).document == merged


@given(stacks)
def test_each_leaf_names_the_topmost_layer_that_has_it(stack: list[Layer]) -> None:
    found = overlay(stack)
    for path, value in leaves(found.document).items():
        stamp = found.stamps
        for key in path:
            stamp = stamp[key]
        origin = stack[int(stamp["by"])]
        assert leaves(origin.document)[path] == value
        for above in stack[int(stamp["by"]) + 1 :]:
            assert leaves(above.document).get(path, {}) == {}


@given(stacks, documents)
def test_nothing_that_is_given_is_changed(stack: list[Layer], document: dict[str, Any]) -> None:
    before = repr(stack)
    overlay([*stack, stamped(document, "top")])
    assert repr(stack) == before


def test_an_objects_value_is_hidden_by_a_scalar_and_the_other_way_round() -> None:
    low, high = stamped({"a": {"b": 1}, "c": 2}, "low"), stamped({"a": 5, "c": {"d": 3}}, "high")
    assert overlay([low, high]).document == {"a": 5, "c": {"d": 3}}
    assert overlay([high, low]).document == {"a": {"b": 1}, "c": 2}
    assert overlay([low, high]).stamps["c"]["d"]["by"] == "high"
