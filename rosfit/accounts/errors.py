"""What can go wrong with people and their credentials."""

from __future__ import annotations

from rosfit.kernel.errors import ConflictError, PermissionDeniedError, UnauthenticatedError


class BadCredentialsError(UnauthenticatedError):
    code = "BAD_CREDENTIALS"
    title = "E-mail or password is not right"


class TokenInvalidError(UnauthenticatedError):
    code = "AUTH_REQUIRED"
    title = "The token is not valid"


class TokenExpiredError(UnauthenticatedError):
    code = "AUTH_EXPIRED"
    title = "The token has run out"


class RefreshReusedError(UnauthenticatedError):
    code = "REFRESH_REUSED"
    title = "The refresh token was used before, so its whole family is revoked"


class SetupTokenError(PermissionDeniedError):
    code = "SETUP_TOKEN_INVALID"
    title = "The set-up token is not right"


class AdminOnlyError(PermissionDeniedError):
    code = "PERMISSION_DENIED"
    title = "Only an admin may add users"


class UserExistsError(ConflictError):
    code = "USER_EXISTS"
    title = "A user with this e-mail address exists already"
