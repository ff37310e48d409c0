"""The query language of device lists and saved groups, and its form in SQL.

    status:online tag:warehouse,dock battery < 20 -type:simulator metadata.site = "hall 3" bot

Terms stand side by side and all must hold; `a,b` means either; a minus in front means not; a word that is no term is
looked for in id and name; text between quotes may hold spaces, and a quote written twice. Comparisons: `:` and `=`
(equal), `!=`, `<`, `<=`, `>`, `>=`. `age` is the time since the device was last heard, such as `age > 5m`.
`shadow.desired.…` and `shadow.reported.…` are leaves of the default shadow; `shadow.state` and `shadow.pending` tell
of all shadows of a device whether, and for how long, what it reports is not what is desired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from psycopg import sql

from rosfit.kernel.errors import BadRequestError

LENGTH_LIMIT = 2_000

_SHADOW = "(SELECT s.{} FROM shadows s WHERE s.device_id = d.device_id AND s.name = 'default')"
_DOCUMENTS = {
    "metadata": "d.metadata",
    "firmware": "d.firmware",
    "shadow.desired": _SHADOW.format("desired"),
    "shadow.reported": _SHADOW.format("reported"),
}
# As `Drift.state` has it.
_SHADOW_STATE = """(
    SELECT CASE WHEN NOT coalesce(bool_or(s.desired IS NOT NULL), false) THEN 'none'
                WHEN min(s.pending_since) IS NULL THEN 'in_sync'
                WHEN bool_or(s.reported IS NOT NULL) THEN 'pending' ELSE 'never' END
    FROM shadows s WHERE s.device_id = d.device_id AND s.version > 0)"""
_COLUMNS = {
    "id": "d.device_id",
    "device_id": "d.device_id",
    "name": "d.name",
    "status": "d.status",
    "type": "d.type",
    "reason": "d.status_reason",
    "shadow.state": _SHADOW_STATE,
}
_NUMBERS = {
    "battery": "v.battery",
    "age": "extract(epoch FROM now() - v.last_seen)",
    "shadow.pending": "extract(epoch FROM now() - (SELECT min(s.pending_since) FROM shadows s"
    " WHERE s.device_id = d.device_id))",
}
_TIMES = {"age", "shadow.pending"}
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "": 1}

# What PostgreSQL reads as one without effort; an exponent may ask for a number of a million digits.
_JSON_NUMBER = re.compile(r"-?(0|[1-9]\d{0,30})(\.\d{1,30})?")

# What a word that is looked for has only by mistake; `:` is in many names.
_OPERATOR = re.compile(r"[<>=]")

_TERM = re.compile(
    r"""\s*(?P<not>-)?
    (?:(?P<key>[a-z_]+(?:\.[A-Za-z0-9_-]+)*)\s*(?P<op>>=|<=|!=|[:=<>])\s*(?P<value>"(?:[^"]|"")*"|[^\s"]+)
      |(?P<quoted>"(?:[^"]|"")*")|(?P<word>\S+))""",
    re.VERBOSE,
)


class QueryError(BadRequestError):
    code = "INVALID_QUERY"
    title = "The query cannot be understood"


class Term(msgspec.Struct, frozen=True):
    """`key` is empty for a word that is looked for in id and name."""

    key: str
    op: str
    value: str
    negated: bool = False


Condition = sql.Composable

EVERYTHING: Condition = sql.SQL("TRUE")
NOTHING: Condition = sql.SQL("FALSE")

# Resolves a group's name to its condition. Raises QueryError for an unknown one.
GroupCondition = Callable[[str], Condition]


def parse_query(text: str) -> list[Term]:
    """Raises QueryError for what cannot be a term, such as a comparison of an unknown field."""
    if len(text) > LENGTH_LIMIT or "\0" in text:
        raise QueryError(f"A query has at most {LENGTH_LIMIT} characters and no U+0000")
    terms: list[Term] = []
    at = 0
    while text[at:].strip():
        match = _TERM.match(text, at)
        if match is None:
            raise QueryError(f"{text[at : at + 40]!r} is no term; put text with quotes between quotes")
        terms.append(_term(match))
        at = match.end()
    return terms


def _term(match: re.Match[str]) -> Term:
    negated = match["not"] is not None
    if match["key"] is None:
        if match["word"] is not None and _OPERATOR.search(match["word"]):
            word = match["word"][:40]
            raise QueryError(f"{word!r} compares nothing: write a field, a sign and a value, or put it between quotes")
        return Term("", ":", _unquoted(match["quoted"]) if match["quoted"] else match["word"], negated)
    if not is_field(match["key"]):
        if match["op"] == ":":
            return Term("", ":", match.group().strip().removeprefix("-"), negated)
        raise QueryError(f"{match['key']!r} is no field; fields are {', '.join(field_names())}")
    return Term(match["key"], match["op"], _unquoted(match["value"]), negated)


