"""An OpenID Connect provider on loopback, in a process of its own; by the book, unless it is told a trick.

`python -m tests.edges.oidc_provider PORT`. `POST /-/next` says who signs in next, and which trick is played on them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

CLIENT_ID = "rosfit"
CLIENT_SECRET = "oidc-secret-" + "5" * 20


class Provider:
    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.keys: list[Any] = [RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)]
        self.next: dict[str, Any] = {"claims": {"sub": "nobody"}, "trick": ""}
        self.codes: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}

    def description(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Where to send the browser. Consent is taken as given."""
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256", "PKCE is missing"
        assert "openid" in asked["scope"].split()
        assert len(asked["state"]) >= 16
        assert len(asked["nonce"]) >= 16
        answer = {"state": asked["state"], "iss": self.issuer}
        if self.next["trick"] == "denied":
            return f"{asked['redirect_uri']}?{urlencode(answer | {'error': 'access_denied'})}"
        if self.next["trick"] == "mixed up":
            answer["iss"] = "https://evil.example"
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked | self.next
        return f"{asked['redirect_uri']}?{urlencode(answer | {'code': code})}"

    def token(self, form: dict[str, str]) -> dict[str, Any] | None:
        """None refuses: a code counts once, for the same address and with the verifier of its challenge."""
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None or form.get("grant_type") != "authorization_code":
            return None
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if _base64(digest) != asked["code_challenge"] or form.get("redirect_uri") != asked["redirect_uri"]:
            return None
        access = secrets.token_urlsafe(16)
        self.tokens[access] = asked
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": 60}
        return answer if asked["trick"] == "no id token" else answer | {"id_token": self.id_token(asked)}

    def id_token(self, asked: dict[str, Any]) -> str:
        now, trick = int(time.time()), asked["trick"]
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims |= asked["claims"]
        if trick == "groups in user info":
            claims.pop("groups", None)
        claims |= {
            "wrong nonce": {"nonce": secrets.token_urlsafe(24)},
            "wrong issuer": {"iss": "https://evil.example"},
            "wrong audience": {"aud": "another"},
            "many audiences": {"aud": [CLIENT_ID, "another"]},
            "other party": {"aud": [CLIENT_ID, "another"], "azp": "another"},
            "expired": {"iat": now - 900, "exp": now - 600},
            "from tomorrow": {"iat": now + 86_400, "exp": now + 90_000},
        }.get(trick, {})
        if trick == "no nonce":
            del claims["nonce"]
        return self.signed(claims, trick)

    def signed(self, claims: dict[str, Any], trick: str) -> str:
        key = self.keys[-1]
        header = {"alg": "ES256" if isinstance(key, ECKey) else "RS256", "kid": key.kid}
        match trick:
            case "alg none":
                parts = [{"alg": "none", "kid": key.kid}, claims]
                return (
                    ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + "."
                )
            case "signed with the public key":
                return _hmac_signed({"alg": "HS256", "kid": key.kid}, claims, key.as_pem(private=False))
            case "signed with the client's secret":
                return _hmac_signed({"alg": "HS256"}, claims, CLIENT_SECRET.encode())
            case "signed by somebody else":
                another = ECKey.generate_key("P-256") if isinstance(key, ECKey) else RSAKey.generate_key(2048)
                return jwt.encode(header, claims, another)
            case "no key id":
                del header["kid"]
        token = jwt.encode(header, claims, key)
        return token[:-8] + "AAAAAAAA" if trick == "changed" else token

    def user_info(self, token: str) -> dict[str, Any] | None:
        asked = self.tokens.get(token)
        if asked is None:
            return None
        return asked["claims"] | ({"sub": "somebody else"} if asked["trick"] == "user info of another" else {})

    def rotate(self) -> None:
        """A new key of another kind; the old ones stay published, as they should for a while."""
        self.keys.append(ECKey.generate_key("P-256", {"use": "sig"}, auto_kid=True))


class Handler(BaseHTTPRequestHandler):
    provider: Provider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        match parts.path:
            case "/.well-known/openid-configuration":
                self._answer(200, self.provider.description())
            case "/jwks":
                self._answer(200, {"keys": [key.as_dict(private=False) for key in self.provider.keys]})
            case "/authorize":
                self._answer(302, {}, Location=self.provider.authorize(_flat(parts.query)))
            case "/userinfo":
                info = self.provider.user_info(self.headers.get("Authorization", "").removeprefix("Bearer "))
                self._answer(200 if info else 401, info or {})
            case _:
                self._answer(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        match self.path:
            case "/-/next":
                self.provider.next = json.loads(body)
                self._answer(200, {})
            case "/-/rotate":
                self.provider.rotate()
                self._answer(200, {})
            case "/token" if self._is_client():
                token = self.provider.token(_flat(body))
                self._answer(200 if token else 400, token or {"error": "invalid_grant"})
            case _:
                self._answer(401, {"error": "invalid_client"})

    def _is_client(self) -> bool:
        wanted = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _answer(self, status: int, content: dict[str, Any], **headers: str) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet: a failed test shows what RosFit says."""


def _unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))


def _hmac_signed(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """By hand: a good library refuses to sign with such a key."""
    unsigned = _unsigned(header, claims)
    return f"{unsigned}.{_base64(hmac.digest(secret, unsigned.encode(), 'sha256'))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _flat(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}


def main() -> None:
    port = int(sys.argv[1])
    Handler.provider = Provider(f"http://127.0.0.1:{port}")
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
