"""Differences between documents, and changes of two people brought together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosfit.shadow.changes import MISSING, Change, changes, combine, leaves, meetings, patch_between
from rosfit.shadow.delta import merge, same

KEYS = st.sampled_from(["a", "b", "c"])
SCALARS = st.one_of(
    st.booleans(), st.integers(0, 2), st.sampled_from(["", "x"]), st.lists(st.integers(0, 1), max_size=2)
)
DOCUMENTS = st.recursive(
    st.dictionaries(KEYS, SCALARS, max_size=3),
    lambda inner: st.dictionaries(KEYS, st.one_of(SCALARS, inner), max_size=3),
    max_leaves=8,
)


@given(DOCUMENTS, DOCUMENTS)
def test_the_patch_between_two_documents_makes_the_second_of_the_first(before: Any, after: Any) -> None:
    assert same(merge(before, patch_between(before, after)), after)
    assert (patch_between(before, after) == {}) == same(before, after)


@given(DOCUMENTS, DOCUMENTS)
def test_documents_without_differences_are_the_same(before: Any, after: Any) -> None:
    assert (changes(before, after) == []) == same(before, after)


@given(DOCUMENTS, DOCUMENTS)
def test_your_changes_alone_are_your_document(base: Any, yours: Any) -> None:
    assert same(combine(base, yours, base), yours)
    assert same(combine(base, base, yours), yours)


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_without_a_clash_nobody_loses_anything(base: Any, yours: Any, theirs: Any) -> None:
    if any(one.clash for one in meetings(base, yours, theirs)):
        return
    both = leaves(combine(base, yours, theirs))
    for one in [*changes(base, yours), *changes(base, theirs)]:
        if one.after not in (MISSING, {}):
            assert same(both[one.path], one.after)


@pytest.mark.parametrize(
    ("yours", "theirs", "clash"),
    [
        ({"a": 2}, {"a": 3}, True),
        ({"a": 2}, {"a": 2}, False),
        ({}, {"a": 3}, True),
        ({"a": 2}, {"a": 1, "b": 3}, False),
        ({"a": {"x": 1}}, {"a": 5}, True),
    ],
)
def test_a_clash_is_the_same_leaf_with_another_value(yours: Any, theirs: Any, clash: bool) -> None:
    assert any(one.clash for one in meetings({"a": 1}, yours, theirs)) is clash


def test_what_is_given_up_stays_as_the_others_made_it() -> None:
    base, yours, theirs = {"a": 1, "b": 1}, {"a": 2, "b": 2}, {"a": 3, "b": 1}
    assert combine(base, yours, theirs) == {"a": 2, "b": 2}
    assert combine(base, yours, theirs, {("a",)}) == {"a": 3, "b": 2}


def test_an_object_that_is_emptied_and_one_that_is_filled() -> None:
    assert changes({"a": {"b": 1}}, {"a": {}}) == [Change(("a",), MISSING, {}), Change(("a", "b"), 1, MISSING)]
    assert changes({"a": {}}, {"a": {"b": 1}}) == [Change(("a", "b"), MISSING, 1)]
    assert combine({"a": {}}, {"a": {"b": 1}}, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}
