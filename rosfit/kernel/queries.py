"""Named SQL: `-- name: intent` heads each statement of a package's `queries.sql`."""

from __future__ import annotations

import re
from importlib import resources
from typing import LiteralString, cast

_HEAD = re.compile(r"^-- name: *([a-z0-9_]+) *$", re.MULTILINE)


def parse_queries(text: str) -> dict[str, LiteralString]:
    parts = _HEAD.split(text)[1:]
    # The files ship with the code, so their text is as literal as if it stood here.
    return {name: cast("LiteralString", sql.strip()) for name, sql in zip(parts[::2], parts[1::2], strict=True)}


def load_queries(package: str) -> dict[str, LiteralString]:
    """The statements of `{package}/queries.sql` by name."""
    return parse_queries(resources.files(package).joinpath("queries.sql").read_text("utf-8"))
