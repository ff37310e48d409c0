"""The thread that moves rows between the outbox and the disk, so that neither ROS nor the network waits for it."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable

from rosfit_bridge.counters import Counters
from rosfit_bridge.outbox import Batch, Outbox
from rosfit_bridge.spool import Row, Spool, SpoolError, age_clock

log = logging.getLogger(__name__)

LOAD_ROWS = 500
LOAD_BYTES = 4 * 1024 * 1024
# Between two looks at the age of a waiting backlog.
TRIM_EVERY_S = 30.0


class Spooler:
    """`on_loaded` is called, without the lock, when rows have come back from disk and can be sent."""

    def __init__(
        self,
        spool: Spool,
        outbox: Outbox,
        lock: threading.RLock,
        counters: Counters,
        flush_s: float,
        on_loaded: Callable[[], None],
    ) -> None:
        self.spool = spool
        self._outbox, self._lock, self._counters = outbox, lock, counters
        self._flush_s, self._on_loaded = flush_s, on_loaded
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._stopping = False
        self._failing = False
        self._trim_at = 0.0
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def nudge(self) -> None:
        """There is something to look after, within a flush interval or at once."""
        if self._outbox.idle:
            return
        if self._outbox.hurry:
            self._hurry.set()
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Writes down everything that has not been acknowledged."""
        self._stopping = True
        self._wake.set()
        self._hurry.set()
        if self._thread.ident is not None:
            self._thread.join(10.0)
        try:
            self._flush(everything=True)
        except sqlite3.Error as error:
            if len(self._outbox):
                log.error("%d samples could not be written to the spool and are lost: %s", len(self._outbox), error)
        self.spool.close()

    def _run(self) -> None:
        while not self._stopping:
            # A spool left by an earlier run is looked at first; afterwards nothing wakes this thread while idle.
            self._round()
            with self._lock:
                idle = self._outbox.idle
                if idle:
                    self._wake.clear()
            if idle:
                self._wake.wait()
            self._hurry.wait(self._flush_s)

    def _round(self) -> None:
        self._hurry.clear()
        try:
            self._flush()
            self._load_more()
            self._trim()
            self._recovered()
        except sqlite3.OperationalError as error:
            self._failed(error)
        except sqlite3.DatabaseError as error:
            self._begin_anew(error)

    def _begin_anew(self, error: sqlite3.DatabaseError) -> None:
        """Waiting does not mend a damaged file: what memory holds goes on without it."""
        try:
            lost = self.spool.begin_anew(error)
        except (SpoolError, OSError) as reason:
            return self._failed(reason)
        with self._lock:
            self._outbox.disk_lost(lost)
        return self._on_loaded()

    def _flush(self, *, everything: bool = False) -> None:
        with self._lock:
            batch = self._outbox.collect(everything=everything)
        self._append(batch)
        with self._lock:
            done = list(self._outbox.done)
        if done:
            self._delete(done)

    def _append(self, batch: Batch) -> None:
        if not batch.rows:
            return
        try:
            self.spool.append(batch.rows)
        except sqlite3.Error:
            with self._lock:
                self._outbox.not_stored(batch)
            raise
        self._counters.spooled += len(batch.rows)
        self._trim_at = 0.0

    def _delete(self, done: list[Row]) -> None:
        self.spool.delete(done)
        with self._lock:
            del self._outbox.done[: len(done)]
        if not self.spool.count:
            self.spool.shrink()

    def _load_more(self) -> None:
        with self._lock:
            after = self._outbox.load_after
        if after is None:
            return
        rows = self.spool.load(after, LOAD_ROWS, LOAD_BYTES)
        with self._lock:
            self._outbox.loaded(rows)
        self._on_loaded()

    def _trim(self) -> None:
        if time.monotonic() < self._trim_at:
            return
        self._trim_at = time.monotonic() + TRIM_EVERY_S
        ids = self.spool.trim(age_clock())
        if ids:
            with self._lock:
                self._outbox.trimmed(ids)

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            log.error("cannot write the spool %s: %s; samples wait in memory until it works", self.spool.path, error)
        self._failing = True

    def _recovered(self) -> None:
        if self._failing:
            log.info("the spool %s can be written again", self.spool.path)
        self._failing = False
