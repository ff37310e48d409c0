"""Every error as `application/problem+json` with a stable code and the request's id."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from rosfit.kernel.errors import (
    BadRequestError,
    FieldError,
    InvalidError,
    NotFoundError,
    RateLimitedError,
    RosfitError,
    UnauthenticatedError,
    field_error,
)

log = structlog.get_logger(__name__)

PROBLEM = "application/problem+json"


class MethodNotAllowedError(RosfitError):
    code = "METHOD_NOT_ALLOWED"
    status = 405
    title = "This path does not take that method"

    def __init__(self, detail: str = "", *, allow: str = "") -> None:
        super().__init__(detail)
        self.allow = allow


class RangeNotSatisfiableError(RosfitError):
    code = "RANGE_NOT_SATISFIABLE"
    status = 416
    title = "The file does not have these bytes"

    def __init__(self, detail: str, *, size: int) -> None:
        super().__init__(detail)
        self.size = size


class UnsupportedMediaTypeError(RosfitError):
    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415
    title = "The body has a content type that is not taken here"


class TooLargeError(RosfitError):
    code = "TOO_LARGE"
    status = 413
    title = "The body is too large"


_BY_STATUS: dict[int, type[RosfitError]] = {
    400: BadRequestError,
    415: UnsupportedMediaTypeError,
}


# Litestar tells of a parameter that is not there in its detail only.
_MISSING = re.compile(r"Missing required (?P<kind>\w+) parameter '(?P<field>[^']+)'")


def to_rosfit_error(error: Exception, body_limit: int | None = None) -> RosfitError:
    """Our own errors as they are; the framework's by their status; anything else is a fault of ours."""
    match error:
        case RosfitError():
            return error
        case ValidationException() if _lacks_body(error):
            return BadRequestError("The body is empty; send a JSON object")
        case ValidationException():
            return InvalidError("Correct the fields named in errors", errors=_field_errors(error))
        case HTTPException() if (field := _misread_field(error)) is not None:
            return InvalidError("Correct the fields named in errors", errors=(field,))
        case HTTPException() if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            return MethodNotAllowedError(error.detail, allow=(error.headers or {}).get("allow", ""))
        case HTTPException() if error.status_code == HTTPStatus.NOT_FOUND:
            return NotFoundError("Nothing is served at this address; check it for a typing error")
        case HTTPException() if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return TooLargeError(f"A body has at most {body_limit} bytes here")
        case HTTPException() if error.status_code in _BY_STATUS:
            return _BY_STATUS[error.status_code](error.detail)
        case HTTPException() if error.status_code < 500:
            return BadRequestError(error.detail)
        case RecursionError():
            return BadRequestError("The body is nested too deep")
        case UnicodeDecodeError():
            return BadRequestError("The body is not UTF-8")
        case ExceptionGroup() if len(error.exceptions) == 1:
            # What a unit of work makes of an error comes back from Litestar in a group of one.
            return to_rosfit_error(error.exceptions[0], body_limit)
    log.exception("request_failed", exc_info=error)
    return RosfitError("This is a fault in RosFit; the server's log has it under the request_id")


def _misread_field(error: HTTPException) -> FieldError | None:
    """A body's field that is called like something we inject, which Litestar takes for a fault of ours."""
    message = str(error.__cause__)
    if not isinstance(error.__cause__, msgspec.ValidationError) or "`$.data" not in message:
        return None
    expected, _, path = message.rpartition(" - at ")
    return FieldError(path.strip("`").removeprefix("$.data").lstrip("."), expected)


def _lacks_body(error: ValidationException) -> bool:
    extra = error.extra if isinstance(error.extra, list) else []
    return any(isinstance(entry, dict) and entry.get("message") == "'data'" for entry in extra)


def _field_errors(error: ValidationException) -> tuple[FieldError, ...]:
    if missing := _MISSING.match(error.detail):
        return (FieldError(missing["field"], f"this {missing['kind']} parameter is required"),)
    extra = error.extra if isinstance(error.extra, list) else []
    return tuple(
        _named(str(entry.get("key", "")), str(entry.get("message", ""))) for entry in extra if isinstance(entry, dict)
    )


def _named(key: str, told: str) -> FieldError:
    """Litestar calls the whole body by our parameter's name, `data`."""
    found = field_error("" if key == "data" else key, told)
    return found if found.field else FieldError(key, told)


def problem(request: Request[Any, Any, Any], error: RosfitError) -> Response[dict[str, Any]]:
    """RFC 9457 with our members `code`, `request_id` and, for field errors, `errors`."""
    body: dict[str, Any] = {
        "type": f"urn:rosfit:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request.scope.get("state", {}).get("request_id"),
    }
    if error.errors:
        body["errors"] = [{"field": one.field, "message": one.message} for one in error.errors]
    return Response(body, status_code=HTTPStatus(error.status), media_type=PROBLEM, headers=_headers(error))


def _headers(error: RosfitError) -> dict[str, str]:
    if isinstance(error, UnauthenticatedError):
        return {"WWW-Authenticate": 'Bearer realm="rosfit"'}
    if isinstance(error, RateLimitedError):
        return {"Retry-After": str(max(1, round(error.retry_after_s)))}
    if isinstance(error, MethodNotAllowedError):
        return {"Allow": error.allow}
    if isinstance(error, RangeNotSatisfiableError):
        return {"Content-Range": f"bytes */{error.size}"}
    return {}
