"""Errors that reach a person or a program: each carries a stable code and an HTTP status."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that was refused: `field` is a dotted path, `message` says what is expected."""

    field: str
    message: str


# In msgspec's words; the path it gives is of the object that lacks the field.
_OF_A_FIELD = re.compile(r"Object (?:missing required|contains unknown) field `([^`]*)`")


def field_error_of(error: Exception) -> FieldError:
    """Of msgspec's ValidationError, which ends with the path: `Expected … - at `$.waves[0]``."""
    told, _, path = str(error).partition(" - at `$")
    return field_error(path.strip("`").lstrip("."), told)


def field_error(path: str, told: str) -> FieldError:
    """What msgspec tells of the value at `path`; a field that is missing or unknown goes by its own name."""
    of_a_field = _OF_A_FIELD.match(told)
    return FieldError(".".join(filter(None, (path, of_a_field[1]))) if of_a_field else path, told)


class RosfitError(Exception):
    """Base of every error we mean. `code` is stable and UPPER_SNAKE; `detail` says what, why and what to do."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong in RosFit"

    def __init__(self, detail: str = "", *, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = errors


class BadRequestError(RosfitError):
    code = "BAD_REQUEST"
    status = 400
    title = "The request cannot be understood"


class UnauthenticatedError(RosfitError):
    code = "AUTH_REQUIRED"
    status = 401
    title = "A valid credential is needed"


class PermissionDeniedError(RosfitError):
    code = "PERMISSION_DENIED"
    status = 403
    title = "The right for this is missing"


class NotFoundError(RosfitError):
    code = "NOT_FOUND"
    status = 404
    title = "There is no such thing"


class ConflictError(RosfitError):
    code = "CONFLICT"
    status = 409
    title = "The request conflicts with what is there"


class InvalidError(RosfitError):
    code = "INVALID"
    status = 422
    title = "Some fields are not valid"


class RateLimitedError(RosfitError):
    code = "RATE_LIMITED"
    status = 429
    title = "Too many requests"

    def __init__(self, detail: str = "", *, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class UnavailableError(RosfitError):
    code = "UNAVAILABLE"
    status = 503
    title = "A server that RosFit depends on does not answer"
