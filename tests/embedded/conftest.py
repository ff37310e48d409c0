"""A data folder that the servers' user can reach (pytest's own are closed to it) and free ports."""

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rosfit.infra.embedded.mosquitto_package import default_target, fetch, find
from rosfit.infra.embedded.ports import free_port
from rosfit.infra.embedded.processes import Record, identify
from rosfit.settings import Settings
from rosfit.supervisor import Endpoints, Supervisor


@pytest.fixture(scope="session", autouse=True)
def broker_program() -> None:
    """Fetch the broker once, not in each data folder."""
    if find() is None:
        fetch(default_target())


@pytest.fixture
def data_dir() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="rosfit-"))
    parent.chmod(0o711)
    yield parent / "data"
    # A failed test may leave servers, which outlive whoever started them.
    for path in parent.glob("data/state/*.json"):
        record = Record.read(path)
        if record is not None and identify(record.identity.pid) == record.identity:
            os.kill(record.identity.pid, signal.SIGKILL)
    shutil.rmtree(parent)


@pytest.fixture
def settings(data_dir: Path, worker_id: str) -> Settings:
    # Each worker of a parallel run looks for free ports in a range of its own.
    worker = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    first = 21_000 + worker * 200
    mqtt_port = free_port(first)
    return Settings(data_dir=data_dir, mqtt_port=mqtt_port, mqtt_ws_port=free_port(mqtt_port + 1))


@pytest.fixture
def said() -> list[str]:
    """What the supervisor reported."""
    return []


@pytest.fixture
def supervisor(settings: Settings, said: list[str]) -> Supervisor:
    return Supervisor(settings, said.append)


@pytest.fixture
async def endpoints(supervisor: Supervisor) -> AsyncIterator[Endpoints]:
    async with supervisor as endpoints:
        yield endpoints
