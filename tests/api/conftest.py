"""One server on each database for all API tests; each test uses device ids of its own."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.server import Client, RunningServer, running_server
from tests.timescale import timescale


@pytest.fixture(scope="package", params=["postgres", pytest.param("timescale", marks=pytest.mark.full)])
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    # The rate limit has a test of its own; elsewhere a quick client must not run into it.
    settings = {"ROSFIT_RATE_LIMIT_PER_S": "5000"}
    with ExitStack() as stack:
        if request.param == "timescale":
            settings["ROSFIT_DATABASE_URL"] = stack.enter_context(timescale()).url
        yield stack.enter_context(running_server(**settings))


@pytest.fixture(scope="package")
def admin(server: RunningServer) -> Client:
    return server.admin


@pytest.fixture(scope="package")
def viewer(server: RunningServer) -> Client:
    return server.user("viewer")


@pytest.fixture
def new_id() -> Callable[[], str]:
    return lambda: f"dev-{secrets.token_hex(5)}"


@pytest.fixture
def device_id(admin: Client, new_id: Callable[[], str]) -> str:
    """A registered device that has never connected."""
    return admin.device(new_id())["device_id"]
