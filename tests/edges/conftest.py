"""One server for these tests. Each client may have a loopback address of its own, so that limits do not mix."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.server import Client, RunningServer, running_server

# Whose X-Forwarded-… headers the server believes.
PROXY_ADDRESS = "127.0.0.2"
FRIEND = "https://fleet.example.com"

ClientFrom = Callable[..., Client]


@pytest.fixture(scope="package")
def server() -> Iterator[RunningServer]:
    settings = {"ROSFIT_TRUSTED_PROXIES": PROXY_ADDRESS, "ROSFIT_CORS_ORIGINS": FRIEND}
    with running_server(**settings) as server:
        yield server


@pytest.fixture(scope="package")
def admin(server: RunningServer) -> Client:
    return server.admin


@pytest.fixture(scope="package")
def client_from(server: RunningServer) -> ClientFrom:
    """An anonymous client that connects from the given loopback address, or from one that nobody else has."""

    def make(address: str | None = None, **options: object) -> Client:
        pick = random.SystemRandom().randrange
        address = address or f"127.{pick(1, 200)}.{pick(1, 200)}.{pick(1, 200)}"
        return Client(server.url, transport=httpx.HTTPTransport(local_address=address), **options)

    return make
