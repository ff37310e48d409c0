"""HTTP connections that do not wait for ever: uvicorn itself has a timeout only between requests."""

from __future__ import annotations

import asyncio
import json
import sys
from http import HTTPStatus
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from rosfit.kernel.ids import uuid7

log = structlog.get_logger(__name__)

# What a request's line and headers may take, in time and in bytes.
HEADERS_WITHIN_S = 10.0
HEADERS_LIMIT_BYTES = 32 * 1024
# The longest pause within a body. Uploads may take hours, but not stand still.
BODY_PAUSE_S = 30.0


class ImpatientProtocol(H11Protocol):
    """Closes a connection whose headers trickle in or whose body has stopped."""

    _deadline: asyncio.TimerHandle | None = None
    _waiting_for: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for(h11.IDLE, HEADERS_WITHIN_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        state = self.conn.their_state
        if self.transport.get_protocol() is not self or state not in {h11.IDLE, h11.SEND_BODY}:
            self._stop_waiting()
        elif state is h11.SEND_BODY:
            self._wait_for(state, BODY_PAUSE_S)
        elif self._waiting_for is not h11.IDLE:
            # More headers must not push the deadline back.
            self._wait_for(state, HEADERS_WITHIN_S)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is not None:
            self._stop_waiting()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        super().handle_websocket_upgrade(event)
        upgraded: Any = self.transport.get_protocol()
        if not upgraded.handshake_initiated:
            # Its own parser, which knows shorter lines and GET only, would say nothing and wait for ever.
            self._refuse(HTTPStatus.BAD_REQUEST, f"No WebSocket begins so: {upgraded.conn.handshake_exc}")
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """With the status that h11 means (431 for headers that are too large), as a problem like other refusals."""
        error = sys.exc_info()[1]
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        status = HTTPStatus(hint)
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._refuse(status, str(error or msg))
        self.transport.close()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        code = "HEADERS_TOO_LARGE" if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE else "BAD_REQUEST"
        request_id = uuid7().hex
        # Without the detail, which may quote a header: credentials do not belong in a log.
        log.info("request_refused", status=status.value, request_id=request_id)
        problem = {"type": f"urn:rosfit:error:{code}", "title": status.phrase, "status": status.value}
        body = json.dumps(problem | {"detail": detail, "code": code, "request_id": request_id}).encode()
        headers = [
            ("x-request-id", request_id),
            ("content-type", "application/problem+json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        start = h11.Response(status_code=status.value, headers=headers, reason=status.phrase.encode())
        for event in (start, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")

    def _wait_for(self, state: Any, within_s: float) -> None:
        self._stop_waiting()
        self._waiting_for = state
        self._deadline = self.loop.call_later(within_s, self._give_up)

    def _stop_waiting(self) -> None:
        self._waiting_for = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if self.flow.read_paused:
            # It is we who are slow.
            self._wait_for(self._waiting_for, BODY_PAUSE_S)
        elif not self.transport.is_closing():
            self.transport.close()
