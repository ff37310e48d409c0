"""The order of QoS 1 samples through memory, disk, lost connections and restarts."""

import random
import sqlite3
import threading
import time

import pytest
from bridge_rig import wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rosfit_bridge import outbox as outbox_module
from rosfit_bridge.counters import Counters
from rosfit_bridge.envelope import Outgoing
from rosfit_bridge.outbox import Outbox
from rosfit_bridge.spool import Row, Spool, SpoolError
from rosfit_bridge.spooler import Spooler


def message(number, size=1):
    return Outgoing("rosfit/bot/telemetry/x", str(number).encode().rjust(size), 1, None, (("n", str(number)),))


def number(row):
    return int(row.message.payload)


def open_spool(folder, max_bytes=10**9, max_age_s=10**9):
    return Spool(folder / "spool", max_bytes, max_age_s)


class Courier(RuleBasedStateMachine):
    """A broker that acknowledges in order, a link that breaks, a disk written now and then, a process that dies.

    Whatever was acknowledged came in order; nothing that the disk had is ever missing.
    """

    def __init__(self):
        super().__init__()
        import tempfile
        from pathlib import Path

        self.folder = Path(tempfile.mkdtemp())
        self.memory_rows, outbox_module.MEMORY_ROWS = outbox_module.MEMORY_ROWS, 8
        self.next_number = 0
        self.delivered = []
        self.lost_by_crash = set()
        self.boot()

    def boot(self):
        self.spool = open_spool(self.folder)
        self.counters = Counters()
        self.outbox = Outbox(self.counters, 4, self.spool.last_id)
        self.connected = False
        self.mids = []
        self.mid = 0

    def teardown(self):
        self.spool.close()
        outbox_module.MEMORY_ROWS = self.memory_rows

    @rule(count=st.integers(1, 12))
    def take(self, count):
        for _ in range(count):
            self.outbox.put(message(self.next_number), time.time())
            self.next_number += 1

    @precondition(lambda self: not self.connected)
    @rule(window=st.integers(1, 6))
    def connect(self, window):
        self.outbox.connected(window)
        self.connected = True

    @precondition(lambda self: self.connected)
    @rule()
    def pump(self):
        while (row := self.outbox.next()) is not None:
            self.mid += 1
            self.outbox.sent(self.mid)
            self.mids.append((self.mid, number(row)))

    @precondition(lambda self: self.mids)
    @rule(count=st.integers(1, 6))
    def acknowledge(self, count):
        for mid, sent in self.mids[:count]:
            assert self.outbox.acknowledged(mid)
            self.delivered.append(sent)
        del self.mids[:count]

    @precondition(lambda self: self.connected)
    @rule()
    def cut(self):
        self.outbox.disconnected()
        self.connected, self.mids = False, []

    @rule()
    def flush(self):
        batch = self.outbox.collect()
        self.spool.append(batch.rows)
        done = list(self.outbox.done)
        self.spool.delete(done)
        del self.outbox.done[: len(done)]

    @rule()
    def disk_full(self):
        self.outbox.not_stored(self.outbox.collect())

    @rule()
    def load(self):
        after = self.outbox.load_after
        if after is not None:
            self.outbox.loaded(self.spool.load(after, 5, 10**6))

    @rule()
    def crash(self):
        """What was only in memory is lost; everything on disk comes back."""
        kept = {number(row) for row in self.spool.load(0, 10**6, 10**9)}
        alive = set(range(self.next_number)) - set(self.delivered) - kept
        self.lost_by_crash |= alive
        self.spool.close()
        self.boot()

    @invariant()
    def in_order(self):
        firsts = list(dict.fromkeys(self.delivered))
        assert firsts == sorted(firsts)

    @invariant()
    def counts_are_right(self):
        rows = self.spool.load(0, 10**6, 10**9)
        assert (self.spool.count, self.spool.bytes) == (len(rows), sum(r.size for r in rows))

    @rule()
    def everything_arrives(self):
        if not self.connected:
            self.connect(4)
        for _ in range(500):
            self.flush()
            self.load()
            self.pump()
            self.acknowledge(6)
            if self.outbox.idle:
                break
        assert set(self.delivered) | self.lost_by_crash == set(range(self.next_number))
        assert self.outbox.idle
        assert self.spool.count == 0
        assert self.counters.dropped_spool == 0


