"""Whether a document fits a JSON Schema, and which schemas are taken at all. Pure.

A schema is written by people and runs in the server's only loop, so its cost is bounded: by its size, by how many
subschemas it comes to once its references are followed, and by patterns that take linear time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jsonschema_rs
import msgspec

from rosfit.kernel.errors import FieldError
from rosfit.shadow.changes import Path
from rosfit.shadow.delta import Document
from rosfit.shadow.errors import SchemaInvalidError

SCHEMA_BYTES = 64 * 1024
DEPTH = 32
SUBSCHEMAS = 1_000

# A subschema is looked at once for each value, at most: three million looks take half a second.
LOOKS = 3_000_000
# To say why no alternative fits, what is wrong with each is written down: 12 µs for each look.
REASONED_LOOKS = 20_000

MESSAGE_LENGTH = 200
VALUE_LENGTH = 60

_ALTERNATIVES = ("anyOf", "oneOf")
_DYNAMIC = ("$dynamicRef", "$recursiveRef")


class Misfit(NamedTuple):
    path: Path
    message: str

    @property
    def field(self) -> str:
        return ".".join(self.path)

    @property
    def text(self) -> str:
        return f"{self.field or 'desired'}: {self.message}"


class _Compiled(NamedTuple):
    """`subschemas` with references followed; `alternatives` are those of them under anyOf and oneOf."""

    validator: jsonschema_rs.Validator
    subschemas: int
    alternatives: int


def misfit(schema: Document, document: Document) -> Misfit | None:
    """What does not fit first; the schema is one that `check_schema` has taken."""
    compiled = _compiled(msgspec.json.encode(schema))
    values = _count_values(document)
    if compiled.subschemas * values > LOOKS:
        return Misfit((), f"{values} values are too many for a schema of {compiled.subschemas} subschemas")
    if compiled.validator.is_valid(document):
        return None
    if compiled.alternatives * values > REASONED_LOOKS:
        return Misfit((), "it fits none of several alternatives, which are too many to say why")
    try:
        compiled.validator.validate(document)
    except jsonschema_rs.ValidationError as error:
        return Misfit(tuple(str(key) for key in error.instance_path), _shortened(error.message))
    return None


def _shortened(message: str) -> str:
    """A message begins with the value, which may be long, and ends with what is wrong with it."""
    if len(message) <= MESSAGE_LENGTH:
        return message
    return f"{message[:VALUE_LENGTH]} … {message[VALUE_LENGTH + 3 - MESSAGE_LENGTH :]}"


def _count_values(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_count_values, value.values()))
    return 1 + sum(map(_count_values, value)) if isinstance(value, list) else 1


def check_schema(schema: Any) -> None:
    """Raises SchemaInvalidError that says what is wrong."""
    if not isinstance(schema, dict):
        raise SchemaInvalidError("a schema is a JSON object")
    text = msgspec.json.encode(schema)
    if len(text) > SCHEMA_BYTES:
        raise SchemaInvalidError(f"it has {len(text)} bytes; at most {SCHEMA_BYTES}")
    count = _Expansion(schema).count(schema)
    if count > SUBSCHEMAS:
        raise SchemaInvalidError(f"with its references followed it has {count} subschemas; at most {SUBSCHEMAS}")
    try:
        _compiled(text)
    except jsonschema_rs.ValidationError as error:
        raise _invalid(tuple(str(key) for key in error.instance_path), error.message) from error
    except ValueError as error:
        raise SchemaInvalidError(str(error).split("\n\n", 1)[0][:MESSAGE_LENGTH]) from error


def _invalid(path: Path, message: str) -> SchemaInvalidError:
    """Names the place in the schema, if it is one."""
    field, message = ".".join(path), _shortened(message)
    return SchemaInvalidError(f"{field}: {message}" if field else message, errors=(FieldError(field, message),))


@lru_cache(maxsize=128)
def _compiled(schema: bytes) -> _Compiled:
    document = msgspec.json.decode(schema)
    options = jsonschema_rs.RegexOptions()
    validator = jsonschema_rs.validator_for(document, pattern_options=options, offline=True)
    expansion = _Expansion(document)
    return _Compiled(validator, expansion.count(document), expansion.count_alternatives(document))


class _Expansion:
    """Counts objects with all references followed. Every object counts, also one that is no schema."""

    def __init__(self, root: Document) -> None:
        self._root = root
        self._counted: dict[str, int] = {}
        self._open: set[str] = set()

    def count(self, node: Any, depth: int = 1) -> int:
        if depth > DEPTH:
            raise SchemaInvalidError(f"it is more than {DEPTH} levels deep, references followed")
        if isinstance(node, list):
            return sum(self.count(inner, depth + 1) for inner in node)
        if not isinstance(node, dict):
            return 0
        self._check_keywords(node, depth)
        inside = sum(self.count(inner, depth + 1) for inner in node.values())
        reference = node.get("$ref")
        return 1 + inside + (self._follow(reference, depth) if isinstance(reference, str) else 0)

    def count_alternatives(self, node: Any) -> int:
        """Only for what `count` found to be few enough."""
        if isinstance(node, list):
            return sum(map(self.count_alternatives, node))
        if not isinstance(node, dict):
            return 0
        found = sum(
            self.count(inner) if key in _ALTERNATIVES else self.count_alternatives(inner)
            for key, inner in node.items()
        )
        reference = node.get("$ref")
        if isinstance(reference, str):
            found += self.count_alternatives(resolve(self._root, reference))
        return found

    def _check_keywords(self, node: Document, depth: int) -> None:
        for keyword in _DYNAMIC:
            if isinstance(node.get(keyword), str):
                raise SchemaInvalidError(f"{keyword} is not taken; use $ref")
        if depth > 1 and isinstance(node.get("$id"), str):
            raise SchemaInvalidError("an $id inside of a schema is not taken; use $defs")

    def _follow(self, reference: str, depth: int) -> int:
        if reference in self._open:
            raise SchemaInvalidError(f"{reference} leads back to itself; write out the levels that are needed")
        if reference not in self._counted:
            self._open.add(reference)
            self._counted[reference] = self.count(resolve(self._root, reference), depth + 1)
            self._open.discard(reference)
        return self._counted[reference]


def resolve(root: Document, reference: str) -> Any:
    """Where a reference within the document leads. Raises SchemaInvalidError for any other."""
    if reference != "#" and not reference.startswith("#/"):
        raise SchemaInvalidError(f"{reference[:100]} is outside of the schema; only #/… is followed")
    node: Any = root
    for key in _keys(reference):
        if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, dict) and key in node:
            node = node[key]
        else:
            raise SchemaInvalidError(f"{reference[:100]} leads nowhere")
    return node


def _keys(reference: str) -> Iterator[str]:
    for part in reference.split("/")[1:]:
        yield part.replace("~1", "/").replace("~0", "~")
