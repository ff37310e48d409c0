"""What can be wrong with a command."""

from __future__ import annotations

from rosfit.kernel.errors import ConflictError, InvalidError, NotFoundError, RosfitError


class CommandNotFoundError(NotFoundError):
    code = "COMMAND_NOT_FOUND"
    title = "There is no such command"


class DeviceOfflineError(ConflictError):
    code = "DEVICE_OFFLINE"
    title = "The device is not connected"


class DeviceNotCommandableError(ConflictError):
    code = "DEVICE_DECOMMISSIONED"
    title = "The device takes no commands"


class TerminalStateError(ConflictError):
    code = "TERMINAL_STATE"
    title = "The command has ended already"


class CommandExpiryError(InvalidError):
    code = "INVALID"
    title = "The expiry of the command is not valid"


class CommandTooLargeError(RosfitError):
    code = "COMMAND_TOO_LARGE"
    status = 413
    title = "The command is too large for a message to a robot"


class LeaseHeldError(ConflictError):
    code = "LEASE_HELD"
    title = "Somebody else drives this robot"


class DeviceRefusedError(ConflictError):
    code = "DEVICE_REFUSED"
    title = "The device did not do what it was asked"


class DeviceDidNotAnswerError(RosfitError):
    code = "DEVICE_DID_NOT_ANSWER"
    status = 504
    title = "The device did not answer in time"


class TaskNotFoundError(NotFoundError):
    code = "TASK_NOT_FOUND"
    title = "There is no such task"


class TaskNotCancellableError(ConflictError):
    code = "TASK_NOT_CANCELLABLE"
    title = "The task cannot be cancelled any more"


class BulkNotFoundError(NotFoundError):
    code = "BULK_NOT_FOUND"
    title = "There is no such bulk command"