Courier.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestCourier = Courier.TestCase


def test_a_healthy_link_never_touches_the_disk():
    """Rows acknowledged before the second collect are never among those to write."""
    outbox = Outbox(Counters(), 100)
    outbox.connected(100)
    for mid in range(50):
        outbox.put(message(mid), 0.0)
        outbox.next()
        outbox.sent(mid)
        assert outbox.collect().rows == []
        assert outbox.acknowledged(mid)
    assert outbox.idle


def test_new_samples_go_behind_those_on_their_way_to_disk(monkeypatch):
    """Room in the queue is no reason to overtake."""
    monkeypatch.setattr(outbox_module, "MEMORY_ROWS", 8)
    outbox = Outbox(Counters(), 4)
    outbox.connected(4)
    for n in range(12):
        outbox.put(message(n), 0.0)
    for mid in range(4):
        outbox.sent(mid)
    outbox.put(message(12), 0.0)
    batch = outbox.collect()
    assert [number(row) for row in batch.moved] == [9, 10, 11, 12]
    assert outbox.behind_disk


def test_without_a_disk_memory_stays_bounded(monkeypatch):
    """The oldest goes first, and is counted."""
    monkeypatch.setattr(outbox_module, "MEMORY_ROWS", 10)
    counters = Counters()
    outbox = Outbox(counters, 5, has_disk=False)
    for n in range(50):
        outbox.put(message(n), 0.0)
    assert len(outbox) <= 11
    assert counters.dropped_spool == 50 - len(outbox)
    assert number(outbox.next()) == 50 - len(outbox)


def test_a_full_disk_does_not_fill_memory(monkeypatch):
    monkeypatch.setattr(outbox_module, "MEMORY_ROWS", 10)
    monkeypatch.setattr(outbox_module, "FRESH_ROWS", 10)
    counters = Counters()
    outbox = Outbox(counters, 5)
    for n in range(100):
        outbox.put(message(n), 0.0)
        outbox.not_stored(outbox.collect())
    assert len(outbox) <= 22
    assert counters.dropped_spool == 100 - len(outbox)


def test_the_oldest_goes_first_when_the_disk_is_full(tmp_path):
    spool = open_spool(tmp_path, max_bytes=10_000)
    rows = [Row(n, time.time(), message(n, size=900)) for n in range(1, 31)]
    spool.append(rows)
    dropped = spool.trim(time.time())
    assert dropped == list(range(1, len(dropped) + 1))
    assert spool.bytes <= 10_000
    assert spool.count == 30 - len(dropped)
    spool.close()


def test_old_rows_are_dropped_but_not_those_of_an_unset_clock(tmp_path):
    """A robot without a battery-backed clock starts in 1970: its rows have no age to speak of."""
    spool = open_spool(tmp_path, max_age_s=60)
    now = time.time()
    spool.append([Row(1, now - 120, message(1)), Row(2, now - 30, message(2)), Row(3, 5.0, message(3))])
    assert spool.trim(now) == [1]
    assert [number(r) for r in spool.load(0, 10, 10**6)] == [2, 3]
    assert spool.trim(100.0) == []  # after a start without the time: row 2 is of the future
    spool.append([Row(4, 10.0, message(4))])
    spool.delete([Row(2, now, message(2))])
    assert spool.trim(68.0) == [3]
    spool.close()


def test_what_the_disk_dropped_is_counted_and_not_sent(tmp_path):
    counters = Counters()
    outbox = Outbox(counters, 2)
    outbox.connected(2)
    for n in range(6):
        outbox.put(message(n), 0.0)
    outbox.sent(1)
    outbox.collect()
    batch = outbox.collect()
    outbox.trimmed([row.id for row in batch.rows[:3]])
    # One of the three was in flight already and is still acknowledged.
    assert counters.dropped_spool == 2
    assert number(outbox.next()) == 3
    assert outbox.acknowledged(1)


def test_a_row_comes_back_as_it_went(tmp_path):
    spool = open_spool(tmp_path)
    sent = Outgoing("rosfit/bot/blob/image", bytes(range(256)), 1, "image/jpeg", (("seq", "7"), ("ä", "ö")))
    spool.append([Row(5, 123.5, sent)])
    spool.close()
    again = open_spool(tmp_path)
    assert again.load(0, 10, 1) == [Row(5, 123.5, sent)]
    assert (again.count, again.last_id) == (1, 5)
    again.close()


