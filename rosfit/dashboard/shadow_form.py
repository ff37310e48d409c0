"""A document as a form of typed leaves, and what was typed back as a document. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rosfit.dashboard.schema_form import Hint, Hints
from rosfit.dashboard.shadow_rows import Changed, digest_of, json_text
from rosfit.shadow.changes import MISSING, Path, get_at, leaves, remove_at, set_at
from rosfit.shadow.delta import Document, merge, same
from rosfit.shadow.errors import ShadowShapeError
from rosfit.shadow.limits import check_patch

NO_HINTS: Hints = {}

KINDS = {"number": "Number", "text": "Text", "boolean": "Yes or no", "list": "List"}

EXPECTED = {
    "number": "Write a number such as 0.5",
    "boolean": "Choose true or false",
    "list": 'Write a JSON list such as ["a", "b"] or [1, 2]',
    "json": "Write a text as JSON, in quotes",
    "choice": "Choose one of the list",
}


@dataclass(frozen=True)
class Field:
    """One leaf: `name` is that of its input, `pointer` where it is (RFC 6901).

    `note` and `choices` (as JSON, and in words) are a schema's; `absent` is what only a schema has.
    """

    pointer: str
    label: str
    kind: str
    text: str
    error: str = ""
    note: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    absent: bool = False

    @property
    def name(self) -> str:
        return f"leaf:{self.pointer}"

    @property
    def note_id(self) -> str:
        return "note-" + self.pointer.replace("/", "-").replace(" ", "_")


@dataclass(frozen=True)
class Group:
    pointer: str
    label: str
    members: list[Field | Group]
    absent: bool = False


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
    hints: Hints = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=lambda: KINDS)

    @property
    def savable(self) -> bool:
        return bool(self.changes) or self.reordered

    @property
    def began_from(self) -> str:
        return digest_of(self.base)


def members_of(
    document: Document, typed: Mapping[str, str], errors: Mapping[str, str], hints: Hints = NO_HINTS, path: Path = ()
) -> list[Field | Group]:
    """What is wrong keeps what was typed. What schemas know comes first, in their order, also where it is not there."""
    found: list[Field | Group] = []
    known = dict.fromkeys(one[len(path)] for one in hints if len(one) > len(path) and one[: len(path)] == path)
    for key in known | dict.fromkeys(document):
        here, value = (*path, key), document.get(key, MISSING)
        pointer = pointer_of(here)
        nested = any(len(one) > len(here) and one[: len(here)] == here for one in hints)
        if (isinstance(value, dict) and value) or (nested and (value is MISSING or value == {})):
            inner = value if isinstance(value, dict) else {}
            found.append(Group(pointer, key, members_of(inner, typed, errors, hints, here), value is MISSING))
        else:
            found.append(_field(pointer, key, value, hints.get(here), typed, errors.get(pointer, "")))
    return found


def _field(pointer: str, key: str, value: Any, hint: Hint | None, typed: Mapping[str, str], error: str) -> Field:
    kind = field_kind(value, hint)
    as_stored = field_text(kind, value)
    text = typed.get(f"leaf:{pointer}", as_stored) if error else as_stored
    note, choices = (hint.note, hint.choices) if hint else ("", ())
    if kind != "choice":
        return Field(pointer, key, kind, text, error, note, absent=value is MISSING)
    others = [] if value is MISSING or any(same(value, one) for one in choices) else [value]
    options = tuple((str(json_text(one)), text_of(one)) for one in [*choices, *others])
    return Field(pointer, key, kind, text, error, note, options, value is MISSING)


def field_kind(value: Any, hint: Hint | None) -> str:
    """A value that is there says itself what it is, unless its schema has choices."""
    if hint is not None and (value is MISSING or hint.kind == "choice"):
        return hint.kind
    return kind_of(value)


def field_text(kind: str, value: Any) -> str:
    if value is MISSING:
        return ""
    return str(json_text(value)) if kind == "choice" else text_of(value)


def read_fields(
    document: Document, typed: Mapping[str, str], hints: Hints = NO_HINTS
) -> tuple[Document, dict[str, str]]:
    """The document with what was typed, and what is wrong by pointer. An untouched leaf stays exactly as it is."""
    errors = {}
    there = leaves(document)
    for path, value in (dict.fromkeys(absent_paths(document, hints), MISSING) | there).items():
        pointer = pointer_of(path)
        text, kind = typed.get(f"leaf:{pointer}"), field_kind(value, hints.get(path))
        if text is None or text == field_text(kind, value):
            continue
        try:
            document = set_at(document, path, value_of(kind, text))
        except ValueError as error:
            errors[pointer] = str(error)
    return document, errors


def absent_paths(document: Document, hints: Hints) -> list[Path]:
    """What schemas know and the document could have, but has not."""
    there = leaves(document)
    taken = {path for path, value in there.items() if value != {}}
    return [
        path
        for path in hints
        if get_at(document, path) is MISSING and not any(path[:length] in taken for length in range(1, len(path)))
    ]


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
    if kind_of(value) != kind and kind != "choice" and not (kind == "json" and isinstance(value, str)):
        raise ValueError(EXPECTED.get(kind, ""))
    return value


def read_json(text: str) -> Any:
    """Raises ValueError."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise ValueError(f"This is not JSON: {error}") from error


def read_document(text: str) -> Document:
    """Raises ValueError. A null removes, as in a merge patch."""
    document = read_json(text or "{}")
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
