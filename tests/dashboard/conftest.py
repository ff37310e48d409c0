"""A running RosFit for browsers, and pages over a database of their own for everything else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql

from rosfit.accounts import service as accounts
from rosfit.accounts.models import NewUser, Role
from rosfit.accounts.setup import SetupToken
from rosfit.api.edge import Edge
from rosfit.app import make_app
from rosfit.dashboard.access import COOKIE
from rosfit.infra.embedded.ports import free_port
from rosfit.infra.postgres import make_pool, migrate
from rosfit.infra.redis import open_store
from rosfit.kernel.feed import Feed
from rosfit.kernel.metrics import Metrics
from rosfit.kernel.work import Work
from rosfit.settings import Settings
from rosfit.supervisor import Endpoints
from rosfit.wiring import work_opener
from tests.dashboard.broker_book import BrokerBook

BASE = "http://rosfit.test"


@dataclass
class Running:
    """A `rosfit serve` process; `setup_token` works until the first user is made."""

    base: str
    settings: Settings
    process: subprocess.Popen[str]

    @property
    def setup_token(self) -> str:
        return (self.settings.data_dir / "setup-token").read_text().strip()


@pytest.fixture(scope="session")
def running(worker_id: str) -> Iterator[Running]:
    """One server for the whole session. Its servers' user must be able to reach the data folder."""
    parent = Path(tempfile.mkdtemp(prefix="rosfit-dashboard-"))
    parent.chmod(0o711)
    # Each worker of a parallel run looks for free ports in a range of its own.
    worker = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    port = free_port(25_000 + worker * 200)
    mqtt_port = free_port(port + 1)
    settings = Settings(
        data_dir=parent / "data", port=port, mqtt_port=mqtt_port, mqtt_ws_port=0, heartbeat_timeout_s=5
    )
    process = start(settings)
    try:
        yield Running(f"http://127.0.0.1:{port}", settings, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        shutil.rmtree(parent)


def start(settings: Settings) -> subprocess.Popen[str]:
    """`rosfit serve`, once it has said that it is ready."""
    given = {f"ROSFIT_{name.upper()}": str(getattr(settings, name)) for name in settings.model_fields_set}
    process = subprocess.Popen(
        [sys.executable, "-m", "rosfit.cli", "serve"],
        env=os.environ | given,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "ready" in line, f"rosfit serve ended with {process.wait()}"
    return process


@pytest.fixture(scope="session")
def template_database(running: Running) -> Iterator[str]:
    """A migrated, empty database, of which every test gets a copy."""
    url = Endpoints.discover(running.settings).database_url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE dashboard_template")
    migrate(_with_database(url, "dashboard_template"))
    yield url


def _with_database(url: str, name: str) -> str:
    return psycopg.conninfo.make_conninfo(url, dbname=name)


@pytest.fixture
def database_url(template_database: str) -> Iterator[str]:
    name = f"dashboard_{os.urandom(4).hex()}"
    with psycopg.connect(template_database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE dashboard_template").format(sql.Identifier(name)))
        yield _with_database(template_database, name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass
class Site:
    """The application in this process, and a browser-like client without a session."""

    edge: Edge
    client: httpx.AsyncClient
    broker: BrokerBook

    async def sign_in_as(self, role: Role) -> None:
        async with self.edge.open_work() as work:
            user = await accounts.add_user(work, NewUser(f"{role}@example.org", "correct horse", role, role))
            self.client.cookies.set(COOKIE, await accounts.open_session(work, user))

    def work(self) -> AsyncIterator[Work]:
        return self.edge.open_work()


@pytest.fixture
async def site(running: Running, database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(make_pool(database_url, max_size=4))
        store = await stack.enter_async_context(open_store(Endpoints.discover(running.settings).redis_url))
        feed = Feed()
        open_work = work_opener(pool, feed)
        async with open_work() as work:
            signer = await accounts.load_signer(work)
        broker = BrokerBook()
        edge = Edge(
            settings=running.settings,
            open_work=open_work,
            hot=store,
            feed=feed,
            metrics=Metrics(),
            signer=signer,
            setup_token=SetupToken(tmp_path / "setup-token"),
            broker_access=broker,
            hash_device_token=lambda token: f"hash of {token}",
            checks={},
            replay=None,
        )
        transport = httpx.ASGITransport(app=make_app(edge), raise_app_exceptions=True)
        client = httpx.AsyncClient(transport=transport, base_url=BASE, headers={"Accept": "text/html"})
        yield Site(edge, await stack.enter_async_context(client), broker)