def quoted(value: str) -> str:
    """A value as a term takes it, whatever is in it; a quote within is written twice."""
    return '"' + value.replace('"', '""') + '"'


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def field_names() -> list[str]:
    return sorted({*_COLUMNS, *_NUMBERS, "tag", "group", *(f"{document}.…" for document in _DOCUMENTS)})


def is_field(key: str) -> bool:
    return key in {*_COLUMNS, *_NUMBERS, "tag", "group"} or _document_of(key) is not None


def _document_of(key: str) -> str | None:
    return next((document for document in _DOCUMENTS if key.startswith(f"{document}.")), None)


def groups_in(terms: list[Term]) -> list[str]:
    """The names of groups that a query asks for."""
    return [name for term in terms if term.key == "group" for name in term.value.split(",")]


def asks_shadows(text: str) -> bool:
    return any(term.key.startswith("shadow.") for term in parse_query(text))


def to_sql(terms: list[Term], groups: Mapping[str, Condition] | None = None) -> Condition:
    """A condition over `devices d` and `device_vitals v`. `groups` has the condition of each group asked for."""
    return all_of([_negate(_condition(term, groups or {}), term.negated) for term in terms])


def all_of(conditions: list[Condition]) -> Condition:
    return sql.SQL("({})").format(sql.SQL(" AND ").join(conditions)) if conditions else EVERYTHING


def any_of(conditions: list[Condition]) -> Condition:
    return sql.SQL("({})").format(sql.SQL(" OR ").join(conditions)) if conditions else NOTHING


def literal(value: Any) -> Condition:
    """A quoted value. A `%` in it would be taken for a placeholder and is doubled."""
    return sql.SQL(sql.Literal(value).as_string(None).replace("%", "%%"))


def _negate(condition: Condition, negated: bool) -> Condition:
    return sql.SQL("NOT coalesce({}, false)").format(condition) if negated else condition


def _condition(term: Term, groups: Mapping[str, Condition]) -> Condition:
    if not term.key:
        return text_condition(term.value)
    if term.key == "tag":
        return _equality(term, lambda value: sql.SQL("d.tags @> ARRAY[{}]::text[]").format(literal(value)))
    if term.key == "group":
        return _equality(term, lambda value: groups[value])
    if term.key in _NUMBERS:
        return _number_condition(term)
    if (document := _document_of(term.key)) is not None:
        path = term.key.removeprefix(f"{document}.").split(".")
        return document_condition(term, sql.SQL(_DOCUMENTS[document]), path)
    column = sql.SQL(_COLUMNS[term.key])
    if term.op in {"<", ">", "<=", ">="}:
        raise QueryError(f"{term.key} is text: compare it with : = or !=")
    return _equality(term, lambda value: sql.SQL("{} = {}").format(column, literal(value)))


def id_condition(device_id: str) -> Condition:
    return sql.SQL("d.device_id = {}").format(literal(device_id))


def text_condition(text: str) -> Condition:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    pattern = literal(f"%{escaped}%")
    return sql.SQL("(d.device_id ILIKE {0} OR d.name ILIKE {0})").format(pattern)


def _equality(term: Term, equal: Callable[[str], Condition]) -> Condition:
    if term.op not in {":", "=", "!="}:
        raise QueryError(f"{term.key} has no order: compare it with : = or !=")
    return _negate(any_of([equal(value) for value in term.value.split(",")]), term.op == "!=")


def _number_condition(term: Term) -> Condition:
    column = sql.SQL(_NUMBERS[term.key])
    number = _seconds(term.value) if term.key in _TIMES else _number(term.value)
    return sql.SQL("{} {} {}").format(column, _operator(term.op), literal(number))


def _operator(op: str) -> Condition:
    return sql.SQL({":": "=", "!=": "<>"}.get(op, op))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise QueryError(f"{text[:40]!r} is not a number") from error


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if match is None:
        raise QueryError(f"{text[:40]!r} is not a time such as 30s, 5m, 2h or 1d")
    return float(match[1]) * _UNIT_S[match[2]]


def document_condition(term: Term, document: Condition, path: list[str]) -> Condition:
    """A leaf of a JSON document: numbers compare as numbers, true and false as such, all else as text."""
    found = sql.SQL("({} #> {})").format(document, literal(path))
    if term.op in {"<", ">", "<=", ">="}:
        # Not AND, whose sides come in any order: what is no number cannot be cast to one.
        return sql.SQL("CASE WHEN jsonb_typeof({0}) = 'number' THEN ({0})::numeric {1} {2} ELSE false END").format(
            found, _operator(term.op), literal(_number(term.value))
        )
    return _equality(term, lambda value: _leaf_equals(document, path, value))


def _leaf_equals(document: Condition, path: list[str], value: str) -> Condition:
    same_text = sql.SQL("{} #>> {} = {}").format(document, literal(path), literal(value))
    if not _JSON_NUMBER.fullmatch(value):
        return same_text
    same_number = sql.SQL("({} #> {}) = {}::jsonb").format(document, literal(path), literal(value))
    return any_of([same_text, same_number])
