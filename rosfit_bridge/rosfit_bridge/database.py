"""A SQLite file that must not keep a robot silent: a damaged one is set aside for whoever wants to look."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from pathlib import Path

log = logging.getLogger(__name__)


def open_or_begin_anew(path: Path, schema: str, probe: str, *pragmas: str) -> sqlite3.Connection:
    """`probe` reads what a whole file has. Raises sqlite3.OperationalError when the file is not to blame.

    A full disk, a missing right or another process is such a reason: what the file holds is still wanted then.
    """
    try:
        return _opened(path, schema, probe, pragmas)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        set_aside(path, error)
        return _opened(path, schema, probe, pragmas)


def set_aside(path: Path, error: sqlite3.DatabaseError) -> None:
    aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
    os.replace(path, aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")
    log.error("%s is damaged (%s); moved to %s, starting an empty one", path, error, aside.name)


def _opened(path: Path, schema: str, probe: str, pragmas: tuple[str, ...]) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
    try:
        for pragma in pragmas:
            db.execute(f"PRAGMA {pragma}")
        db.execute("PRAGMA journal_mode=WAL")
        # A killed process loses nothing with NORMAL; only a power cut may take the last commits.
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute(schema)
        _check(db, probe)
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection, probe: str) -> None:
    try:
        db.execute(probe).fetchone()
    except sqlite3.OperationalError as error:
        if "no such column" in str(error):
            raise sqlite3.DatabaseError("its columns are not those of this bridge") from error
        raise
    # 0.2 s for a spool of 200 MB; what it finds would otherwise be found with every start, and never mended.
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)
