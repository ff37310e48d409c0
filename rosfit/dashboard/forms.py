"""What people type into forms: read into values, and what is wrong with each field in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar.response import Redirect

PAGE_SIZE = 50

# What is expected of a field, in words.
EXPECTED = {
    "email": "Enter an e-mail address such as ada@example.org",
    "password": "Use 8 to 1024 characters",
    "name": "Use 1 to 100 characters",
    "role": "Choose one of the list",
    "only_tags": "Write tags of up to 64 characters, separated by spaces",
    "tags": "Write tags of up to 64 characters, separated by spaces",
    "scopes": "Choose at least one",
    "expires_at": "Choose a day in the future",
    "device_type": "Choose one of the list",
    "ttl_hours": "Give a number of hours up to 8766 (a year)",
    "max_uses": "Give a whole number from 1 to 100000",
    "kind": "Choose one of the list",
    "query": "Write a query such as tag:dock battery<20",
}


@dataclass(frozen=True)
class Limits:
    """Groups (by id) and tags, as typed, that a role or a key holds for; nothing means the whole fleet."""

    groups: tuple[str, ...] = ()
    tags: str = ""

    def values(self) -> dict[str, list[str]]:
        return {"only_groups": list(self.groups), "only_tags": words(self.tags)}


NO_LIMITS = Limits()


def limits_of(form: Any) -> Limits:
    return Limits(tuple(str(one) for one in form.getall("only_groups", [])), text(form, "only_tags"))


def text(form: Any, name: str) -> str:
    return str(form.get(name, "")).strip()


def words(typed: str) -> list[str]:
    """What stands between spaces and commas."""
    return list(dict.fromkeys(typed.replace(",", " ").split()))


def wrong_fields(values: Mapping[str, Any], struct: type[msgspec.Struct]) -> dict[str, str]:
    """What is expected of each value that `struct` would refuse."""
    types = {field.name: field.type for field in msgspec.structs.fields(struct)}
    return {name: EXPECTED[name] for name, value in values.items() if not _fits(value, types[name])}


def _fits(value: Any, wanted: Any) -> bool:
    try:
        msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError:
        return False
    return True


def see_other(path: str) -> Redirect:
    """To a page after a form: loading that one again sends nothing twice."""
    return Redirect(path, status_code=303)


def next_page(path: str, cursor: str | None, **filters: str) -> str | None:
    """The address of the next page of a list."""
    if cursor is None:
        return None
    return f"{path}?{urlencode({name: value for name, value in filters.items() if value} | {'cursor': cursor})}"
