"""What the exit code of `rosfit` says; a script can tell a wrong call from a server that is down."""

from enum import IntEnum

from rosfit.kernel.errors import RosfitError
from rosfit.settings import SettingsError


class Exit(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    UNREACHABLE = 5


_BY_STATUS = {404: Exit.NOT_FOUND, 401: Exit.NOT_ALLOWED, 403: Exit.NOT_ALLOWED, 503: Exit.UNREACHABLE}


def exit_code(error: RosfitError) -> Exit:
    if isinstance(error, SettingsError):
        return Exit.USAGE
    return _BY_STATUS.get(error.status, Exit.FAILED)
