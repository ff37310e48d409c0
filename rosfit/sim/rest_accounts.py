"""Credentials for simulated robots from a running RosFit, over its REST interface."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from rosfit.kernel.errors import (
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    RosfitError,
    UnauthenticatedError,
    UnavailableError,
)
from rosfit.sim.accounts import RobotAccount

TIMEOUT_S = 10.0
TOKEN_TTL_HOURS = 24
# The server's rate limit makes registering many robots slow, not impossible.
_PATIENCE = 20

_ERRORS: dict[int, type[RosfitError]] = {
    401: UnauthenticatedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: InvalidError,
}


class RestAccounts:
    """Registers devices of type `simulator` where they are missing and asks for a token for each.

    `token` needs the rights to write devices and to issue device tokens.
    """

    def __init__(self, base_url: str, token: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidError("the server's address is not understood: write http://127.0.0.1:8000")
        self._base_url, self._parts, self._token = base_url, parts, token

    async def accounts(self, device_ids: Sequence[str]) -> list[RobotAccount]:
        """Raises UnavailableError, or what the server's answer means."""
        return await asyncio.to_thread(self._all, device_ids)

    def _all(self, device_ids: Sequence[str]) -> list[RobotAccount]:
        connection = self._connection()
        try:
            return [self._one(connection, device_id) for device_id in device_ids]
        except ssl.SSLCertVerificationError as error:
            raise UnavailableError(
                f"The certificate of {self._base_url} is not known here ({error.verify_message}): name the file of "
                "the one that rosfit serve --tls made in SSL_CERT_FILE (tls/server.pem in its data folder)"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"RosFit does not answer at {self._base_url} ({error}): start it with rosfit serve, "
                "or name another address with --url"
            ) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        assert self._parts.hostname
        return kind(self._parts.hostname, self._parts.port, timeout=TIMEOUT_S)

    def _one(self, connection: http.client.HTTPConnection, device_id: str) -> RobotAccount:
        device = {"device_id": device_id, "name": device_id, "type": "simulator", "tags": ["sim"]}
        self._post(connection, "/devices", device, accepted=(201, 409))
        wish = {"device_id": device_id, "scopes": ["publish", "subscribe"], "ttl_hours": TOKEN_TTL_HOURS}
        answer = self._post(connection, "/auth/devices/token", wish, accepted=(200, 201))
        return RobotAccount(device_id, answer["username"], answer["token"])

    def _post(self, connection: http.client.HTTPConnection, path: str, body: object, accepted: tuple[int, ...]) -> Any:
        """The JSON of an accepted answer; waits as long as the server asks when it is asked too often."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        for _ in range(_PATIENCE):
            target = f"{self._parts.path.rstrip('/')}/api/v1{path}"
            connection.request("POST", target, json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read()
            if response.status != 429:
                break
            time.sleep(_seconds(response.getheader("Retry-After")))
        if response.status in accepted:
            return json.loads(data)
        raise _error(response.status, path, data)


def _seconds(retry_after: str | None) -> float:
    return min(10.0, float(retry_after)) if retry_after and retry_after.isdecimal() else 1.0


def _error(status: int, path: str, body: bytes) -> RosfitError:
    kind = _ERRORS.get(status, UnavailableError if status >= 500 else InvalidError)
    return kind(f"POST {path} was answered with {status}: {_detail(body)}")


def _detail(body: bytes) -> str:
    try:
        problem = json.loads(body)
        return str(problem.get("detail") or problem.get("title"))
    except (ValueError, AttributeError):
        return body[:200].decode(errors="replace")
