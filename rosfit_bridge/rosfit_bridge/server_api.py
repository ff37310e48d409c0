"""RosFit's REST API as far as a robot needs it: POST with JSON, over the standard library."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

TIMEOUT_S = 15.0
TOO_MANY = 429
PATIENCE = 30


class ServerError(Exception):
    """The server did not answer, or refused; the message says what to do."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def address(url: str) -> SplitResult:
    """Raises ServerError for anything but http(s) with a host."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    raise ServerError(f"{url!r} is not an address such as https://fleet.example.com:8000")


@dataclass(frozen=True)
class Server:
    """`url` is the server's address; `context` is needed for https."""

    url: str
    context: ssl.SSLContext | None = None

    def post(self, path: str, body: dict[str, Any], login: tuple[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Status and answer of `/api/v1{path}`. Raises ServerError for anything but success.

        Waits when the server says so: a whole rack of robots may enrol behind one address.
        """
        headers = {"Content-Type": "application/json"}
        if login is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
        for _ in range(PATIENCE):
            status, wait_s, data = self._ask(path, json.dumps(body), headers)
            if status != TOO_MANY:
                break
            time.sleep(wait_s)
        return status, _answer(status, data)

    def _ask(self, path: str, body: str, headers: dict[str, str]) -> tuple[int, float, bytes]:
        """Status, seconds to wait, and body."""
        parts = address(self.url)
        connection = self._connection(parts.scheme, str(parts.hostname), parts.port)
        try:
            connection.request("POST", f"{parts.path.rstrip('/')}/api/v1{path}", body, headers)
            response = connection.getresponse()
            return response.status, _seconds(response.getheader("Retry-After")), response.read()
        except ssl.SSLError as error:
            raise ServerError(f"{self.url}: TLS: {error.args[-1]}; check --ca-cert or --pin-sha256") from error
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{self.url} does not answer ({error})") from error
        finally:
            connection.close()

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self.context)
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)


def _seconds(retry_after: str | None) -> float:
    return min(10.0, float(retry_after)) if retry_after and retry_after.isdecimal() else 1.0


def _answer(status: int, data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    if status >= 300:
        why = answer.get("detail") or data[:200].decode(errors="replace")
        fields = "; ".join(f"{one.get('field')}: {one.get('message')}" for one in answer.get("errors", ()))
        raise ServerError(f"{answer.get('title', 'the server refused')} ({status}): {why} {fields}".strip(), status)
    return answer
