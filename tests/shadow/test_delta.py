"""The pure rules of shadows, and RFC 7396's own cases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosfit.shadow.delta import delta, merge, merge_stamps, same
from rosfit.shadow.errors import ShadowShapeError, ShadowTooLargeError
from rosfit.shadow.limits import check_patch, check_section

# RFC 7396, appendix A: original, patch, result.
APPENDIX: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text(max_size=3)
values = st.recursive(
    scalars.filter(lambda value: value is not None) | st.lists(st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


@pytest.mark.parametrize(("original", "patch", "result"), APPENDIX)
def test_merge_does_what_the_rfc_says(original: Any, patch: Any, result: Any) -> None:
    assert merge(original, patch) == result


@pytest.mark.parametrize(
    ("desired", "reported", "expected"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": 1.0}, {}),
        ({"a": True}, {"a": 1}, {"a": True}),
        ({"a": 0}, {"a": False}, {"a": 0}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": 2}}),
        ({"a": [1, 2]}, {"a": [1, 3]}, {"a": [1, 2]}),
        ({"a": [1, True]}, {"a": [1, 1]}, {"a": [1, True]}),
        ({}, {"a": 1}, {}),
        ({"a": {}}, {}, {"a": {}}),
        ({"a": {}}, {"a": 5}, {"a": {}}),
        ({"a": {}}, {"a": {"b": 1}}, {}),
        ({"a": {"b": 1}}, {"a": 5}, {"a": {"b": 1}}),
    ],
)
def test_delta_holds_each_leaf_that_reported_lacks_or_has_otherwise(
    desired: dict[str, Any], reported: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert same(delta(desired, reported), expected)


def covers(reported: Any, desired: Any) -> bool:
    """Said another way than `delta`, to hold it against."""
    if isinstance(desired, dict):
        return isinstance(reported, dict) and all(
            key in reported and covers(reported[key], value) for key, value in desired.items()
        )
    return same(reported, desired)


@given(documents, documents)
def test_delta_is_empty_exactly_when_reported_covers_desired(desired: dict[str, Any], reported: dict[str, Any]) -> None:
    assert (delta(desired, reported) == {}) == covers(reported, desired)


@given(documents, documents)
def test_applying_delta_to_reported_empties_it(desired: dict[str, Any], reported: dict[str, Any]) -> None:
    assert delta(desired, merge(reported, delta(desired, reported))) == {}


@given(documents, documents, documents)
def test_disjoint_patches_commute(base: dict[str, Any], one: dict[str, Any], other: dict[str, Any]) -> None:
    other = {key: value for key, value in other.items() if key not in one}
    assert same(merge(merge(base, one), other), merge(merge(base, other), one))


@given(documents, documents)
def test_metadata_mirrors_the_leaves(base: dict[str, Any], patch: dict[str, Any]) -> None:
    def leaves(document: Any) -> set[tuple[str, ...]]:
        if not isinstance(document, dict) or not document or isinstance(document.get("timestamp"), str):
            return {()}
        return {(key, *rest) for key, value in document.items() for rest in leaves(value)}

    stamps = merge_stamps(merge_stamps({}, base, {"timestamp": "1"}), patch, {"timestamp": "2"})
    assert leaves(stamps) == leaves(merge(base, patch)) or not merge(base, patch)


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"a": [1, None]}, "null"),
        ({"k" * 257: 1}, "257 bytes"),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": {"j": {}}}}}}}}}}}, "11 levels"),
    ],
)
def test_a_patch_that_is_not_allowed_is_refused_with_the_measured_number(patch: dict[str, Any], words: str) -> None:
    with pytest.raises(ShadowShapeError, match=words):
        check_patch(patch)


def test_a_section_past_32_kib_is_refused() -> None:
    with pytest.raises(ShadowTooLargeError, match="32769"):
        check_section("desired", {"a": "x" * (32 * 1024 - 8 + 1)})


@pytest.mark.parametrize("depth", [11, 450, 900])
def test_what_is_far_too_deep_is_measured_all_the_same(depth: int) -> None:
    patch: Any = 1
    for _ in range(depth):
        patch = {"a": patch}
    with pytest.raises(ShadowShapeError, match=f"^{depth} levels deep; at most 10$"):
        check_patch(patch)
