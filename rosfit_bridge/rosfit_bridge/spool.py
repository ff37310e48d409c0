"""QoS 1 samples on disk until the broker has acknowledged them. One SQLite file, used by one thread."""

from __future__ import annotations

import fcntl
import json
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rosfit_bridge.database import open_or_begin_anew, set_aside
from rosfit_bridge.envelope import Outgoing

# Before this the clock of a robot without a battery had not been set: such rows have no age to speak of.
_CLOCK_SET = 1_577_836_800.0
# What SQLite needs for a row beside its payload: key, record header, times, page slack.
_ROW_BYTES = 48
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sample (
    id INTEGER PRIMARY KEY, taken_at REAL NOT NULL, size INTEGER NOT NULL,
    topic TEXT NOT NULL, content_type TEXT, user TEXT NOT NULL, payload BLOB NOT NULL
)
"""


_STARTED = time.time() - time.monotonic()


def age_clock() -> float:
    """The wall clock as it was at the start, whatever it has been set to since.

    A computer without a clock of its own learns the time with its first connection: its backlog is no older by that.
    """
    return _STARTED + time.monotonic()


class SpoolError(Exception):
    """The spool cannot be opened; the message says why and what to do."""


@dataclass
class Row:
    """A message with its place in the order of sending. `taken_at` is of `age_clock`."""

    id: int
    taken_at: float
    message: Outgoing

    @property
    def size(self) -> int:
        return len(self.message.payload) + len(self.message.topic) + _ROW_BYTES


class Spool:
    """`count` and `bytes` are of what is on disk. Ids rise in the order of sending."""

    def __init__(self, path: Path, max_bytes: int, max_age_s: float) -> None:
        self.path, self._max_bytes, self._max_age_s = path, max_bytes, max_age_s
        self._lock = _lock(path)
        self._db = _open(path)
        row = self._db.execute("SELECT count(*), coalesce(sum(size), 0), coalesce(max(id), 0) FROM sample").fetchone()
        self.count, self.bytes, self.last_id = row

    def append(self, rows: Iterable[Row]) -> None:
        rows = list(rows)
        values = [
            (
                r.id,
                r.taken_at,
                r.size,
                r.message.topic,
                r.message.content_type,
                json.dumps(r.message.user),
                r.message.payload,
            )
            for r in rows
        ]
        with self._db:
            self._db.executemany("INSERT OR IGNORE INTO sample VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        self.count += len(rows)
        self.bytes += sum(r.size for r in rows)
        self.last_id = max([self.last_id, *(r.id for r in rows)])

    def delete(self, rows: Iterable[Row]) -> None:
        rows = list(rows)
        with self._db:
            self._db.executemany("DELETE FROM sample WHERE id = ?", [(r.id,) for r in rows])
        self.count -= len(rows)
        self.bytes -= sum(r.size for r in rows)

    def load(self, after_id: int, limit: int, max_bytes: int) -> list[Row]:
        """The next rows to send, oldest first; at least one if there is any."""
        loaded, size = [], 0
        query = "SELECT id, taken_at, topic, content_type, user, payload FROM sample WHERE id > ? ORDER BY id LIMIT ?"
        for id_, taken_at, topic, content_type, user, payload in self._db.execute(query, (after_id, limit)):
            pairs = tuple((str(k), str(v)) for k, v in json.loads(user))
            row = Row(id_, taken_at, Outgoing(topic, payload, 1, content_type, pairs))
            size += row.size
            if loaded and size > max_bytes:
                break
            loaded.append(row)
        return loaded

    def trim(self, now: float) -> list[int]:
        """Drops the oldest rows that are too many bytes or too old, and returns their ids."""
        dropped: list[int] = []
        excess = self.bytes - self._max_bytes
        oldest_allowed = now - self._max_age_s
        known_since = 0.0 if now < _CLOCK_SET else _CLOCK_SET
        freed = 0
        for id_, taken_at, size in self._db.execute("SELECT id, taken_at, size FROM sample ORDER BY id"):
            if freed >= excess and not known_since < taken_at < oldest_allowed:
                break
            dropped.append(id_)
            freed += size
        if dropped:
            with self._db:
                self._db.executemany("DELETE FROM sample WHERE id = ?", [(id_,) for id_ in dropped])
            self.count -= len(dropped)
            self.bytes -= freed
        return dropped

    def shrink(self) -> None:
        """Gives pages freed by a worked-off backlog back to the file system."""
        self._db.execute("PRAGMA incremental_vacuum").fetchall()

    def begin_anew(self, error: sqlite3.DatabaseError) -> int:
        """The file was damaged under way: another one from now on. How many rows went with it."""
        # A closed one was set aside before, and the disk had no room for another.
        if not isinstance(error, sqlite3.ProgrammingError):
            self._db.close()
            set_aside(self.path, error)
        self._db = _open(self.path)
        lost, self.count, self.bytes = self.count, 0, 0
        return lost

    def close(self) -> None:
        self._db.close()
        self._lock.close()


def _open(path: Path) -> sqlite3.Connection:
    probe = "SELECT count(*), sum(size) FROM sample"
    try:
        # auto_vacuum only takes when it is set before the first table is made.
        return open_or_begin_anew(
            path, _SCHEMA, probe, "auto_vacuum=INCREMENTAL", f"journal_size_limit={4 * 1024 * 1024}"
        )
    except (sqlite3.Error, OSError) as error:
        raise SpoolError(f"cannot use the spool {path}: {error}; set bridge.spool.path") from error


def _lock(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(f"{path}.lock", "a+")  # noqa: SIM115 - held for the life of the process
    except OSError as error:
        raise SpoolError(f"cannot write the spool {path}: {error.strerror}; set bridge.spool.path") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise SpoolError(
            f"another bridge is using the spool {path}; stop it, or give this one its own bridge.spool.path"
        ) from error
    return handle
