"""`/users`, `/api-keys`, `/auth/token` and `/audit`: who may do what, and who did."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.enums import RequestEncodingType
from litestar.handlers.base import BaseRouteHandler
from litestar.response import Stream

from rosfit.accounts import audit
from rosfit.accounts import service as accounts
from rosfit.accounts.errors import BadClientError
from rosfit.accounts.models import Actor, AuditEntry, Key, KeyWithSecret, NewKey, NewUser, User, UserChange
from rosfit.accounts.rights import Right
from rosfit.accounts.throttle import throttled
from rosfit.accounts.tokens import ACCESS_TTL_S
from rosfit.api.access import actor_of, record
from rosfit.api.edge import Connection, Edge, address_of, edge_of
from rosfit.api.idempotency import once
from rosfit.api.parameters import DEFAULT_LIMIT, Cursor, Limit
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work

AnyRequest = Request[Any, Any, Any]

USERS = {"right": Right.USERS_WRITE}
KEYS = {"right": Right.KEYS_WRITE}


async def user_exists(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard: 404 comes before whatever is wrong with the body."""
    async with edge_of(connection).open_work() as work:
        await accounts.get_user(work, connection.path_params["user_id"])


class UserController(Controller):
    path = "/users"
    tags = ("users",)

    @get(opt=USERS)
    async def list_users(self, work: Work, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[User]:
        return await accounts.list_users(work, cursor, limit)

    @post(opt=USERS)
    async def create_user(self, data: NewUser, request: AnyRequest, work: Work) -> Response[User]:
        """Add a user; with `only_groups` or `only_tags` the role holds for those devices alone."""

        async def create() -> User:
            user = await accounts.add_user(work, data)
            await record(work, request, "user.create", user.id, after=user)
            return user

        return await once(work, request, actor_of(request).id, 201, create)

    @patch("/{user_id:str}", opt=USERS, guards=[user_exists])
    async def update_user(self, user_id: str, data: UserChange, request: AnyRequest, work: Work) -> User:
        """A new password or disabling ends every session of the user."""
        before = await accounts.get_user(work, user_id)
        after = await accounts.change_user(work, user_id, data)
        await record(work, request, "user.update", user_id, before=before, after=after)
        return after

    @delete("/{user_id:str}", opt=USERS)
    async def delete_user(self, user_id: str, request: AnyRequest, work: Work) -> None:
        before = await accounts.delete_user(work, user_id)
        await record(work, request, "user.delete", user_id, before=before)


class KeyController(Controller):
    path = "/api-keys"
    tags = ("api keys",)

    @get(opt=KEYS)
    async def list_api_keys(self, work: Work, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[Key]:
        """Keys in use, with their last use; never a secret."""
        return await accounts.list_keys(work, cursor, limit)

    @post(opt=KEYS)
    async def create_api_key(self, data: NewKey, request: AnyRequest, work: Work) -> Response[KeyWithSecret]:
        """`secret` is the Bearer token, shown this once."""
        actor = actor_of(request)

        async def create() -> KeyWithSecret:
            key = await accounts.create_key(work, data, actor)
            await record(work, request, "key.create", key.id, after=data)
            return key

        return await once(work, request, actor.id, 201, create)

    @delete("/{key_id:str}", opt=KEYS)
    async def revoke_api_key(self, key_id: str, request: AnyRequest, work: Work) -> None:
        await accounts.revoke_key(work, key_id)
        await record(work, request, "key.revoke", key_id)


class TokenRefusal(msgspec.Struct, frozen=True):
    """In the words of RFC 6749, section 5.2."""

    error: str
    error_description: str


# What the OpenAPI document says of the body.
TOKEN_FORM = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {
        "grant_type": {"type": "string", "const": "client_credentials"},
        "client_id": {"type": "string", "description": "the id of an API key"},
        "client_secret": {"type": "string", "description": "its secret"},
    },
}
TOKEN = {"public": True, "form": TOKEN_FORM, "form_type": RequestEncodingType.URL_ENCODED, "refusal": TokenRefusal}


@post("/auth/token", opt=TOKEN, status_code=200, tags=["auth"])
async def create_token(request: AnyRequest, edge: Edge) -> Response[dict[str, Any]]:
    """OAuth 2 client credentials (RFC 6749, section 4.4): form encoded, the client in the form or as Basic."""
    form = await request.form()
    no_store = {"Cache-Control": "no-store", "Pragma": "no-cache"}
    if form.get("grant_type") != "client_credentials":
        wrong = "unsupported_grant_type" if "grant_type" in form else "invalid_request"
        return _refuse(400, TokenRefusal(wrong, "send the form field grant_type=client_credentials"), no_store)
    client_id, client_secret = _client(request, form)

    async def attempt(work: Work) -> tuple[str, Actor]:
        return await accounts.client_token(work, edge.signer, client_id, client_secret)

    try:
        token, key = await throttled(edge.open_work, client_id, address_of(request), attempt)
    except BadClientError as error:
        challenge = {"WWW-Authenticate": 'Basic realm="rosfit"'}
        return _refuse(401, TokenRefusal("invalid_client", error.detail), no_store | challenge)
    scope = " ".join(sorted(key.scopes or ()))
    issued: dict[str, Any] = {"access_token": token, "token_type": "bearer", "expires_in": ACCESS_TTL_S, "scope": scope}
    return Response(issued, headers=no_store)


def _refuse(status: int, refusal: TokenRefusal, headers: dict[str, str]) -> Response[Any]:
    return Response(refusal, status_code=status, headers=headers)


def _client(request: AnyRequest, form: Any) -> tuple[str, str]:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return client_id, secret
    return str(form.get("client_id", "")), str(form.get("client_secret", ""))


class AuditController(Controller):
    path = "/audit"
    tags = ("audit",)

    @get(opt={"right": Right.AUDIT_READ})
    async def list_audit(
        self,
        work: Work,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[AuditEntry]:
        """Who did what, newest first; `action=device` finds every `device.…`."""
        return await audit.find(work, {"actor": actor, "action": action, "target": target}, cursor, limit)

    @get("/export", opt={"right": Right.AUDIT_READ}, media_type="application/x-ndjson")
    async def export_audit(self, edge: Edge) -> Stream:
        """Every entry, oldest first, one JSON object a line."""

        async def lines() -> AsyncIterator[bytes]:
            async with edge.open_work() as work:
                async for line in audit.export(work):
                    yield line

        headers = {"Content-Disposition": 'attachment; filename="rosfit-audit.jsonl"'}
        return Stream(lines(), media_type="application/x-ndjson", headers=headers)
