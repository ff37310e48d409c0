"""`/ws/teleop/{device_id}`: one driver at a time; whatever ends the socket puts zero velocity out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import structlog
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from uvicorn.protocols.utils import ClientDisconnected

from rosfit.accounts import audit
from rosfit.accounts import service as accounts
from rosfit.accounts.models import Actor
from rosfit.accounts.rights import Right
from rosfit.api.access import SESSION_COOKIE, check_right
from rosfit.api.edge import Edge, edge_of
from rosfit.api.origins import is_own_page
from rosfit.api.ws.codec import MSGPACK_SUBPROTOCOL, codec_for
from rosfit.commands import service, teleop
from rosfit.commands.dispatch import mapped_topic
from rosfit.commands.errors import DeviceOfflineError, LeaseHeldError
from rosfit.commands.models import Lease
from rosfit.commands.service import REACHABLE
from rosfit.commands.teleop import STILL, Drive, Stick, Velocity
from rosfit.fleet import repository as devices
from rosfit.fleet import service as fleet
from rosfit.fleet.errors import DeviceDecommissionedError
from rosfit.kernel.errors import RosfitError, UnauthenticatedError, UnavailableError
from rosfit.kernel.work import Work
from rosfit.protocol import envelope
from rosfit.protocol.layouts import Layouts
from rosfit.protocol.topics import device_topic

log = structlog.get_logger(__name__)

Socket = WebSocket[Any, Any, Any]

STREAM = "cmd/cmd_vel"
CLOSE_UNAUTHENTICATED = 4401
CLOSE_REFUSED = 4403
CLOSE_LEASE_LOST = 4409
AUTH_WITHIN_S = 10.0
LOOK_EVERY_S = 0.05
RENEW_EVERY_S = 1.0
LEAVES_WITHIN_S = 1.0

# The lease, the topic to drive on, and the stick.
Taken = tuple[Lease, str, Stick]

# Who holds the credential now; raises UnauthenticatedError once it has ended.
WhoNow = Callable[[], Awaitable[Actor]]

UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

# QoS 0 may be lost, so standing still is said several times.
STILL_TIMES = 3


class LeaseLostError(RosfitError):
    code = "LEASE_LOST"
    status = 409
    title = "Somebody else has taken the stick"


class SessionEndedError(UnauthenticatedError):
    title = "The session has ended"


@websocket("/ws/teleop/{device_id:str}", opt={"public": True})
async def teleop_socket(socket: Socket, device_id: str) -> None:
    """Signs in by `?token=`, the pages' session, or a first `auth` message; see the contract's section 7."""
    edge = edge_of(socket)
    await socket.accept(subprotocols=codec_for(socket.scope.get("subprotocols", []))[1])
    with contextlib.suppress(WebSocketDisconnect, ClientDisconnected):
        try:
            await _drive(socket, edge, device_id, await _sign_in(socket, edge))
        except UnauthenticatedError as error:
            await _refuse(socket, error, CLOSE_UNAUTHENTICATED)
        except LeaseLostError as error:
            await _refuse(socket, error, CLOSE_LEASE_LOST)
        except RosfitError as error:
            await _refuse(socket, error, CLOSE_REFUSED)


async def _refuse(socket: Socket, error: RosfitError, code: int) -> None:
    await _say(socket, {"type": "error", "data": {"code": error.code, "message": error.detail}})
    await socket.close(code, error.code)


async def _say(socket: Socket, message: dict[str, Any], *, packed: bool = False) -> None:
    """In MessagePack where it answers such a message, or the subprotocol says so."""
    if packed or MSGPACK_SUBPROTOCOL in socket.scope.get("subprotocols", []):
        await socket.send_bytes(msgspec.msgpack.encode(message))
    else:
        await socket.send_json(message)


async def _sign_in(socket: Socket, edge: Edge) -> WhoNow:
    if token := socket.query_params.get("token"):
        return partial(edge.identities.identify, token)
    session = _own_session(socket, edge)
    if session:
        with contextlib.suppress(SessionEndedError):
            await _of_session(edge, session)
            return partial(_of_session, edge, session)
    return partial(edge.identities.identify, await _first_token(socket))


def _own_session(socket: Socket, edge: Edge) -> str | None:
    """The pages' cookie, unless a page of a site named for CORS opened the socket: that has to send a token."""
    origin = socket.headers.get("origin")
    if origin and not is_own_page(origin, socket.headers.get("host", ""), edge.settings.public_url):
        return None
    return socket.cookies.get(SESSION_COOKIE)


async def _of_session(edge: Edge, session: str) -> Actor:
    async with edge.open_work() as work:
        actor = await accounts.session_actor(work, session)
    if actor is None:
        raise SessionEndedError("The session has ended; sign in again")
    return actor


def _decode(text: str | None, packed: bytes | None) -> Any:
    """Raises one of UNREADABLE."""
    return msgspec.json.decode(text or "") if packed is None else msgspec.msgpack.decode(packed)


async def _first_token(socket: Socket) -> str:
    try:
        async with asyncio.timeout(AUTH_WITHIN_S):
            event = await socket.receive()
        if event["type"] != "websocket.receive":
            raise WebSocketDisconnect(detail="gone before it signed in")
        first = _decode(event.get("text"), event.get("bytes"))
    except (TimeoutError, *UNREADABLE) as error:
        raise UnauthenticatedError("The first message is auth") from error
    data = first.get("data") if isinstance(first, dict) and first.get("type") == "auth" else None
    token = data.get("token") if isinstance(data, dict) else None
    if not isinstance(token, str):
        raise UnauthenticatedError("The first message is auth")
    return token


