"""Query parameters that several lists share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from litestar.params import Parameter

from rosfit.kernel.clock import parse_time
from rosfit.kernel.errors import FieldError, InvalidError
from rosfit.kernel.paging import MAX_LIMIT

Limit = Annotated[int, Parameter(query="limit", ge=1, le=MAX_LIMIT, description=f"items per page, up to {MAX_LIMIT}")]
Cursor = Annotated[str | None, Parameter(query="cursor", description="`next_cursor` of the page before")]
From = Annotated[
    str | None, Parameter(query="from", description="first time, inclusive: RFC 3339, or Unix seconds or milliseconds")
]
To = Annotated[str | None, Parameter(query="to", description="last time, exclusive")]

DEFAULT_LIMIT = 50


def time_parameter(name: str, text: str | None) -> datetime | None:
    """Raises InvalidError naming the parameter."""
    if text is None:
        return None
    try:
        try:
            return parse_time(float(text))
        except ValueError:
            # In a query string `+` means a space, and people paste offsets such as +02:00.
            return parse_time(text.replace(" ", "+"))
    except ValueError as error:
        raise InvalidError(errors=(FieldError(name, str(error)),)) from error
