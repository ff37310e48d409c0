"""What can go wrong with people and their credentials."""

from __future__ import annotations

from rosfit.kernel.errors import ConflictError, InvalidError, NotFoundError, PermissionDeniedError, UnauthenticatedError


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


class UserNotFoundError(NotFoundError):
    code = "USER_NOT_FOUND"
    title = "There is no such user"


class LastAdminError(ConflictError):
    code = "LAST_ADMIN"
    title = "Without this admin nobody could manage users"


class KeyNotFoundError(NotFoundError):
    code = "KEY_NOT_FOUND"
    title = "There is no such API key"


class KeyExpiryError(InvalidError):
    code = "INVALID"
    title = "The expiry of the key is not valid"


class BadClientError(UnauthenticatedError):
    code = "INVALID_CLIENT"
    title = "The client id or secret is not right"
