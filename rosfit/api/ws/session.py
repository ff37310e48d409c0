"""One socket: signing in, subscriptions, rate limit, and the end of a token."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from rosfit.accounts.errors import TokenExpiredError
from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.api.access import check_right
from rosfit.api.edge import Edge
from rosfit.api.ws.channels import (
    RIGHT_FOR,
    THROTTLE_LIMIT_MS,
    Channel,
    InvalidChannelError,
    Subscription,
    parse_channel,
)
from rosfit.api.ws.codec import UNREADABLE, ClientMessage, Codec
from rosfit.api.ws.commands import CommandDesk, CommandMessage
from rosfit.api.ws.outbox import Outbox
from rosfit.fleet import service as fleet
from rosfit.fleet.errors import DeviceNotFoundError
from rosfit.fleet.models import Reach
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.errors import RateLimitedError, RosfitError, UnauthenticatedError, UnavailableError
from rosfit.kernel.feed import Event

MESSAGES_PER_S = 100
SUBSCRIPTIONS_LIMIT = 1_000

# How long a revoked credential, or a device that went out of reach, may still be served.
LOOK_AGAIN_S = 5.0

# Between two looks for an `auth` that is due.
LOOK_EVERY_S = 0.25


# Bounded, since a socket keeps those of 1,000 subscriptions.
Topics = Annotated[list[Annotated[str, msgspec.Meta(max_length=1_000)]], msgspec.Meta(max_length=100)]


class InvalidMessageError(RosfitError):
    code = "INVALID_MESSAGE"
    status = 400
    title = "The message is not one of those that are taken here"


class AuthExpiredError(UnauthenticatedError):
    code = "AUTH_EXPIRED"


class SubscribeOptions(msgspec.Struct, frozen=True):
    topics: Topics | None = None
    throttle_ms: float | None = None


class Session:
    """Answers the client's messages into the outbox. Raises UnauthenticatedError when the socket must close."""

    def __init__(self, edge: Edge, codec: Codec, outbox: Outbox) -> None:
        self._edge = edge
        self._codec = codec
        self._outbox = outbox
        self._actor: Actor | None = None
        self._token: str | None = None
        # The devices in reach of a limited actor; None for all.
        self._visible: frozenset[str] | None = None
        self._subscriptions: dict[str, tuple[Subscription, Callable[[], None]]] = {}
        self._times: deque[float] = deque(maxlen=MESSAGES_PER_S)
        # The request_id of the message that is being handled.
        self._handling: str | int | None = None
        self._commands = CommandDesk(edge, self._tell)

    @property
    def actor(self) -> Actor | None:
        return self._actor

    async def authenticate(self, token: object, request_id: str | int | None = None) -> None:
        """Raises UnauthenticatedError."""
        if not isinstance(token, str):
            raise UnauthenticatedError("auth takes data.token, an access token")
        actor = await self._edge.identities.identify(token)
        visible = await self._devices_of(actor)
        self._token, self._actor, self._visible = token, actor, visible
        data = {"status": "authenticated", "user_id": actor.id, "role": actor.role}
        self._answer("auth_result", data, request_id=request_id)

    async def sign_in(self, token: str) -> None:
        """With the token of the URL. While the database is away that is told, and `auth` may come later."""
        try:
            await self.authenticate(token)
        except UnavailableError as error:
            self._error(error, None)

    def seconds_left(self) -> float | None:
        """Until the token runs out; None without one."""
        if self._actor is None or self._actor.expires_at is None:
            return None
        return self._actor.expires_at - time.time()

    async def look_again(self) -> None:
        """Whether the credential still holds, and which devices it reaches. Raises UnauthenticatedError."""
        if self._token is not None and (self.seconds_left() or 1) > 0:
            token = self._token
            actor = await self._edge.identities.identify(token)
            visible = await self._devices_of(actor)
            if token == self._token:  # else a new one has come meanwhile
                self._actor, self._visible = actor, visible

    async def _devices_of(self, actor: Actor) -> frozenset[str] | None:
        if actor.reach.is_everything:
            return None
        async with self._edge.open_work() as work:
            return await fleet.within_reach(work, actor.reach)

    def _push(self, event: Event) -> None:
        # An update's key is its deployment, and its name the device, or the deployment again where it is about that.
        about = event.name if event.kind == "ota" else event.key
        if self._visible is None or about in self._visible or (event.kind == "ota" and about == event.key):
            self._outbox.push(event)

    def announce_expiry(self) -> None:
        self._error(AuthExpiredError("The token has run out: send auth with a new one within 10 s"), None)

    async def handle(self, raw: str | bytes) -> None:
        self._handling = None
        try:
            taken = self._count()
            message = self._parse(raw)
            self._handling = message.request_id
            if not taken:
                raise RateLimitedError(f"At most {MESSAGES_PER_S} messages a second; this one was not taken")
            await self._dispatch(message)
        except UnauthenticatedError:
            raise
        except RosfitError as error:
            self._error(error, self._handling)
        self._handling = None

    def close(self) -> None:
        for subscription, unsubscribe in self._subscriptions.values():
            unsubscribe()
            subscription.close()
        self._subscriptions.clear()
        self._commands.close()

    def fail(self, error: RosfitError) -> None:
        """The last word before the socket closes."""
        self._error(error, self._handling)

    def _count(self) -> bool:
        at = time.monotonic()
        if len(self._times) == MESSAGES_PER_S and at - self._times[0] < 1.0:
            return False
        self._times.append(at)
        return True

    def _parse(self, raw: str | bytes) -> ClientMessage:
        try:
            return self._codec.decode(raw)
        except UNREADABLE as error:
            self._handling = self._codec.request_id(raw)
            if self._actor is None:
                raise UnauthenticatedError("The first message is auth") from error
            raise InvalidMessageError(f"Send an object with a `type`: {error}") from error

    async def _dispatch(self, message: ClientMessage) -> None:
        if message.type == "auth":
            await self.authenticate((message.data or {}).get("token"), message.request_id)
            return
        if self._actor is None:
            raise UnauthenticatedError("The first message is auth")
        left = self.seconds_left()
        if left is not None and left <= 0:
            raise AuthExpiredSoftError("Send auth with a new token first")
        match message.type:
            case "subscribe":
                await self._subscribe(message, self._actor)
            case "unsubscribe":
                self._unsubscribe(message)
            case "command":
                await self._command(message, self._actor)
            case "ping":
                self._answer("pong", {}, request_id=message.request_id)
            case _:
                raise InvalidMessageError(f"There is no type {message.type[:50]!r}; see docs/protocol.md")

    async def _subscribe(self, message: ClientMessage, actor: Actor) -> None:
        channel = parse_channel(message.channel or "")
        options = self._options(message)
        check_right(actor, RIGHT_FOR[channel.kind])
        await self._check_device(channel, actor.reach)
        if len(self._subscriptions) >= SUBSCRIPTIONS_LIMIT and channel.text not in self._subscriptions:
            raise InvalidChannelError(f"At most {SUBSCRIPTIONS_LIMIT} channels on one socket; use a wildcard")
        throttle_ms = options.throttle_ms or 0
        if not 0 <= throttle_ms <= THROTTLE_LIMIT_MS:
            raise InvalidMessageError(f"throttle_ms is a number of milliseconds from 0 to {THROTTLE_LIMIT_MS}")
        self._drop(channel.text)
        subscription = Subscription(channel, frozenset(options.topics or ()), throttle_ms / 1000, self._push)
        self._answer("subscribed", {}, channel=channel.text, request_id=message.request_id)
        unsubscribe = self._edge.feed.subscribe(channel.kind, channel.key, subscription.offer)  # type: ignore[arg-type]
        self._subscriptions[channel.text] = (subscription, unsubscribe)

    async def _command(self, message: ClientMessage, actor: Actor) -> None:
        check_right(actor, Right.COMMANDS_WRITE)
        try:
            wanted = msgspec.convert(message.data or {}, CommandMessage)
            await self._commands.send(wanted, actor, message.request_id)
        except msgspec.ValidationError as error:
            raise InvalidMessageError(f"data of command: {error}") from error

    def _tell(self, type_: str, data: dict[str, Any], request_id: str | int | None) -> None:
        self._answer(type_, data, request_id=request_id)

    @staticmethod
    def _options(message: ClientMessage) -> SubscribeOptions:
        try:
            return msgspec.convert(message.data or {}, SubscribeOptions)
        except msgspec.ValidationError as error:
            raise InvalidMessageError(f"data of subscribe: {error}") from error

    async def _check_device(self, channel: Channel, reach: Reach) -> None:
        if channel.device_id is None:
            return
        async with self._edge.open_work() as work:
            try:
                await fleet.check_reach(work, channel.device_id, reach)
            except DeviceNotFoundError as error:
                raise InvalidChannelError(f"No device {channel.device_id!r} is registered") from error

    def _unsubscribe(self, message: ClientMessage) -> None:
        channel = parse_channel(message.channel or "")
        self._drop(channel.text)
        self._answer("unsubscribed", {}, channel=channel.text, request_id=message.request_id)

    def _drop(self, channel: str) -> None:
        if found := self._subscriptions.pop(channel, None):
            subscription, unsubscribe = found
            unsubscribe()
            subscription.close()

    def _answer(
        self, type_: str, data: dict[str, Any], *, channel: str | None = None, request_id: str | int | None = None
    ) -> None:
        message: dict[str, Any] = {"type": type_, "data": data, "timestamp": format_time(now())}
        if channel is not None:
            message["channel"] = channel
        if request_id is not None:
            message["request_id"] = request_id
        self._outbox.answer(message)

    def _error(self, error: RosfitError, request_id: str | int | None) -> None:
        data = {"code": error.code, "message": error.detail, "request_id": request_id}
        self._answer("error", data, request_id=request_id)


class AuthExpiredSoftError(RosfitError):
    """Within the 10 s after the token's end: refused, but the socket stays."""

    code = "AUTH_EXPIRED"
    status = 401
    title = "The token has run out"


async def watch_expiry(session: Session, grace_s: float) -> None:
    """Look again every few seconds; returns when the token has run out and no new one came within `grace_s`."""
    while True:
        left = session.seconds_left()
        if left is None or left > 0:
            await asyncio.sleep(LOOK_AGAIN_S if left is None else min(left, LOOK_AGAIN_S))
            # That it has run out, in the last millisecond, is told below, and there is time for a new one.
            with contextlib.suppress(UnavailableError, TokenExpiredError):
                await session.look_again()
        else:
            session.announce_expiry()
            if not await _is_renewed(session, grace_s):
                return


async def _is_renewed(session: Session, within_s: float) -> bool:
    # Looked at all the while: the new token may be so short that it has run out again by then.
    deadline = time.monotonic() + within_s
    while (left := session.seconds_left()) is not None and left <= 0:
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(LOOK_EVERY_S)
    return True
