"""An OpenID Connect provider over HTTP: discovery, the code with PKCE, and an ID token that is checked before use."""

from __future__ import annotations

import ipaddress
import time
import warnings
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key

from rosfit.accounts.oidc import Flow, ProviderRefusedError, TokenRefusedError
from rosfit.kernel.errors import UnavailableError
from rosfit.settings import Settings

with warnings.catch_warnings():
    # Authlib wants httpx2, and would say so to each person who starts RosFit.
    warnings.filterwarnings("ignore", message="The httpx module is deprecated")
    from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]

log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0
# How long the provider's description and keys are believed; a key id that is not among them is asked for at once.
FRESH_S = 3600.0
LEEWAY_S = 60

# Only keys whose private half stays with the provider: with HS256 its public key, or our secret, could sign.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]


def make_provider(settings: Settings) -> OidcProvider | None:
    """None when the settings name no provider."""
    return OidcProvider(settings) if settings.oidc_issuer else None


class OidcProvider:
    """Implements `accounts.oidc.Provider`."""

    def __init__(self, settings: Settings) -> None:
        self._issuer = settings.oidc_issuer or ""
        self._client_id = settings.oidc_client_id or ""
        self._client_secret = settings.oidc_client_secret
        self._scopes = " ".join(settings.oidc_scopes)
        self._group_claim = settings.oidc_group_claim
        self._known: dict[str, tuple[float, Any]] = {}

    async def authorization_url(self, redirect_uri: str, flow: Flow) -> str:
        endpoint = await self._endpoint("authorization_endpoint")
        async with self._client(redirect_uri) as client:
            url, _ = client.create_authorization_url(
                endpoint, state=flow.state, nonce=flow.nonce, code_verifier=flow.verifier
            )
        return str(url)

    async def claims(self, redirect_uri: str, flow: Flow, code: str) -> dict[str, Any]:
        endpoint = await self._endpoint("token_endpoint")
        async with self._client(redirect_uri, await self._auth_method()) as client:
            try:
                token = await client.fetch_token(endpoint, code=code, code_verifier=flow.verifier)
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error
            except (OAuthError, ValueError) as error:
                raise ProviderRefusedError(f"It did not take the code: {str(error)[:200]}") from error
            claims = await self._verified(str(token.get("id_token", "")), flow.nonce)
            if self._group_claim not in claims:
                claims |= await self._user_info(client, claims)
        return claims

    def _client(self, redirect_uri: str, auth_method: str | None = None) -> Any:
        return AsyncOAuth2Client(
            self._client_id,
            self._client_secret,
            token_endpoint_auth_method=auth_method,
            scope=self._scopes,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
            # The access token is used at once: one that lives for a minute is not too old.
            leeway=0,
        )

    async def _auth_method(self) -> str:
        if not self._client_secret:
            return "none"
        offered = (await self._description()).get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        return "client_secret_basic" if "client_secret_basic" in offered else "client_secret_post"

    async def _user_info(self, client: Any, claims: dict[str, Any]) -> dict[str, Any]:
        """Some providers tell groups only here. Nothing of it replaces what the ID token says."""
        if "userinfo_endpoint" not in await self._description():
            return {}
        try:
            answer = await client.get(await self._endpoint("userinfo_endpoint"))
            answer.raise_for_status()
            info = answer.json()
        except (httpx.HTTPError, OAuthError, ValueError) as error:
            raise self._unreachable(error) from error
        if not isinstance(info, dict) or info.get("sub") != claims["sub"]:
            raise TokenRefusedError("Its user info is about somebody else")
        return {name: value for name, value in info.items() if name not in claims}

    # ── what the provider says of itself ──

    async def _description(self) -> dict[str, Any]:
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        found = await self._fetch(url)
        if found.get("issuer") != self._issuer:
            raise TokenRefusedError(f"It calls itself {str(found.get('issuer'))[:200]!r}, not {self._issuer!r}")
        return found

    async def _endpoint(self, name: str) -> str:
        url = (await self._description()).get(name)
        if not isinstance(url, str) or not is_private(url):
            raise TokenRefusedError(f"Its {name} is not an https:// address")
        return url

    async def _fetch(self, url: str, *, fresh: bool = False) -> dict[str, Any]:
        known = self._known.get(url)
        if known and not fresh and time.monotonic() - known[0] < FRESH_S:
            return dict(known[1])
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
                answer = await client.get(url)
                answer.raise_for_status()
                found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._unreachable(error) from error
        if not isinstance(found, dict):
            raise TokenRefusedError(f"{url} does not hold a JSON object")
        self._known[url] = (time.monotonic(), found)
        return found

    def _unreachable(self, error: Exception) -> UnavailableError:
        log.warning("oidc_unreachable", issuer=self._issuer, why=str(error) or type(error).__name__)
        return UnavailableError(f"The sign-in provider {self._issuer} does not answer; try again, or use a password")

    # ── the ID token ──

    async def _verified(self, id_token: str, nonce: str) -> dict[str, Any]:
        try:
            claims = await self._signed_claims(id_token)
            self._check(claims, nonce)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            # The reason is for the log; a page that explains it would help whoever forges tokens.
            log.warning("oidc_token_refused", issuer=self._issuer, why=f"{type(error).__name__}: {error}")
            raise TokenRefusedError("Its ID token was refused; the server's log says why") from error
        return claims

    async def _signed_claims(self, id_token: str) -> dict[str, Any]:
        header = jws.extract_compact(id_token.encode()).headers()
        if header.get("alg") not in ALGORITHMS:
            raise ValueError(f"signed with {header.get('alg')!r}")
        keys = await self._keys(header) or await self._keys(header, fresh=True)
        for key in keys:
            try:
                return dict(jwt.decode(id_token, key, algorithms=ALGORITHMS).claims)
            except JoseError:
                continue
        raise ValueError(f"none of {len(keys)} fitting keys has signed it")

    async def _keys(self, header: dict[str, Any], *, fresh: bool = False) -> list[Key]:
        """The published keys that may have signed: of that id, if it names one, and meant for that algorithm."""
        published = (await self._fetch(await self._endpoint("jwks_uri"), fresh=fresh)).get("keys", [])
        wanted = [jwk for jwk in published if isinstance(jwk, dict) and _may_have_signed(jwk, header)]
        return [JWKRegistry.import_key(jwk) for jwk in wanted]

    def _check(self, claims: dict[str, Any], nonce: str) -> None:
        essential: dict[str, Any] = {name: {"essential": True} for name in ("sub", "exp", "iat")}
        essential |= {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": self._client_id},
            "nonce": {"essential": True, "value": nonce},
        }
        jwt.JWTClaimsRegistry(leeway=LEEWAY_S, **essential).validate(claims)
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if claims.get("azp", self._client_id if len(audiences) == 1 else None) != self._client_id:
            raise ValueError(f"azp is {claims.get('azp')!r}")
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
            raise ValueError("sub is not 1 to 255 characters")


def _may_have_signed(jwk: dict[str, Any], header: dict[str, Any]) -> bool:
    return (
        jwk.get("kty") in {"RSA", "EC", "OKP"}
        and jwk.get("use", "sig") == "sig"
        and jwk.get("alg", header["alg"]) == header["alg"]
        and ("kid" not in header or jwk.get("kid") == header["kid"])
    )


def is_private(url: str) -> bool:
    """https, or plain HTTP that does not leave this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return True
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.scheme == "http" and parts.hostname == "localhost"
