"""What can be wrong with a question about telemetry."""

from __future__ import annotations

from rosfit.kernel.errors import InvalidError, NotFoundError, RosfitError


class SeriesRequestError(InvalidError):
    code = "INVALID_SERIES"
    title = "This series cannot be computed"


class ExportRequestError(InvalidError):
    code = "INVALID_EXPORT"
    title = "This export cannot be made"


class FrameNotFoundError(NotFoundError):
    code = "BLOB_NOT_FOUND"
    title = "The device has sent no such blob"


class DeadLetterNotFoundError(NotFoundError):
    code = "DEAD_LETTER_NOT_FOUND"
    title = "There is no such dead letter"


class StillBadError(InvalidError):
    code = "STILL_BAD"
    title = "The message still cannot be taken"


class AlreadyReplayedError(RosfitError):
    code = "ALREADY_REPLAYED"
    status = 409
    title = "The dead letter was replayed already"
