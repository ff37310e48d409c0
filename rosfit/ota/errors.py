"""What can be wrong with artifacts and deployments."""

from __future__ import annotations

from rosfit.kernel.errors import BadRequestError, ConflictError, InvalidError, NotFoundError, PermissionDeniedError


class ArtifactNotFoundError(NotFoundError):
    code = "ARTIFACT_NOT_FOUND"
    title = "There is no such artifact"


class ArtifactExistsError(ConflictError):
    code = "ARTIFACT_EXISTS"
    title = "This version exists with other content"


class ArtifactInUseError(ConflictError):
    code = "ARTIFACT_IN_USE"
    title = "The artifact is in use"


class SignatureInvalidError(InvalidError):
    code = "SIGNATURE_INVALID"
    title = "The signature does not fit the file"


class UpdateKeyNotFoundError(NotFoundError):
    code = "UPDATE_KEY_NOT_FOUND"
    title = "There is no such update key"


class UpdateKeyInUseError(ConflictError):
    code = "UPDATE_KEY_IN_USE"
    title = "This update key signs"


class DeploymentNotFoundError(NotFoundError):
    code = "DEPLOYMENT_NOT_FOUND"
    title = "There is no such deployment"


class DeploymentStatusError(ConflictError):
    code = "DEPLOYMENT_STATUS"
    title = "The deployment's status does not allow it"


class DeploymentEmptyError(ConflictError):
    code = "DEPLOYMENT_EMPTY"
    title = "No device would be updated"


class SecondPersonNeededError(PermissionDeniedError):
    code = "SECOND_PERSON_NEEDED"
    title = "Somebody else must approve it"


class DownloadRefusedError(PermissionDeniedError):
    code = "DOWNLOAD_REFUSED"
    title = "This download link is not valid"


class UploadBrokenError(BadRequestError):
    code = "UPLOAD_BROKEN"
    title = "The upload cannot be read"
