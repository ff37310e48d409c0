"""The order of QoS 1 samples: in memory while the link keeps up, on disk when it does not.

    put ──► queue ──► in flight ──► acknowledged
              ▲  (memory is full, or older rows wait on disk)
              └── disk ◄── fresh

Everything is in order of id. `fresh` rows and rows that are only on disk come after the queue; the queue comes after
what is in flight. Whatever is still unacknowledged at the second `collect` after it was taken is copied to disk, so a
healthy link never touches the disk and a killed bridge loses at most two flush intervals.

No thread and no lock of its own: the caller holds the link's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from rosfit_bridge.counters import Counters
from rosfit_bridge.envelope import Outgoing
from rosfit_bridge.spool import Row

MEMORY_ROWS = 1000
MEMORY_BYTES = 8 * 1024 * 1024
# Fresh rows leave with every flush, five times a second: these bounds are for a disk that is full, gone or too slow.
FRESH_ROWS = 10_000
FRESH_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Batch:
    """Rows to write: `copies` stay in memory as well, `moved` are from now on only on disk."""

    copies: list[Row]
    moved: list[Row]

    @property
    def rows(self) -> list[Row]:
        return self.copies + self.moved


class Outbox:
    def __init__(self, counters: Counters, window: int, last_id_on_disk: int = 0, *, has_disk: bool = True) -> None:
        self._counters, self._has_disk = counters, has_disk
        self._window = self.window = window
        self._next_id = last_id_on_disk + 1
        self._queue: deque[Row] = deque()
        self._queue_bytes = 0
        self._inflight: dict[int, Row] = {}
        self._fresh: deque[Row] = deque()
        self._fresh_bytes = 0
        self._on_disk: set[int] = set()  # ids of rows in memory that have a copy on disk
        self.done: list[Row] = []  # acknowledged; the spooler deletes their copies and then takes them out here
        self._loaded_to = 0  # rows after this id and up to _disk_to are only on disk
        self._disk_to = last_id_on_disk
        self._mark = 0

    def __len__(self) -> int:
        """Rows in memory."""
        return len(self._queue) + len(self._inflight) + len(self._fresh)

    @property
    def idle(self) -> bool:
        return not len(self) and not self.done and not self.behind_disk

    @property
    def behind_disk(self) -> bool:
        return self._disk_to > self._loaded_to

    @property
    def hurry(self) -> bool:
        """Whether the disk should be visited before the next flush."""
        return (
            self.load_after is not None or len(self._fresh) > FRESH_ROWS // 10 or self._fresh_bytes > FRESH_BYTES // 4
        )

    @property
    def _queue_full(self) -> bool:
        return len(self._queue) > MEMORY_ROWS or self._queue_bytes > MEMORY_BYTES

    def put(self, message: Outgoing, taken_at: float) -> None:
        row = Row(self._next_id, taken_at, message)
        self._next_id += 1
        if not self._has_disk:
            self._enqueue([row])
            self._bound_queue()
        elif self.behind_disk or self._fresh or self._queue_full:
            self._put_fresh(row)
        else:
            self._enqueue([row])

    def next(self) -> Row | None:
        """The row to send now, if one may be sent."""
        return self._queue[0] if self._queue and len(self._inflight) < self._window else None

    def sent(self, mid: int) -> None:
        row = self._queue.popleft()
        self._queue_bytes -= row.size
        self._inflight[mid] = row

    def skip(self) -> None:
        """Gives up on the next row (the broker would not take it)."""
        row = self._queue.popleft()
        self._queue_bytes -= row.size
        self._finish(row)

    def acknowledged(self, mid: int) -> Row | None:
        row = self._inflight.pop(mid, None)
        if row is not None:
            self._finish(row)
            self._settle()
        return row

    def connected(self, receive_maximum: int) -> None:
        self._window = min(self.window, receive_maximum)

    def disconnected(self) -> None:
        """What was in flight goes out again first."""
        rows = list(self._inflight.values())
        self._inflight.clear()
        self._queue.extendleft(reversed(rows))
        self._queue_bytes += sum(r.size for r in rows)

    def collect(self, *, everything: bool = False) -> Batch:
        """What the disk should have now. Call `not_stored` if writing fails."""
        if not self._has_disk:
            return Batch([], [])
        mark = self._next_id if everything else self._mark
        self._mark = self._next_id
        held = [*self._inflight.values(), *self._queue]
        copies = [r for r in held if r.id < mark and r.id not in self._on_disk]
        moved = list(self._fresh)
        self._on_disk.update(r.id for r in copies)
        self._fresh.clear()
        self._fresh_bytes = 0
        if moved:
            self._disk_to = moved[-1].id
        return Batch(copies, moved)

    def not_stored(self, batch: Batch) -> None:
        self._on_disk.difference_update(r.id for r in batch.copies)
        failed = {r.id for r in batch.copies}
        self.done = [r for r in self.done if r.id not in failed]
        for row in reversed(batch.moved):
            self._fresh.appendleft(row)
            self._fresh_bytes += row.size
        if batch.moved:
            self._disk_to = batch.moved[0].id - 1
        self._bound_fresh()

    @property
    def load_after(self) -> int | None:
        """The id after which to load from disk, when there is something to load and room for it."""
        room = len(self._queue) < MEMORY_ROWS // 4 and self._queue_bytes < MEMORY_BYTES // 4
        wanted = self.behind_disk and room
        return self._loaded_to if wanted else None

    def loaded(self, rows: list[Row]) -> None:
        self._on_disk.update(r.id for r in rows)
        self._enqueue(rows)
        if not rows:
            self._loaded_to = self._disk_to
        self._settle()

    def trimmed(self, ids: Iterable[int]) -> None:
        """The disk dropped these. What is in flight is sent all the same."""
        gone = set(ids)
        inflight = {r.id for r in self._inflight.values()} & gone
        self._on_disk -= gone
        self._queue = deque(r for r in self._queue if r.id not in gone)
        self._queue_bytes = sum(r.size for r in self._queue)
        self.done = [r for r in self.done if r.id not in gone]
        self._counters.dropped_spool += len(gone) - len(inflight)

    def disk_lost(self, rows: int) -> None:
        """Everything on disk is gone, `rows` of them; what memory holds as well is not."""
        self._counters.dropped_spool += max(0, rows - len(self._on_disk) - len(self.done))
        self._on_disk.clear()
        self.done.clear()
        self._loaded_to = self._disk_to
        self._settle()

    def _finish(self, row: Row) -> None:
        if row.id in self._on_disk:
            self._on_disk.discard(row.id)
            self.done.append(row)

    def _enqueue(self, rows: list[Row]) -> None:
        self._queue.extend(rows)
        self._queue_bytes += sum(r.size for r in rows)
        if rows:
            self._loaded_to = max(self._loaded_to, rows[-1].id)

    def _put_fresh(self, row: Row) -> None:
        self._fresh.append(row)
        self._fresh_bytes += row.size
        self._bound_fresh()

    def _bound_queue(self) -> None:
        while self._queue_full and len(self._queue) > 1:
            self._queue_bytes -= self._queue.popleft().size
            self._counters.dropped_spool += 1

    def _bound_fresh(self) -> None:
        while (len(self._fresh) > FRESH_ROWS or self._fresh_bytes > FRESH_BYTES) and len(self._fresh) > 1:
            self._fresh_bytes -= self._fresh.popleft().size
            self._counters.dropped_spool += 1

    def _settle(self) -> None:
        """Once nothing waits on disk, fresh rows need not make the detour."""
        if self.behind_disk or not self._fresh or len(self._queue) >= MEMORY_ROWS // 4:
            return
        rows = list(self._fresh)
        self._fresh.clear()
        self._fresh_bytes = 0
        self._enqueue(rows)
