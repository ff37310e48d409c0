"""What can be wrong with a request about devices."""

from __future__ import annotations

from rosfit.kernel.errors import ConflictError, InvalidError, NotFoundError


class DeviceNotFoundError(NotFoundError):
    code = "DEVICE_NOT_FOUND"
    title = "There is no such device"


class DeviceExistsError(ConflictError):
    code = "DEVICE_EXISTS"
    title = "A device with this id is registered already"


class TypeImmutableError(ConflictError):
    code = "TYPE_IMMUTABLE"
    title = "The type of a device cannot change after registration"


class StatusTransitionError(ConflictError):
    code = "STATUS_TRANSITION"
    title = "A device cannot go from its present status to this one"


class DeviceDecommissionedError(ConflictError):
    code = "DEVICE_DECOMMISSIONED"
    title = "The device is decommissioned, which is final"


class UnstorableError(InvalidError):
    code = "INVALID"
    title = "A text holds a character that cannot be stored"


class GroupNotFoundError(NotFoundError):
    code = "GROUP_NOT_FOUND"
    title = "There is no such group"


class GroupExistsError(ConflictError):
    code = "GROUP_EXISTS"
    title = "A group with this name exists already"


class GroupInUseError(ConflictError):
    code = "GROUP_IN_USE"
    title = "Somebody's rights are limited to this group"
