"""What `rosfit doctor` looks at. Each check answers with a finding; none changes anything."""

import asyncio
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import aiomqtt
import psycopg
import redis.asyncio
from redis.exceptions import RedisError

from rosfit.infra.embedded import mosquitto_package, postgres, valkey
from rosfit.infra.embedded.data_folder import DataFolder
from rosfit.infra.embedded.errors import EmbeddedServerError, NotRunningError
from rosfit.infra.embedded.ports import resolve, why_taken
from rosfit.infra.embedded.processes import Record, identify
from rosfit.infra.embedded.unprivileged import blocking_folder, server_user
from rosfit.settings import Settings, mask_url
from rosfit.supervisor import Endpoints

TIMEOUT_S = 5
OLDEST_POSTGRES = 15
OLDEST_REDIS = 7
DISK_FAIL_BYTES = 512 * 2**20
DISK_WARN_BYTES = 5 * 2**30
CLOCK_WARN_S = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` says what to do; empty when nothing is to be done."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which one depends on another."""
    folder = DataFolder(settings.data_dir, server_user())
    running = _endpoints(settings)
    findings = [_data_folder(folder), _disk(folder), *_programs(settings, folder), *_ports(settings, folder)]
    findings += await asyncio.gather(
        _asked("PostgreSQL", settings.database_url, running.database_url if running else None, _ask_postgres),
        _asked("Redis", settings.redis_url, running.redis_url if running else None, _ask_redis),
        _asked("MQTT broker", settings.mqtt_url, running.mqtt_url if running else None, _ask_broker),
    )
    findings.append(await asyncio.to_thread(_object_store, settings, folder))
    findings.append(await _clock(settings.database_url or (running.database_url if running else None)))
    return findings


def _endpoints(settings: Settings) -> Endpoints | None:
    try:
        return Endpoints.discover(settings)
    except NotRunningError:
        return None


def _data_folder(folder: DataFolder) -> Finding:
    name = "Data folder"
    existing = next(step for step in (folder.root, *folder.root.parents) if step.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(name, "fail", f"{existing} cannot be written to", "Choose another with --data-dir.")
    blocking = blocking_folder(folder.user, existing)
    if blocking is not None and (blocking != folder.root or any(folder.root.iterdir())):
        detail = f"{folder.root} cannot be reached by the user {folder.user.name}, as which the servers run"
        return Finding(name, "fail", detail, f"Choose another with --data-dir, or: chmod o+x {blocking}")
    state = "" if existing == folder.root else " (made at the first start)"
    return Finding(name, "ok", f"{folder.root}{state}")


def _disk(folder: DataFolder) -> Finding:
    existing = next(step for step in (folder.root, *folder.root.parents) if step.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{free / 2**30:.1f} GiB free"
    if free > DISK_WARN_BYTES:
        return Finding("Disk", "ok", detail)
    status: Literal["warn", "fail"] = "fail" if free < DISK_FAIL_BYTES else "warn"
    return Finding("Disk", status, detail, f"Make room on the disk of {existing}, or move the data folder.")


def _programs(settings: Settings, folder: DataFolder) -> Iterable[Finding]:
    if settings.database_url is None:
        yield _program("PostgreSQL program", lambda: postgres.find_programs() / "postgres", "--version")
    if settings.redis_url is None:
        yield _program("Valkey program", valkey.find_program, "--version")
    if settings.mqtt_url is None:
        broker = mosquitto_package.find(folder.servers / "mosquitto")
        if broker is None:
            mend = "`rosfit serve` fetches it; without a network: apt-get install mosquitto"
            yield Finding("Mosquitto program", "warn", "not installed", mend)
        else:
            yield Finding("Mosquitto program", "ok", str(broker.program))


def _program(name: str, find: Callable[[], Path], flag: str) -> Finding:
    try:
        program = find()
        shown = subprocess.run([str(program), flag], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (EmbeddedServerError, OSError, subprocess.SubprocessError) as error:
        return Finding(name, "fail", str(error), "Run `make setup` again, or pip install --force-reinstall rosfit.")
    return Finding(name, "ok", f"{shown.stdout.strip()} ({program})")


def _ports(settings: Settings, folder: DataFolder) -> Iterable[Finding]:
    """Each port is free, or one of ours."""
    names = ["port"] if settings.mqtt_url is not None else ["port", "mqtt_port", "mqtt_ws_port"]
    for name in names:
        port = getattr(settings, name)
        if port:
            yield _port(settings, folder, name, port)


def _port(settings: Settings, folder: DataFolder, name: str, port: int) -> Finding:
    title = f"Port {port} ({name})"
    try:
        refused = why_taken(resolve(settings.host), port)
    except EmbeddedServerError as error:
        return Finding(title, "fail", str(error), "Correct --host or ROSFIT_HOST.")
    if refused is None:
        return Finding(title, "ok", "free")
    if _runs(folder, "mosquitto") if name != "port" else folder.is_locked():
        return Finding(title, "ok", "used by RosFit")
    mend = f"Stop the program that has it, or choose another with ROSFIT_{name.upper()}."
    # The server does without this one if nobody chose it.
    optional = name == "mqtt_ws_port" and settings.origin(name) == "default"
    return Finding(title, "warn" if optional else "fail", f"{refused.strerror}", mend)


def _runs(folder: DataFolder, name: str) -> bool:
    record = Record.read(folder.state / f"{name}.json")
    return record is not None and identify(record.identity.pid) == record.identity


async def _asked(
    name: str, outside: str | None, embedded: str | None, ask: Callable[[str], Awaitable[Finding]]
) -> Finding:
    """Ask the server at `outside`, or ours if it runs."""
    url = outside or embedded
    if not url:
        return Finding(name, "ok", "not running; it starts with `rosfit serve`")
    try:
        return await asyncio.wait_for(ask(url), TIMEOUT_S + 1)
    except (psycopg.Error, RedisError, aiomqtt.MqttError, OSError, ValueError, TimeoutError) as error:
        reason = str(error).strip() or type(error).__name__
        mend = "Check that it runs and that the setting's host, port, user and password are right."
        return Finding(name, "fail", f"{mask_url(url)}: {reason}", mend)


async def _ask_postgres(url: str) -> Finding:
    connection = await psycopg.AsyncConnection.connect(url, connect_timeout=TIMEOUT_S)
    async with connection:
        found = await connection.execute(
            "SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'"
        )
        timescale = await found.fetchone()
        version = connection.info.server_version
    detail = f"version {version // 10000}.{version % 10000}, {'with' if timescale else 'without'} TimescaleDB"
    if version // 10000 < OLDEST_POSTGRES:
        return Finding("PostgreSQL", "fail", detail, f"Upgrade to PostgreSQL {OLDEST_POSTGRES} or newer.")
    return Finding("PostgreSQL", "ok", detail)


async def _ask_redis(url: str) -> Finding:
    client = redis.asyncio.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    try:
        version = str((await client.info("server"))["redis_version"])
    finally:
        await client.aclose()
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        return Finding("Redis", "warn", f"version {version}", f"Upgrade to Redis {OLDEST_REDIS} or newer.")
    return Finding("Redis", "ok", f"version {version}")


async def _ask_broker(url: str) -> Finding:
    parts = urlsplit(url)
    secure, websocket = parts.scheme in ("mqtts", "wss"), parts.scheme in ("ws", "wss")
    default_port = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}[parts.scheme]
    async with aiomqtt.Client(
        parts.hostname or "localhost",
        parts.port or default_port,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        timeout=TIMEOUT_S,
        transport="websockets" if websocket else "tcp",
        websocket_path=(parts.path or "/mqtt") if websocket else None,
        tls_context=ssl.create_default_context() if secure else None,
    ):
        return Finding("MQTT broker", "ok", f"{mask_url(url)} lets us in")


def _object_store(settings: Settings, folder: DataFolder) -> Finding:
    name = "Object store"
    if settings.s3_url is not None:
        return _s3(settings.s3_url)
    if folder.objects.exists() and not os.access(folder.objects, os.W_OK | os.X_OK):
        mend = "Run RosFit as the user who made it, or correct its owner."
        return Finding(name, "fail", f"{folder.objects} cannot be written to", mend)
    return Finding(name, "ok", str(folder.objects))


def _s3(url: str) -> Finding:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    parts = urlsplit(url)
    endpoint = parse_qs(parts.query).get("endpoint", [None])[0]
    limits = Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"max_attempts": 1})
    try:
        boto3.client("s3", endpoint_url=endpoint, config=limits).head_bucket(Bucket=parts.netloc)
    except (BotoCoreError, ClientError, ValueError) as error:
        mend = "Check the bucket, the endpoint and the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)."
        return Finding("Object store", "fail", f"{mask_url(url)}: {error}", mend)
    return Finding("Object store", "ok", mask_url(url))


async def _clock(database_url: str | None) -> Finding:
    """Our clock against the database's: sample times of both end up in the same rows."""
    if database_url is None:
        return Finding("Clock", "ok", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    try:
        connection = await psycopg.AsyncConnection.connect(database_url, connect_timeout=TIMEOUT_S)
        async with connection:
            before = time.time()
            row = await (await connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")).fetchone()
    except psycopg.Error:
        return Finding("Clock", "warn", "could not be compared with the database's", "Mend PostgreSQL first.")
    offset = abs(float(row[0]) - before) if row else 0.0
    if offset > CLOCK_WARN_S:
        return Finding("Clock", "warn", f"{offset:.1f} s apart from the database's", "Synchronise both with NTP.")
    return Finding("Clock", "ok", f"{offset * 1000:.0f} ms apart from the database's")