def test_a_second_bridge_on_the_same_spool_is_refused(tmp_path):
    first = open_spool(tmp_path)
    with pytest.raises(SpoolError, match="another bridge is using the spool"):
        open_spool(tmp_path)
    first.close()
    open_spool(tmp_path).close()


def test_a_damaged_spool_is_set_aside(tmp_path):
    (tmp_path / "spool").write_bytes(b"not a database" * 1000)
    spool = open_spool(tmp_path)
    assert spool.count == 0
    assert list(tmp_path.glob("spool.damaged-*"))
    spool.close()


def test_what_is_no_fault_of_the_file_leaves_it_where_it_is(tmp_path):
    """A folder stands for a full disk, a missing right or another process, which SQLite tells the same way."""
    (tmp_path / "spool").mkdir()
    with pytest.raises(SpoolError, match=r"cannot use the spool .*; set bridge.spool.path"):
        open_spool(tmp_path)
    assert not list(tmp_path.glob("*damaged*"))


def test_a_spool_that_is_damaged_under_way_does_not_hold_up_what_comes_after(tmp_path):
    spool = open_spool(tmp_path)
    spool.append([Row(n, time.time(), message(n, 20_000)) for n in range(1, 21)])
    spool.close()
    spool = open_spool(tmp_path)
    spool._db.execute("PRAGMA shrink_memory")  # what the check at the opening has read
    with (tmp_path / "spool").open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 350_000)
    lock, counters, sent = threading.RLock(), Counters(), []
    outbox = Outbox(counters, 10, spool.last_id)

    def send() -> None:
        with lock:
            while (row := outbox.next()) is not None:
                sent.append(number(row))
                outbox.sent(len(sent))
                outbox.acknowledged(len(sent))

    spooler = Spooler(spool, outbox, lock, counters, 0.02, send)
    spooler.start()
    with lock:
        outbox.put(message(99), time.time())
    send()
    spooler.nudge()
    wait_until(lambda: sent[-1:] == [99])
    spooler.close()
    assert list(tmp_path.glob("spool.damaged-*"))
    assert len(sent) - 1 + counters.dropped_spool == 20


def test_a_folder_that_cannot_be_made_is_an_error_with_advice(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"cannot write the spool .*; set bridge.spool.path"):
        Spool(tmp_path / "file" / "spool", 1, 1)


def test_a_spool_that_fails_under_way_recovers(tmp_path, caplog):
    """Another process holds the database: rows wait in memory, then reach the disk."""
    spool = open_spool(tmp_path)
    spool._db.execute("PRAGMA busy_timeout=10")
    lock, counters = threading.RLock(), Counters()
    outbox = Outbox(counters, 10)
    spooler = Spooler(spool, outbox, lock, counters, 0.02, lambda: None)
    thief = sqlite3.connect(tmp_path / "spool")
    thief.execute("BEGIN IMMEDIATE")
    spooler.start()
    with lock:
        outbox.put(message(1), time.time())
    spooler.nudge()
    wait_until(lambda: "cannot write the spool" in caplog.text)
    thief.rollback()
    thief.close()
    wait_until(lambda: spool.count == 1)
    spooler.close()


def test_stopping_writes_down_what_is_left(tmp_path):
    lock, counters = threading.RLock(), Counters()
    spool = open_spool(tmp_path)
    outbox = Outbox(counters, 10)
    spooler = Spooler(spool, outbox, lock, counters, 60.0, lambda: None)
    spooler.start()
    for n in range(5):
        outbox.put(message(n), time.time())
    spooler.close()
    again = open_spool(tmp_path)
    assert [number(r) for r in again.load(0, 10, 10**6)] == [0, 1, 2, 3, 4]
    again.close()


@given(st.lists(st.integers(1, 2000), max_size=40), st.integers(1, 5000))
@settings(max_examples=40, deadline=None)
def test_loading_respects_bytes_but_never_stands_still(sizes, max_bytes):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        spool = open_spool(Path(folder))
        spool.append([Row(i + 1, 1.0, message(i, size)) for i, size in enumerate(sizes)])
        seen, after = [], 0
        while rows := spool.load(after, random.randint(1, 10), max_bytes):
            seen += [row.id for row in rows]
            after = seen[-1]
        assert seen == list(range(1, len(sizes) + 1))
        spool.close()
