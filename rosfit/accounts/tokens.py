"""Signed access tokens (JWT, EdDSA) and the random tokens of which only a hash is kept."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
import warnings
from datetime import datetime
from typing import Any, NamedTuple

from cryptography.fernet import Fernet, MultiFernet
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError, SecurityWarning
from joserfc.jwk import KeySet, OKPKey

from rosfit.accounts.errors import TokenExpiredError, TokenInvalidError
from rosfit.accounts.models import Actor, User

# RFC 9864 renames EdDSA to Ed25519; readers of our tokens know the old name.
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)

ISSUER = "rosfit"
DEVICE_ISSUER = "rosfit/devices"
ALGORITHM = "EdDSA"
# By it people and scanners of leaked secrets recognise an API key.
KEY_PREFIX = "rfk_"

ACCESS_TTL_S = 3600
REFRESH_TTL_S = 30 * 86_400
SESSION_TTL_S = 14 * 86_400

# Ours name no audience, so that any reader of the public keys takes them; one that names another is not for us.
_claims = jwt.JWTClaimsRegistry(
    iss={"essential": True, "value": ISSUER}, sub={"essential": True}, exp={"essential": True}, aud={"value": ISSUER}
)

_device_claims = jwt.JWTClaimsRegistry(
    iss={"essential": True, "value": DEVICE_ISSUER}, sub={"essential": True}, jti={"essential": True}
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


EXPIRED = "Sign in again, or use the refresh token"


class Claims(NamedTuple):
    """Of whom a token speaks, and from when to when (Unix seconds). Rights are looked up, not carried."""

    subject: str
    issued_at: float
    expires_at: float
    # Of the refresh tokens it came with; a key's token has none.
    family: str | None = None


# Tokens whose signature has been checked, so that each costs its 0.1 ms of CPU once.
VERIFIED_LIMIT = 10_000


class Signer:
    """Signs with the newest key and takes what any key that is not retired has signed."""

    def __init__(self, private_jwks: list[dict[str, Any]]) -> None:
        self.use(private_jwks)

    def use(self, private_jwks: list[dict[str, Any]]) -> None:
        """Sign with the first of these from now on."""
        self._keys = KeySet([OKPKey.import_key(jwk) for jwk in private_jwks])
        self._verified: dict[str, Claims] = {}

    def box(self, purpose: str) -> MultiFernet:
        """Encrypts what only this installation, on any replica, may read again; keys are made from the signing keys."""
        secrets_ = [f"{purpose}:{key.as_dict(private=True)['d']}".encode() for key in self._keys.keys]
        return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(one).digest())) for one in secrets_])

    def public_jwks(self) -> dict[str, Any]:
        return dict(self._keys.as_dict(private=False))

    def sign(self, user: User, family: str) -> str:
        """An access token that ends with the family of refresh tokens it came with."""
        return self._sign(user.id, {"role": user.role, "email": user.email, "name": user.name, "sid": family})

    def sign_key(self, key: Actor) -> str:
        """An access token for an API key."""
        return self._sign(key.id, {"role": "key", "name": key.name})

    def _sign(self, subject: str, about: dict[str, str]) -> str:
        now = time.time()
        key = self._keys.keys[0]
        claims = about | {
            "iss": ISSUER,
            "sub": subject,
            "iat": int(now),
            # Finer than `iat`, so that a revocation parts the tokens of one second.
            "iat_ms": int(now * 1000),
            "exp": int(now) + ACCESS_TTL_S,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims, key, algorithms=[ALGORITHM])

    def sign_device(self, device_id: str, credential_id: str, scopes: list[str], expires_at: datetime | None) -> str:
        """An MQTT password that says itself whose it is; no access token, since another issuer gives it."""
        key = self._keys.keys[0]
        claims: dict[str, Any] = {"iss": DEVICE_ISSUER, "sub": device_id, "jti": credential_id, "iat": int(time.time())}
        claims["scope"] = " ".join(scopes)
        if expires_at is not None:
            claims["exp"] = int(expires_at.timestamp())
        return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims, key, algorithms=[ALGORITHM])

    def read_device(self, token: str) -> tuple[str, str] | None:
        """(device_id, credential_id) of a device's token; None for anything else, forged or run out."""
        try:
            claims = jwt.decode(token, self._keys, algorithms=[ALGORITHM]).claims
            _device_claims.validate(claims)
        except (JoseError, ValueError, TypeError, KeyError):
            return None
        return str(claims["sub"]), str(claims["jti"])

    def verify(self, token: str) -> Claims:
        """What the token says. Raises TokenExpiredError or TokenInvalidError."""
        known = self._verified.get(token)
        if known is None:
            known = self._read(token)
            if len(self._verified) >= VERIFIED_LIMIT:
                self._verified.clear()
            self._verified[token] = known
        if known.expires_at <= time.time():
            raise TokenExpiredError(EXPIRED)
        return known

    def _read(self, token: str) -> Claims:
        try:
            claims = jwt.decode(token, self._keys, algorithms=[ALGORITHM]).claims
            _claims.validate(claims)
            family = claims.get("sid")
            issued_at, expires_at = float(claims["iat_ms"]) / 1000, float(claims["exp"])
            return Claims(str(claims["sub"]), issued_at, expires_at, None if family is None else str(family))
        except ExpiredTokenError as error:
            raise TokenExpiredError(EXPIRED) from error
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise TokenInvalidError("Sign in at /api/v1/auth/login and send its access_token as Bearer") from error
