"""Which schemas are taken, and what fits them. Pure."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rosfit.kernel.errors import FieldError
from rosfit.shadow.errors import SchemaInvalidError
from rosfit.shadow.fitting import check_schema, misfit

SPEED = {"properties": {"nav": {"properties": {"speed": {"type": "number", "maximum": 2}}}}}


def wrong(schema: Any, document: dict[str, Any]) -> tuple[tuple[str, ...], str] | None:
    check_schema(schema)
    return misfit(schema, document)


def deep(levels: int) -> dict[str, Any]:
    return {"not": deep(levels - 1)} if levels else {}


def doubling(levels: int) -> dict[str, Any]:
    """Each definition asks twice for the next: 2**levels subschemas in a few hundred bytes."""
    twice = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": twice | {f"d{levels}": {"type": "object"}}, "$ref": "#/$defs/d0"}


def test_a_misfit_says_where_and_why() -> None:
    assert wrong(SPEED, {"nav": {"speed": 5}}) == (("nav", "speed"), "5 is greater than the maximum of 2")
    assert wrong(SPEED, {"nav": {"speed": 1.5}, "other": 1}) is None


def test_references_within_the_schema_are_followed() -> None:
    schema = {"$defs": {"a/b": {"type": "integer"}}, "properties": {"x": {"$ref": "#/$defs/a~1b"}}}
    assert wrong(schema, {"x": 1}) is None
    assert wrong(schema, {"x": "1"}) == (("x",), '"1" is not of type "integer"')


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ([], "a JSON object"),
        ({"type": "nonsense"}, "nonsense"),
        ({"pattern": "("}, "regex"),
        ({"pattern": "(?=a)"}, "regex"),
        ({"$ref": "http://127.0.0.1:9/x"}, "outside of the schema"),
        ({"$ref": "file:///etc/passwd"}, "outside of the schema"),
        ({"$schema": "http://127.0.0.1:9/x"}, "meta-schema"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"$ref": "#"}, "leads back"),
        ({"properties": {"a": {"$ref": "#"}}}, "leads back"),
        ({"$dynamicRef": "#x"}, "not taken"),
        ({"properties": {"a": {"$id": "http://other/", "$ref": "#/x"}}}, "not taken"),
        ({"description": "x" * 70_000}, "at most 65536"),
        (deep(200), "levels deep"),
        (doubling(9), "subschemas"),
        ({"maxLength": -1}, "-1"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(schema: Any, why: str) -> None:
    with pytest.raises(SchemaInvalidError) as refused:
        check_schema(schema)
    assert why in refused.value.detail


def test_a_refusal_names_the_place_in_the_schema() -> None:
    with pytest.raises(SchemaInvalidError) as refused:
        check_schema({"properties": {"nav": {"minimum": "x"}}})
    assert refused.value.errors == (FieldError("properties.nav.minimum", '"x" is not of type "number"'),)


def test_a_long_value_leaves_room_for_what_is_wrong_with_it() -> None:
    found = wrong({"properties": {"name": {"maxLength": 5}}}, {"name": "x" * 1_000})
    assert found is not None
    assert found[1].endswith("is longer than 5 characters")
    assert len(found[1]) <= 200


def test_names_of_properties_are_no_keywords() -> None:
    assert wrong({"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}}, {"$ref": "http://x"}) is None


def test_a_pattern_takes_linear_time() -> None:
    began = time.monotonic()
    assert wrong({"properties": {"s": {"pattern": "^(a+)+$"}}}, {"s": "a" * 30_000 + "!"})
    assert time.monotonic() - began < 1


def branches(count: int) -> dict[str, Any]:
    """Alternatives, each of which looks at every value."""
    return {"anyOf": [{"additionalProperties": {"anyOf": [{"const": f"no-{n}"} for n in range(40)]}}] * count}


@pytest.mark.parametrize(("count", "values"), [(20, 3_600), (20, 3_000), (1, 450), (10, 40)])
def test_whatever_is_taken_keeps_nobody_waiting(count: int, values: int) -> None:
    """Too much to look at, too much to say why, and just not too much."""
    schema = branches(count)
    began = time.monotonic()
    assert wrong(schema, {f"k{n}": n for n in range(values)})
    assert time.monotonic() - began < 2
