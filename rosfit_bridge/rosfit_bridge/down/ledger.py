"""Which commands were taken and how they ended, on disk, so that each has one effect and one answer."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosfit_bridge.database import open_or_begin_anew

Answer = dict[str, Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS command (
    number INTEGER PRIMARY KEY, command_id TEXT NOT NULL UNIQUE, correlation_id TEXT, command TEXT NOT NULL,
    taken_at REAL NOT NULL, answer TEXT, sent INTEGER NOT NULL DEFAULT 0
)
"""
_PROBE = "SELECT number, command_id, correlation_id, command, taken_at, answer, sent FROM command LIMIT 1"
# Between two looks at how many rows there are.
_TRIM_EVERY = 100


class LedgerError(Exception):
    """The file cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Entry:
    """`answer` is None while the command is under way."""

    command_id: str
    correlation_id: str | None
    command: str
    answer: Answer | None


class Ledger:
    """Any thread may call. A killed process loses nothing; the last rows may be lost with the power."""

    def __init__(self, path: Path, remember: int) -> None:
        self.path, self._remember = path, remember
        self._lock = threading.Lock()
        self._since_trim = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = open_or_begin_anew(path, _SCHEMA, _PROBE)
        except (sqlite3.Error, OSError) as error:
            raise _unusable(path, error) from error

    def begin(self, command_id: str, correlation_id: str | None, command: str) -> Entry | None:
        """None for a new command, which is now on disk; otherwise what is known of it."""
        with self._lock, self._db:
            added = self._db.execute(
                "INSERT OR IGNORE INTO command (command_id, correlation_id, command, taken_at) VALUES (?, ?, ?, ?)",
                (command_id, correlation_id, command, time.time()),
            )
            if added.rowcount:
                self._trim()
                return None
            return self._entries("WHERE command_id = ?", command_id)[0]

    def finish(self, command_id: str, answer: Answer) -> None:
        with self._lock, self._db:
            self._db.execute("UPDATE command SET answer = ? WHERE command_id = ?", (json.dumps(answer), command_id))

    def sent(self, command_ids: list[str]) -> None:
        """Their answers need not be repeated any more."""
        with self._lock, self._db:
            self._db.executemany("UPDATE command SET sent = 1 WHERE command_id = ?", [(i,) for i in command_ids])

    def unfinished(self) -> list[Entry]:
        with self._lock:
            return self._entries("WHERE answer IS NULL")

    def unsent(self) -> list[Entry]:
        with self._lock:
            return self._entries("WHERE answer IS NOT NULL AND NOT sent")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _entries(self, where: str, *values: Any) -> list[Entry]:
        query = f"SELECT command_id, correlation_id, command, answer FROM command {where} ORDER BY number"
        rows = self._db.execute(query, values).fetchall()
        return [Entry(i, c, name, None if answer is None else json.loads(answer)) for i, c, name, answer in rows]

    def _trim(self) -> None:
        self._since_trim += 1
        if self._since_trim < _TRIM_EVERY:
            return
        self._since_trim = 0
        self._db.execute(
            "DELETE FROM command WHERE answer IS NOT NULL AND number <= (SELECT max(number) FROM command) - ?",
            (self._remember,),
        )


def _unusable(path: Path, error: Exception) -> LedgerError:
    reason = getattr(error, "strerror", None) or error
    return LedgerError(f"cannot write down commands in {path}: {reason}; set bridge.commands.path")
