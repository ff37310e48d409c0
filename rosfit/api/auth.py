"""`/auth`: the first user, sign-in, tokens, and MQTT credentials for devices."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec

from rosfit.accounts import audit
from rosfit.accounts import service as accounts
from rosfit.accounts.errors import RefreshReusedError
from rosfit.accounts.models import Actor, Login, Logout, NewUser, Refresh, Tokens, User
from rosfit.accounts.rights import Right
from rosfit.accounts.throttle import throttled
from rosfit.api.access import actor_of, optional_actor_of, origin_of, record
from rosfit.api.edge import Connection, Edge, address_of, edge_of
from rosfit.api.errors import problem
from rosfit.api.idempotency import once
from rosfit.api.responses import WireResponse
from rosfit.fleet import service as fleet
from rosfit.fleet.models import Credential
from rosfit.kernel.errors import UnauthenticatedError
from rosfit.kernel.work import Work

NO_PERSON = {404: ResponseSpec(None, description="The credential is an API key's", generate_examples=False)}


class DeviceTokenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`ttl_hours` is a year when it is missing."""

    device_id: str
    scopes: Annotated[list[Literal["publish", "subscribe"]], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["publish", "subscribe"]
    )
    ttl_hours: Annotated[float, msgspec.Meta(gt=0, le=10 * 8766)] = 8766


async def may_register(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard: 401 and 403 come before whatever is wrong with the body."""
    async with edge_of(connection).open_work() as work:
        await accounts.check_registrar(work, optional_actor_of(connection))


class AuthController(Controller):
    path = "/auth"
    tags = ("auth",)

    @post("/register", opt={"public": True}, guards=[may_register])
    async def register(self, data: NewUser, request: Request[Any, Any, Any], work: Work, edge: Edge) -> Response[User]:
        """Add a user: the first with the set-up token, later ones as an admin."""
        actor: Actor | None = optional_actor_of(request)

        async def create() -> User:
            user = await accounts.register(work, data, actor, edge.setup_token.value())
            await record(work, request, "user.create", user.id, after=user)
            work.then(clear_setup_token)
            return user

        async def clear_setup_token() -> None:
            edge.setup_token.clear()

        return await once(work, request, actor.id if actor else "setup", 201, create)

    @post("/login", opt={"public": True}, status_code=200)
    async def login(self, data: Login, request: Request[Any, Any, Any], edge: Edge) -> Tokens:
        """Tokens for an e-mail address and its password."""

        async def attempt(work: Work) -> Tokens:
            user = await accounts.authenticate(work, data)
            await audit.record(work, user.id, "auth.login", user.id, origin=origin_of(request))
            return await accounts.issue_tokens(work, edge.signer, user)

        return await throttled(edge.open_work, data.email, address_of(request), attempt)

    @post("/refresh", opt={"public": True}, status_code=200)
    async def refresh(self, data: Refresh, request: Request[Any, Any, Any], work: Work, edge: Edge) -> Response[Tokens]:
        """New tokens for a refresh token, which is spent by this."""
        answer = await accounts.refresh(work, edge.signer, data.refresh_token)
        # Returned and not raised, since the revocation of the family must be committed.
        if isinstance(answer, RefreshReusedError):
            refusal: Response[Any] = problem(request, answer)
            return refusal
        return WireResponse(answer)

    @post("/logout", opt={"public": True}, status_code=204)
    async def logout(self, request: Request[Any, Any, Any], work: Work, data: Logout | None = None) -> None:
        """End the session of the refresh token, of the access token that is sent, or of both."""
        actor = optional_actor_of(request)
        refresh_token = data.refresh_token if data else None
        family = actor.family if actor else None
        if refresh_token is None and family is None:
            raise UnauthenticatedError("Send the refresh_token, or the access token as Bearer")
        if refresh_token is not None:
            await accounts.revoke_refresh_token(work, refresh_token)
        if family is not None:
            await accounts.end_family(work, family)

    @get("/me", opt={"right": None}, responses=NO_PERSON)
    async def me(self, request: Request[Any, Any, Any], work: Work) -> User:
        """The user behind the credential."""
        return await accounts.me(work, actor_of(request))

    @post("/devices/token", opt={"right": Right.DEVICES_WRITE})
    async def create_device_token(
        self, data: DeviceTokenRequest, request: Request[Any, Any, Any], work: Work, edge: Edge
    ) -> Response[Credential]:
        """An MQTT user name and password for one device; shown once."""

        async def create() -> Credential:
            # The device is named in the body here, so the guard could not look whether it is in reach.
            await fleet.check_reach(work, data.device_id, actor_of(request).reach)
            ttl = timedelta(hours=data.ttl_hours)
            credential = await fleet.issue_credential(work, edge.hash_device_token, data.device_id, data.scopes, ttl)
            await record(work, request, "credential.create", data.device_id, after={"scopes": credential.scopes})
            sync_broker_after(work, edge)
            return credential

        return await once(work, request, actor_of(request).id, 201, create)


def sync_broker_after(work: Work, edge: Edge) -> None:
    """Once committed, make the broker know the devices' credentials; before the answer goes out."""
    access = edge.broker_access
    if access is None:
        return

    async def sync() -> None:
        async with edge.open_work() as after:
            await fleet.sync_broker(after, access)

    work.then(sync)
