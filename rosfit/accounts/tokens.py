"""Signed access tokens (JWT, EdDSA) and the random tokens of which only a hash is kept."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import Any

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import KeySet, OKPKey

from rosfit.accounts.errors import TokenExpiredError, TokenInvalidError
from rosfit.accounts.models import Actor, User

ISSUER = "rosfit"
ALGORITHM = "EdDSA"
ACCESS_TTL_S = 3600
REFRESH_TTL_S = 30 * 86_400
SESSION_TTL_S = 14 * 86_400

_claims = jwt.JWTClaimsRegistry(
    iss={"essential": True, "value": ISSUER}, sub={"essential": True}, exp={"essential": True}
)


def new_secret() -> tuple[str, bytes]:
    """A random token of 256 bits and the hash under which it is kept."""
    token = secrets.token_urlsafe(32)
    return token, secret_hash(token)


def secret_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def new_signing_key() -> tuple[str, dict[str, Any]]:
    """(key id, private JWK)."""
    key = OKPKey.generate_key("Ed25519", auto_kid=True)
    return str(key.kid), dict(key.as_dict(private=True))


class Signer:
    """Signs with the newest key and takes what any key that is not retired has signed."""

    def __init__(self, private_jwks: list[dict[str, Any]]) -> None:
        self._keys = KeySet([OKPKey.import_key(jwk) for jwk in private_jwks])

    def public_jwks(self) -> dict[str, Any]:
        return dict(self._keys.as_dict(private=False))

    def sign(self, user: User) -> str:
        now = int(time.time())
        key = self._keys.keys[0]
        claims = {
            "iss": ISSUER,
            "sub": user.id,
            "role": user.role,
            "email": user.email,
            "name": user.name,
            "iat": now,
            "exp": now + ACCESS_TTL_S,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims, key, algorithms=[ALGORITHM])

    def verify(self, token: str) -> Actor:
        """Who the token speaks for. Raises TokenExpiredError or TokenInvalidError."""
        try:
            claims = jwt.decode(token, self._keys, algorithms=[ALGORITHM]).claims
            _claims.validate(claims)
        except ExpiredTokenError as error:
            raise TokenExpiredError("Sign in again, or use the refresh token") from error
        except (JoseError, ValueError, TypeError) as error:
            raise TokenInvalidError("Sign in at /api/v1/auth/login and send its access_token as Bearer") from error
        return Actor(
            claims["sub"],
            str(claims.get("role", "")),
            str(claims.get("email", "")),
            str(claims.get("name", "")),
            float(claims["exp"]),
        )
