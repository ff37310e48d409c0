"""A running RosFit for browsers, and pages over a database of their own for everything else."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from litestar import Litestar
from litestar.di import Provide
from playwright.async_api import Browser
from psycopg import sql

from rosfit.accounts import audit
from rosfit.accounts import service as accounts
from rosfit.accounts.models import NewUser, Role
from rosfit.accounts.setup import SetupToken
from rosfit.accounts.tokens import Signer, new_signing_key
from rosfit.dashboard import routes, template_config
from rosfit.dashboard.access import COOKIE
from rosfit.infra.embedded.ports import free_port
from rosfit.infra.migrations import migrate
from rosfit.infra.objects import FolderStore
from rosfit.infra.postgres import make_pool
from rosfit.infra.redis import RedisStore, open_store
from rosfit.kernel.feed import Feed
from rosfit.kernel.work import Work
from rosfit.settings import Settings
from rosfit.shadow.hot import HotShadows
from rosfit.supervisor import Endpoints, Supervisor
from rosfit.wiring import work_opener
from tests.dashboard.browser import Complaints, chromium

BASE = "http://rosfit.test"

SIGNER = Signer([new_signing_key()[1]])


@dataclass
class Running:
    """A `rosfit serve` process; `setup_token` works until the first user is made."""

    base: str
    settings: Settings
    process: subprocess.Popen[str]

    @property
    def setup_token(self) -> str:
        return (self.settings.data_dir / "setup-token").read_text().strip()


@pytest.fixture(scope="package")
def data_dir() -> Iterator[Path]:
    """A folder that the servers' user can reach; pytest's own are closed to it."""
    parent = Path(tempfile.mkdtemp(prefix="rosfit-dashboard-"))
    parent.chmod(0o711)
    yield parent
    shutil.rmtree(parent)


@pytest.fixture(scope="package")
def first_port(worker_id: str) -> int:
    """Each worker of a parallel run looks for free ports in a range of its own."""
    worker = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    return 25_000 + worker * 100


@pytest.fixture(scope="package")
def endpoints(data_dir: Path, first_port: int) -> Iterator[Endpoints]:
    """PostgreSQL and Valkey (and a broker nobody asks), kept by a loop in a thread of its own."""
    mqtt_port = free_port(first_port)
    settings = Settings(data_dir=data_dir / "parts", mqtt_port=mqtt_port, mqtt_ws_port=free_port(mqtt_port + 1))
    found: Future[Endpoints] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def keep() -> None:
        async with Supervisor(settings, lambda line: None) as endpoints:
            found.set_result(endpoints)
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(keep())
        except BaseException as error:
            found.set_exception(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    yield found.result(timeout=60)
    loop.call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture(scope="package")
def running(data_dir: Path, first_port: int) -> Iterator[Running]:
    """`rosfit serve`, one for the whole session."""
    port = free_port(first_port + 50)
    mqtt_port = free_port(port + 1)
    settings = Settings(
        data_dir=data_dir / "whole",
        port=port,
        mqtt_port=mqtt_port,
        mqtt_ws_port=free_port(mqtt_port + 1),
        heartbeat_timeout_s=5,
    )
    running = Running(f"http://127.0.0.1:{port}", settings, start(settings))
    try:
        yield running
    finally:
        # Not the one that was started above, if a test has started it anew.
        running.process.send_signal(signal.SIGTERM)
        running.process.communicate(timeout=20)


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


@pytest.fixture(scope="package")
def template_database(endpoints: Endpoints) -> str:
    """A migrated, empty database, of which every test gets a copy."""
    url = endpoints.database_url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE dashboard_template")
    migrate(_with_database(url, "dashboard_template"))
    return url


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
class Parts:
    """What the pages take from the application's edge, and what the tests look at."""

    open_work: Callable[[], AbstractAsyncContextManager[Work]]
    setup_token: SetupToken
    signer: Signer
    objects: FolderStore

    def hash_device_token(self, token: str) -> str:
        return f"hash of {token}"

    async def update_notice(self, work: Work, action: str, deployment_id: str, told: dict[str, Any]) -> None:
        await audit.record(work, "rosfit", action, deployment_id, after=told)


@dataclass
class Site:
    """The pages in this process, and a browser-like client without a session."""

    edge: Parts
    client: httpx.AsyncClient
    app: Litestar
    feed: Feed
    hot: RedisStore
    settings: Settings

    async def sign_in_as(self, role: Role, *, only_tags: Sequence[str] = ()) -> None:
        async with self.edge.open_work() as work:
            new = NewUser(f"{role}@example.org", "correct horse", role, role, only_tags=list(only_tags))
            user = await accounts.add_user(work, new)
            self.sign_in_with(await accounts.open_session(work, user))

    def sign_in_with(self, session: str) -> None:
        self.client.cookies.set(COOKIE, session)

    @property
    def session(self) -> str:
        return self.client.cookies[COOKIE]


@pytest.fixture(scope="package")
def pages() -> tuple[Litestar, dict[str, Any]]:
    """The pages, and what is injected into them: each test puts its own in. Making them takes a third of a second."""
    injected: dict[str, Any] = {}

    async def provide_work() -> AsyncIterator[Work]:
        async with injected["edge"].open_work() as work:
            yield work

    def provide(name: str) -> Provide:
        return Provide(lambda: injected[name], sync_to_thread=False)

    names = ("pin", "edge", "setup_token", "feed", "hot", "settings", "broker_access")
    app = Litestar(
        route_handlers=routes(),
        dependencies={"work": Provide(provide_work)} | {name: provide(name) for name in names},
        template_config=template_config(),
        openapi_config=None,
        logging_config=None,
        # Several conftest modules go by one name, so that Litestar may look for the type in another one.
        signature_namespace={"AsyncIterator": AsyncIterator, "Work": Work},
    )
    return app, injected


@pytest.fixture
async def site(
    endpoints: Endpoints, database_url: str, pages: tuple[Litestar, dict[str, Any]], tmp_path: Path
) -> AsyncIterator[Site]:
    app, injected = pages
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(make_pool(database_url, max_size=4))
        store = await stack.enter_async_context(open_store(endpoints.redis_url))
        await store.forget_values()
        feed = Feed()
        objects = FolderStore(tmp_path / "objects")
        open_work = work_opener(pool, feed, HotShadows(store, lambda: None))
        parts = Parts(open_work, SetupToken(tmp_path / "setup-token"), SIGNER, objects)
        # The pages only ask whether there are accounts of a broker, not what is in them.
        injected |= {"edge": parts, "setup_token": parts.setup_token, "feed": feed, "hot": store}
        settings = Settings(data_dir=tmp_path)
        injected |= {"pin": None, "settings": settings, "broker_access": object()}
        transport = httpx.ASGITransport(app=app)
        client = httpx.AsyncClient(transport=transport, base_url=BASE, headers={"Accept": "text/html"})
        yield Site(parts, await stack.enter_async_context(client), app, feed, store, settings)


@pytest.fixture(scope="package")
def request_for_bot() -> str:
    """A certificate signing request with a key of its own, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bot")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def browser(module_browser: Browser) -> AsyncIterator[Browser]:
    """One for a module, since it is dear to start, and so its tests share a loop; without pages of earlier ones."""
    yield module_browser
    for context in module_browser.contexts:
        await context.close()


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()
