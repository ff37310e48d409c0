"""What JSON Schemas say of a form's fields: kind, choices, and a note with description, range and default. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rosfit.dashboard.shadow_rows import json_text
from rosfit.shadow.changes import Path
from rosfit.shadow.delta import Document
from rosfit.shadow.fitting import resolve
from rosfit.shadow.limits import DEPTH

_KINDS = {"number": "number", "integer": "number", "string": "text", "boolean": "boolean", "array": "list"}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}


@dataclass(frozen=True)
class Hint:
    """`kind` is as that of a field, or choice, which has `choices`."""

    kind: str
    note: str = ""
    choices: tuple[Any, ...] = ()


Hints = Mapping[Path, Hint]


def hints_of(schemas: Iterable[Document]) -> dict[Path, Hint]:
    """By the path of each leaf, in the order in which schemas have them; of several schemas the first counts."""
    found: dict[Path, Hint] = {}
    for schema in schemas:
        for path, hint in _walk(schema, schema, ()):
            found.setdefault(path, hint)
    return found


def _walk(root: Document, node: Any, path: Path) -> Iterator[tuple[Path, Hint]]:
    node = _followed(root, node)
    if len(path) > DEPTH or not isinstance(node, dict):
        return
    properties = node.get("properties")
    if isinstance(properties, dict):
        for key, inner in properties.items():
            yield from _walk(root, inner, (*path, key))
    elif path and (hint := _hint(node)):
        yield path, hint


def _followed(root: Document, node: Any) -> Any:
    """With what its reference leads to; what stands beside the reference counts more."""
    while isinstance(node, dict) and isinstance(node.get("$ref"), str):
        target = resolve(root, node["$ref"])
        beside = {key: value for key, value in node.items() if key != "$ref"}
        node = target | beside if isinstance(target, dict) else beside
    return node


def _hint(node: Document) -> Hint | None:
    choices = [node["const"]] if "const" in node else node.get("enum")
    if isinstance(choices, list) and choices:
        return Hint("choice", _note(node), tuple(choices))
    wanted = node.get("type")
    kind = _KINDS.get(wanted) if isinstance(wanted, str) else None
    return Hint(kind, _note(node)) if kind else None


def _note(node: Document) -> str:
    told = [text for text in (node.get("title"), node.get("description")) if isinstance(text, str)]
    bounds = [f"{words} {json_text(node[key])}" for key, words in _BOUNDS.items() if key in node]
    if node.get("type") == "integer":
        bounds.insert(0, "a whole number")
    if "default" in node:
        bounds.append(f"the robot's default is {json_text(node['default'])}")
    limits = ", ".join(bounds)
    return ". ".join([*told, limits[:1].upper() + limits[1:]]).strip(". ")