async def _drive(socket: Socket, edge: Edge, device_id: str, who_now: WhoNow) -> None:
    actor = await who_now()
    check_right(actor, Right.COMMANDS_WRITE)
    take_over = socket.query_params.get("take_over") in {"true", "1"}
    lease, topic, stick = await _take_when_free(partial(_take, edge, device_id, actor, take_over=take_over))
    await _Driver(socket, edge, lease, topic, stick, actor, who_now).run()


async def _take_when_free(take: Callable[[], Awaitable[Taken]]) -> Taken:
    """Somebody who comes back at once finds the lease of their last socket just about to go."""
    deadline = time.monotonic() + LEAVES_WITHIN_S
    while True:
        try:
            return await take()
        except LeaseHeldError:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(LOOK_EVERY_S)


async def _take(edge: Edge, device_id: str, actor: Actor, *, take_over: bool) -> Taken:
    async with edge.open_work() as work:
        device = await fleet.get(work, device_id, actor.reach)
        if device.status not in REACHABLE:
            raise DeviceOfflineError(f"{device_id} is {device.status}")
        lease = await service.take_lease(
            work, device_id, actor.id, actor.name or actor.email or actor.id, take_over=take_over
        )
        action = "teleop.take_over" if take_over else "teleop.take"
        await audit.record(work, actor, action, device_id)
        return lease, await _topic(work, edge, device_id), Stick(time.monotonic(), teleop.limits_of(device.metadata))


async def _topic(work: Work, edge: Edge, device_id: str) -> str:
    remembered = await devices.get_layout(work.connection, device_id)
    mapped = mapped_topic(Layouts(edge.settings.layouts), device_id, STREAM, remembered)
    return mapped or device_topic(device_id, STREAM)


class _Driver:
    def __init__(
        self, socket: Socket, edge: Edge, lease: Lease, topic: str, stick: Stick, actor: Actor, who_now: WhoNow
    ) -> None:
        self._socket = socket
        self._edge = edge
        self._lease = lease
        self._stick = stick
        self._actor = actor
        self._who_now = who_now
        self._topic = topic
        self._seq = 0

    async def run(self) -> None:
        """Until the socket, the lease or the right ends; then the robot stands still."""
        data = {"device_id": self._lease.device_id, "user": self._lease.user_name}
        await _say(self._socket, {"type": "lease", "data": data})
        steps = (self._read(), self._watch_stick(), self._watch_lease())
        tasks = [asyncio.ensure_future(step) for step in steps]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.shield(self._leave())

    async def _leave(self) -> None:
        with contextlib.suppress(UnavailableError):
            await self._stand_still()
            async with self._edge.open_work() as work:
                await service.drop_lease(work, self._lease)
                await audit.record(work, self._actor, "teleop.leave", self._lease.device_id)

    async def _read(self) -> None:
        while True:
            event = await self._socket.receive()
            if event["type"] == "websocket.disconnect":
                return
            if event["type"] == "websocket.receive":
                await self._take(event.get("text"), event.get("bytes"))

    async def _take(self, text: str | None, packed: bytes | None) -> None:
        answer = partial(_say, self._socket, packed=packed is not None)
        at = time.monotonic()
        if not self._stick.admits(at):
            return
        try:
            raw = _decode(text, packed)
            if isinstance(raw, dict) and raw.get("type") == "ping":
                self._stick.ping(at)
                await answer({"type": "pong"})
                return
            wanted = msgspec.convert(raw, Drive)
            velocity = self._stick.drive(wanted, at)
        except UNREADABLE as error:
            data = {"code": "INVALID_MESSAGE", "message": f"send seq, linear_x and angular_z: {error}"}
            await answer({"type": "error", "data": data})
            return
        if velocity is not None:
            await self._publish(velocity)
        await answer({"ack": wanted.seq})

    async def _watch_stick(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._stick.must_stop(time.monotonic()):
                await self._stand_still()

    async def _watch_lease(self) -> None:
        """Raises LeaseLostError when somebody took it over, and what `_drive` raises when the right has ended.

        A database that is away does not stop a robot.
        """
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            with contextlib.suppress(UnavailableError):
                actor = await self._who_now()
                check_right(actor, Right.COMMANDS_WRITE)
                async with self._edge.open_work() as work:
                    device = await fleet.get(work, self._lease.device_id, actor.reach)
                    if device.status == "decommissioned":
                        raise DeviceDecommissionedError(f"{device.device_id} was decommissioned")
                    if not await service.renew_lease(work, self._lease):
                        raise LeaseLostError(f"The stick of {self._lease.device_id} was taken over")

    async def _stand_still(self) -> None:
        for _ in range(STILL_TIMES):
            await self._publish(STILL)

    async def _publish(self, velocity: Velocity) -> None:
        self._seq += 1
        message = envelope.encode(
            teleop.twist(velocity),
            type="teleop",
            device_id=self._lease.device_id,
            seq=self._seq,
            # Whose numbers these are: the next driver begins at 1 again.
            correlation_id=self._lease.lease_id,
        )
        try:
            await self._edge.publisher.publish(self._topic, message, qos=0, expiry_s=1, content_type=envelope.JSON)
        except UnavailableError as error:
            # The robot's own watchdog has it stand still; the driver is told and may try again.
            log.warning("teleop_not_published", device_id=self._lease.device_id, why=error.detail)
            data = {"code": error.code, "message": error.detail}
            await _say(self._socket, {"type": "error", "data": data})
