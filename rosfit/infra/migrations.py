"""The schema's revision, and Alembic under an advisory lock to change it.

Alembic takes 0.25 s and 20 MB to load, so it is loaded only when there is something to change.
"""

from __future__ import annotations

import asyncio
import re

import psycopg
import stamina

from rosfit.assets import asset_folder
from rosfit.infra.postgres import MIGRATION_LOCK
from rosfit.kernel.errors import UnavailableError

WAIT_S = 60

_FILE = re.compile(r"(\d{4})_\w+\.py")


def head_revision() -> str:
    """Of the newest file: they are numbered, and each follows the one before it."""
    files = (asset_folder("alembic") / "versions").iterdir()
    return max(found[1] for file in files if (found := _FILE.fullmatch(file.name)))


def current_revision(url: str) -> str | None:
    """None for an empty database."""
    with psycopg.connect(url) as connection:
        return _revision(connection)


def migrate(url: str) -> tuple[str | None, str]:
    """Bring the schema up to date; safe to call from several processes at once.

    Returns the revisions before and after.
    """
    with psycopg.connect(url, autocommit=True) as guard:
        guard.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        before, head = _revision(guard), head_revision()
        if before != head:
            _upgrade(url)
    return before, head


async def migrate_when_ready(url: str) -> tuple[str | None, str]:
    """`migrate` in a thread, waiting up to a minute for a server that is still starting. Raises UnavailableError."""
    try:
        async for attempt in stamina.retry_context(on=psycopg.OperationalError, attempts=None, timeout=WAIT_S):
            with attempt:
                return await asyncio.to_thread(migrate, url)
    except psycopg.OperationalError as error:
        why = " ".join(str(error).split())
        what_to_do = "start it, or correct ROSFIT_DATABASE_URL"
        raise UnavailableError(f"PostgreSQL does not answer ({why}); {what_to_do}") from error
    raise AssertionError("unreachable")


def _revision(connection: psycopg.Connection[tuple[str | None]]) -> str | None:
    row = connection.execute("SELECT to_regclass('alembic_version')::text").fetchone()
    if row is None or row[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row[0] if row else None


def _upgrade(url: str) -> None:
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    from alembic import command

    config = Config()
    config.set_main_option("script_location", str(asset_folder("alembic")).replace("%", "%%"))
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
