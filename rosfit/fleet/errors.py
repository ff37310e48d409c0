"""What can be wrong with a request about devices."""

from __future__ import annotations

from rosfit.kernel.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)


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
    title = "The group is in use"


class CredentialNotFoundError(NotFoundError):
    code = "CREDENTIAL_NOT_FOUND"
    title = "There is no such credential"


class CertificateNotFoundError(NotFoundError):
    code = "CERTIFICATE_NOT_FOUND"
    title = "There is no such certificate"


class NoAuthorityError(ConflictError):
    code = "NO_CERTIFICATE_AUTHORITY"
    title = "This server has no certificate authority yet"


class AuthorityExistsError(ConflictError):
    code = "CERTIFICATE_AUTHORITY_EXISTS"
    title = "This server has a certificate authority already"


class SigningRequestError(InvalidError):
    code = "INVALID_CSR"
    title = "The certificate signing request cannot be signed"


class EnrolmentTokenError(UnauthenticatedError):
    code = "ENROLMENT_TOKEN_INVALID"
    title = "The enrolment token is not valid"


class EnrolmentNotFoundError(NotFoundError):
    code = "ENROLMENT_NOT_FOUND"
    title = "There is no such enrolment"


class EnrolmentDecidedError(ConflictError):
    code = "ENROLMENT_DECIDED"
    title = "This enrolment has been decided already"


class EnrolmentDeniedError(PermissionDeniedError):
    code = "ENROLMENT_DENIED"
    title = "This enrolment was denied"
