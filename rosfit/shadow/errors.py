"""What can be wrong with a change of a shadow."""

from __future__ import annotations

from rosfit.kernel.errors import BadRequestError, ConflictError, InvalidError, NotFoundError, RosfitError


class ShadowShapeError(BadRequestError):
    code = "INVALID_SHADOW"
    title = "The shadow would have a shape that is not allowed"


class ShadowTooLargeError(RosfitError):
    code = "SHADOW_TOO_LARGE"
    status = 413
    title = "The shadow would be too large"


class VersionConflictError(ConflictError):
    code = "VERSION_CONFLICT"
    title = "The shadow has another version by now"


class PreconditionFailedError(RosfitError):
    code = "PRECONDITION_FAILED"
    status = 412
    title = "The shadow is not as the request expects it"


class StaleReportError(ConflictError):
    code = "STALE_REPORT"
    title = "A newer report has been taken already"


class ShadowVersionNotFoundError(NotFoundError):
    code = "SHADOW_VERSION_NOT_FOUND"
    title = "The shadow's history has no such version"


class LayerQueryError(InvalidError):
    code = "LAYER_QUERY"
    title = "This group cannot have desired values of its own"


class SchemaInvalidError(InvalidError):
    code = "INVALID_SCHEMA"
    title = "The schema cannot be used"


class DesiredRefusedError(InvalidError):
    code = "DESIRED_REFUSED"
    title = "What is desired does not fit its schema"


class LayerRefusedError(InvalidError):
    code = "LAYER_REFUSED"
    title = "Some devices cannot have these values"
