"""A server of each test's own, and the load that runs against it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.site import Site
from tests.server import running_server


@pytest.fixture
def site() -> Iterator[Site]:
    with running_server() as server:
        yield Site(server)
