"""One server for all API tests; each test uses device ids of its own."""

import secrets
from collections.abc import Callable, Iterator

import pytest

from tests.server import Client, RunningServer, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    # The rate limit has a test of its own; elsewhere a quick client must not run into it.
    with running_server(ROSFIT_RATE_LIMIT_PER_S="5000") as server:
        yield server


@pytest.fixture(scope="session")
def admin(server: RunningServer) -> Client:
    return server.admin


@pytest.fixture(scope="session")
def viewer(server: RunningServer) -> Client:
    return server.user("viewer")


@pytest.fixture
def new_id() -> Callable[[], str]:
    return lambda: f"dev-{secrets.token_hex(5)}"


@pytest.fixture
def device_id(admin: Client, new_id: Callable[[], str]) -> str:
    """A registered device that has never connected."""
    return admin.device(new_id())["device_id"]
