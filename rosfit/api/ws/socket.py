"""The socket itself: a reader, a writer and the watch over the token, until one of them ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from uvicorn.protocols.utils import ClientDisconnected

from rosfit.api.edge import Edge, edge_of
from rosfit.api.ws.codec import Codec, codec_for
from rosfit.api.ws.outbox import Outbox
from rosfit.api.ws.session import LOOK_EVERY_S, Session, watch_expiry
from rosfit.kernel.errors import UnauthenticatedError

AUTH_WITHIN_S = 10.0
LAST_WORD_WITHIN_S = 5.0
CLOSE_UNAUTHENTICATED = 4401

Socket = WebSocket[Any, Any, Any]


@websocket("/ws", opt={"public": True})
async def live_socket(socket: Socket) -> None:
    """Signs in by `?token=` or the first message; see the contract's section 7."""
    edge = edge_of(socket)
    codec, subprotocol = codec_for(socket.scope.get("subprotocols", []))
    await socket.accept(subprotocols=subprotocol)
    edge.metrics.websockets.inc()
    outbox = Outbox()
    session = Session(edge, codec, outbox)
    try:
        with contextlib.suppress(WebSocketDisconnect, ClientDisconnected):
            await _serve(socket, edge, codec, session, outbox)
    finally:
        session.close()
        edge.metrics.websockets.dec()


async def _serve(socket: Socket, edge: Edge, codec: Codec, session: Session, outbox: Outbox) -> None:
    writer = Writer(socket, edge, codec, outbox)
    tasks = [asyncio.ensure_future(step) for step in (_read(socket, session), writer.run(), _watch(session))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except UnauthenticatedError as error:
        session.fail(error)
        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
        # A client that does not read is left without its last word.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD_WITHIN_S):
                await writer.flush()
                await socket.close(CLOSE_UNAUTHENTICATED, error.code)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(socket: Socket, session: Session) -> None:
    token = socket.query_params.get("token")
    if token is not None:
        await session.sign_in(token)
    while True:
        event = await socket.receive()
        if event["type"] == "websocket.disconnect":
            return
        if event["type"] == "websocket.receive":
            await session.handle(event.get("text") or event.get("bytes") or "")


async def _watch(session: Session) -> None:
    """Ends with UnauthenticatedError when nobody has signed in in time, or the token has run out."""
    deadline = asyncio.get_running_loop().time() + AUTH_WITHIN_S
    while session.actor is None:
        if asyncio.get_running_loop().time() >= deadline:
            raise UnauthenticatedError(f"No auth came within {AUTH_WITHIN_S:.0f} s")
        await asyncio.sleep(LOOK_EVERY_S)
    await watch_expiry(session, AUTH_WITHIN_S)
    raise UnauthenticatedError("The token ran out and no new one came")


class Writer:
    """Sends what the outbox holds, numbered per connection."""

    def __init__(self, socket: Socket, edge: Edge, codec: Codec, outbox: Outbox) -> None:
        self._socket = socket
        self._edge = edge
        self._codec = codec
        self._outbox = outbox
        self._seq = 0

    async def run(self) -> None:
        while True:
            await self.flush()

    async def flush(self) -> None:
        answers, events = await self._outbox.take()
        for answer in answers:
            self._seq += 1
            await self._send(self._codec.encode(answer | {"seq": self._seq}))
        for channel, event in events:
            self._seq += 1
            await self._send(self._codec.encode_event(event, channel, self._seq))
        self._edge.metrics.websocket_messages.inc(len(answers) + len(events))

    async def _send(self, data: str | bytes) -> None:
        if isinstance(data, str):
            await self._socket.send({"type": "websocket.send", "text": data, "bytes": None})
        else:
            await self._socket.send({"type": "websocket.send", "bytes": data, "text": None})
