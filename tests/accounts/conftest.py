"""One server for these tests: two red devices and a blue one, so that somebody limited to red can be kept from blue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.accounts.cast import Cast
from tests.server import RunningServer, running_server


@pytest.fixture(scope="package")
def server() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as running:
        for device_id, tags in (("red-1", ["red"]), ("red-2", ["red"]), ("blue-1", ["blue"])):
            running.admin.device(device_id, tags=tags)
        yield running


@pytest.fixture(scope="package")
def cast(server: RunningServer) -> Cast:
    return Cast(server)
