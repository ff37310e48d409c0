"""Tokens that nobody gave: each is refused by the API, by both sockets, and with the same words."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import OKPKey
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from rosfit.accounts.errors import TokenExpiredError, TokenInvalidError
from rosfit.accounts.models import Actor
from rosfit.accounts.tokens import Signer, new_signing_key
from tests.server import ADMIN_EMAIL, PASSWORD, RunningServer


class Forger:
    """Knows a good token, the public key, and, for what only RosFit itself could sign, the private one."""

    def __init__(self, server: RunningServer) -> None:
        self.good = server.admin.token or ""
        header, claims, self.signature = self.good.split(".")
        self.header, self.claims = _opened(header), _opened(claims)
        with psycopg.connect(server.endpoints.database_url) as connection:
            row = connection.execute("SELECT private_jwk FROM signing_keys WHERE retired_at IS NULL").fetchone()
        assert row
        self.key = OKPKey.import_key(row[0])
        self.public = server.anonymous().get("//.well-known/jwks.json").json()["keys"][0]

    def signed(self, key: OKPKey | None = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """As RosFit would sign it, but for what is given; a claim of None is left out."""
        wanted = {name: value for name, value in (self.claims | claims).items() if value is not None}
        return jwt.encode(self.header | (header or {}), wanted, key or self.key, algorithms=["EdDSA"])

    def by_secret(self, secret: bytes, algorithm: str = "HS256") -> str:
        """HS/RS confusion: the public key taken for a shared secret."""
        text = f"{_closed(self.header | {'alg': algorithm})}.{_closed(self.claims)}"
        digest = hmac.new(secret, text.encode(), {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[algorithm]).digest()
        return f"{text}.{_base64(digest)}"

    def unsigned(self, algorithm: str, signature: str = "") -> str:
        return f"{_closed(self.header | {'alg': algorithm})}.{_closed(self.claims)}.{signature}"

    def all(self) -> dict[str, str]:
        other = OKPKey.generate_key("Ed25519", {"kid": self.header["kid"]})
        public = OKPKey.import_key(self.public).public_key
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        past, future = int(time.time()) - 10, int(time.time()) + 600
        return {
            "alg none": self.unsigned("none"),
            "alg None": self.unsigned("None"),
            "alg none with the old signature": self.unsigned("none", self.signature),
            "HS256 with the raw public key": self.by_secret(raw),
            "HS256 with the public PEM": self.by_secret(pem),
            "HS512 with the public JWK": self.by_secret(json.dumps(self.public).encode(), "HS512"),
            "HS256 with nothing": self.by_secret(b""),
            "another key under our key's id": self.signed(other),
            "another key in the header": self.signed(other, {"jwk": other.as_dict(private=False)}),
            "another key at an address": self.signed(other, {"jku": "https://evil.example/jwks.json"}),
            "another issuer": self.signed(iss="https://evil.example"),
            "the issuer of devices": self.signed(iss="rosfit/devices"),
            "no issuer": self.signed(iss=None),
            "another audience": self.signed(aud="https://evil.example"),
            "run out": self.signed(exp=past),
            "without an end": self.signed(exp=None),
            "not yet": self.signed(nbf=future),
            "nobody": self.signed(sub=None),
            "a user who never was": self.signed(sub="usr_never"),
            "a key that never was": self.signed(sub="key_never"),
            "a device": self.signed(sub="red-1"),
            "changed claims": self.good.replace(self.good.split(".")[1], _closed(self.claims | {"sub": "usr_x"})),
            "no signature": self.good.rpartition(".")[0] + ".",
            "two parts": self.good.rpartition(".")[0],
            "an object": "{}",
        }


def _opened(part: str) -> dict[str, Any]:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _closed(value: Any) -> str:
    return _base64(json.dumps(value).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def forger(server: RunningServer) -> Forger:
    return Forger(server)


def test_what_the_forger_signs_without_a_change_is_taken(server: RunningServer, forger: Forger) -> None:
    """Else the refusals below would prove nothing."""
    answer = server.anonymous(headers={"Authorization": f"Bearer {forger.signed()}"}).get("/auth/me")
    assert answer.status_code == 200


def test_the_api_takes_no_forged_token(server: RunningServer, forger: Forger) -> None:
    client = server.anonymous()
    for name, token in forger.all().items():
        answer = client.get("/devices", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, f"{name}: {answer.text}"
        assert answer.json()["code"] in {"AUTH_REQUIRED", "AUTH_EXPIRED"}, name
        assert token not in answer.text


@pytest.mark.parametrize("place", ["/ws", "/ws/teleop/red-1"])
@pytest.mark.parametrize("way", ["url", "message"])
def test_no_socket_takes_a_forged_token(server: RunningServer, forger: Forger, place: str, way: str) -> None:
    url = server.websocket_url.removesuffix("/ws") + place
    for name, token in forger.all().items():
        with connect(f"{url}?token={token}" if way == "url" else url) as socket:
            if way == "message":
                socket.send(json.dumps({"type": "auth", "data": {"token": token}}))
            assert json.loads(socket.recv(5))["data"]["code"] in {"AUTH_REQUIRED", "AUTH_EXPIRED"}, name
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(5)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401, name


def test_refresh_tokens_are_of_one_use_and_of_one_kind(server: RunningServer) -> None:
    client = server.anonymous()
    first = client.made("/auth/login", {"email": ADMIN_EMAIL, "password": PASSWORD}, 200)
    second = client.made("/auth/refresh", {"refresh_token": first["refresh_token"]}, 200)
    as_bearer = client.get("/devices", headers={"Authorization": f"Bearer {second['refresh_token']}"})
    assert as_bearer.status_code == 401
    for token in (first["access_token"], "no such token", ""):
        assert client.post("/auth/refresh", json={"refresh_token": token}).status_code == 401
    stolen = client.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert (stolen.status_code, stolen.json()["code"]) == (401, "REFRESH_REUSED")
    # The whole family ends, since nobody can tell who of the two is the thief.
    assert client.post("/auth/refresh", json={"refresh_token": second["refresh_token"]}).status_code == 401


def test_a_token_that_was_taken_before_still_runs_out_and_ends_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signatures that were checked are remembered."""
    signer = Signer([new_signing_key()[1]])
    token = signer.sign_key(Actor("key_1", "key", name="one"))
    claims = signer.verify(token)
    assert signer.verify(token) is claims
    with monkeypatch.context() as later:
        later.setattr(time, "time", lambda: claims.expires_at)
        with pytest.raises(TokenExpiredError):
            signer.verify(token)
    signer.use([new_signing_key()[1]])
    with pytest.raises(TokenInvalidError):
        signer.verify(token)
