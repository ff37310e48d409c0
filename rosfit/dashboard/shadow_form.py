"""A document as a form of typed leaves, and what was typed back as a document. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rosfit.dashboard.shadow_rows import Changed, digest_of, json_text
from rosfit.shadow.changes import Path, leaves, remove_at, set_at
from rosfit.shadow.delta import Document, merge
from rosfit.shadow.errors import ShadowShapeError
from rosfit.shadow.limits import check_patch

KINDS = {"number": "Number", "text": "Text", "boolean": "Yes or no", "list": "List"}

EXPECTED = {
    "number": "Write a number such as 0.5",
    "boolean": "Choose true or false",
    "list": 'Write a JSON list such as ["a", "b"] or [1, 2]',
    "json": "Write a text as JSON, in quotes",
}


@dataclass(frozen=True)
class Field:
    """One leaf: `name` is that of its input, `pointer` where it is (RFC 6901)."""

    pointer: str
    label: str
    kind: str
    text: str
    error: str = ""

    @property
    def name(self) -> str:
        return f"leaf:{self.pointer}"


@dataclass(frozen=True)
class Group:
    pointer: str
    label: str
    members: list[Field | Group]


@dataclass(frozen=True)
class Met:
    """One leaf of a three-way difference, as JSON; None where it is not there."""

    pointer: str
    label: str
    base: str | None
    yours: str | None
    theirs: str | None
    clash: bool


@dataclass(frozen=True)
class Adding:
    """The row for a new key, as typed."""

    key: str = ""
    kind: str = "number"
    text: str = ""
    error: str = ""


@dataclass(frozen=True)
class Sampled:
    """What a change of a layer would do to one robot."""

    device_id: str
    changes: list[Changed]


@dataclass(frozen=True)
class Effect:
    """What a change of a layer would do: to how many of its robots, and to a few of them in full."""

    devices: int
    changed: int
    refused: list[str]
    sample: list[Sampled]


@dataclass(frozen=True)
class Editor:
    """`base` is what the editing began from; `draft` what is wanted now. `review` is none, changes or conflict.

    `target` is a device's id, or names a layer. A layer has an `effect` and, a group's, a `priority`, which may be all
    that changes (`reordered`). `kept` are values that the draft has otherwise and that layers keep as they are.
    """

    target: str
    name: str
    base: Document
    draft: Document
    view: str = "form"
    text: str = ""
    members: list[Field | Group] = field(default_factory=list)
    problem: str = ""
    adding: Adding = Adding()
    review: str = "none"
    changes: list[Changed] = field(default_factory=list)
    meetings: list[Met] = field(default_factory=list)
    theirs: Document = field(default_factory=dict)
    reason: str = ""
    kept: list[str] = field(default_factory=list)
    effect: Effect | None = None
    priority: str | None = None
    reordered: bool = False
    kinds: Mapping[str, str] = field(default_factory=lambda: KINDS)

    @property
    def savable(self) -> bool:
        return bool(self.changes) or self.reordered

    @property
    def began_from(self) -> str:
        return digest_of(self.base)


def members_of(
    document: Document, typed: Mapping[str, str], errors: Mapping[str, str], path: Path = ()
) -> list[Field | Group]:
    """What is wrong keeps what was typed."""
    found: list[Field | Group] = []
    for key, value in document.items():
        here = (*path, key)
        pointer = pointer_of(here)
        if isinstance(value, dict) and value:
            found.append(Group(pointer, key, members_of(value, typed, errors, here)))
        else:
            error = errors.get(pointer, "")
            text = typed[f"leaf:{pointer}"] if error else text_of(value)
            found.append(Field(pointer, key, kind_of(value), text, error))
    return found


def read_fields(document: Document, typed: Mapping[str, str]) -> tuple[Document, dict[str, str]]:
    """The document with what was typed, and what is wrong by pointer. An untouched leaf stays exactly as it is."""
    errors = {}
    for path, value in leaves(document).items():
        pointer = pointer_of(path)
        text = typed.get(f"leaf:{pointer}")
        if text is None or text == text_of(value):
            continue
        try:
            document = set_at(document, path, value_of(kind_of(value), text))
        except ValueError as error:
            errors[pointer] = str(error)
    return document, errors


def kind_of(value: Any) -> str:
    """`json` is a text that an input line would change: with line breaks or other control characters."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text" if value.isprintable() else "json"
    return "list" if isinstance(value, list) else "object"


def text_of(value: Any) -> str:
    return value if kind_of(value) == "text" else str(json_text(value))


def value_of(kind: str, text: str) -> Any:
    """Raises ValueError that says what is expected."""
    if kind == "text":
        return text
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(EXPECTED.get(kind, "")) from error
    if kind_of(value) != kind and not (kind == "json" and isinstance(value, str)):
        raise ValueError(EXPECTED.get(kind, ""))
    return value


def read_document(text: str) -> Document:
    """Raises ValueError. A null removes, as in a merge patch."""
    try:
        document = msgspec.json.decode(text or "{}")
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise ValueError(f"This is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError("Desired is a JSON object, in braces")
    try:
        check_patch(document)
    except ShadowShapeError as error:
        raise ValueError(error.detail) from error
    merged: Document = merge({}, document)
    return merged


def with_key(document: Document, typed_path: str, kind: str, text: str) -> Document:
    """With a new leaf; dots in its path make objects. Raises ValueError."""
    path = tuple(typed_path.split("."))
    if not all(path):
        raise ValueError("Write a key such as speed, or nav.speed")
    if kind not in KINDS:
        raise ValueError("Choose a kind of the list")
    if any(path[: len(other)] == other or other[: len(path)] == path for other in leaves(document)):
        raise ValueError(f"{typed_path} is there already")
    return set_at(document, path, value_of(kind, text))


def without(document: Document, pointer: str) -> Document:
    return remove_at(document, path_of(pointer)) if pointer.startswith("/") else document


def pointer_of(path: Path) -> str:
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def path_of(pointer: str) -> Path:
    return tuple(key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:])


def pretty(document: Document) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
