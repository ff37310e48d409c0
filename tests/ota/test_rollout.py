"""The rules of a rollout, and of one device in it, for whatever hypothesis can think of."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rosfit.ota.lifecycle import FAILED, FINAL, REPORTABLE, STEPS, advance
from rosfit.ota.rollout import (
    Candidate,
    Tally,
    Thresholds,
    Window,
    check_waves,
    is_open,
    judge,
    room,
    tally,
    wave_sizes,
    why_waiting,
)

SHARES = st.lists(st.floats(0.01, 99.99), unique=True, max_size=8).map(lambda shares: [*sorted(shares), 100.0])
STATUSES = st.sampled_from(sorted(REPORTABLE))


@given(st.integers(0, 100_000), SHARES)
def test_sizes_sum_to_the_target_and_the_first_wave_is_not_empty(total, shares):
    check_waves(shares)
    sizes = wave_sizes(total, shares)
    assert sum(sizes) == total
    assert len(sizes) == len(shares)
    assert min(sizes) >= 0
    assert sizes[0] > 0 or total == 0


@pytest.mark.parametrize(
    ("total", "shares", "sizes"),
    [
        (1000, [10, 50, 100], [100, 400, 500]),
        (5, [10, 50, 100], [1, 2, 2]),
        (1, [10, 50, 100], [1, 0, 0]),
        (1000, [0.1, 100], [1, 999]),
        (1000, [29, 58, 100], [290, 290, 420]),
    ],
)
def test_shares_are_rounded_up(total, shares, sizes):
    assert wave_sizes(total, shares) == sizes


@pytest.mark.parametrize("waves", [[], [50], [100, 100], [50, 20, 100], [-1, 100], [100, 50]])
def test_waves_rise_to_a_hundred(waves):
    with pytest.raises(ValueError, match="waves are"):
        check_waves(waves)


@given(st.integers(1, 200), st.data())
def test_a_threshold_is_never_passed_silently(total, data):
    """However a wave goes: once more than the threshold have failed, and enough have finished, it says so."""
    failed = data.draw(st.integers(0, total))
    succeeded = data.draw(st.integers(0, total - failed))
    cancelled = data.draw(st.integers(0, total - failed - succeeded))
    limits = Thresholds(*(data.draw(st.floats(0, 100)) for _ in range(2)), data.draw(st.integers(1, 300)))
    verdict = judge(Tally(total, failed + succeeded + cancelled, succeeded, failed), limits)
    over = failed * 100 / total > limits.failure * (1 + 1e-12) + 1e-9
    enough = failed + succeeded + cancelled >= min(limits.min_sample, total)
    if over and enough:
        assert verdict == "failure"
    if verdict == "failure":
        assert failed > 0
        assert enough
    if failed + succeeded + cancelled == total and verdict != "failure":
        assert verdict == "next"


def test_the_failure_threshold_is_strict_and_comes_first():
    limits = Thresholds(success=50, failure=50)
    assert judge(Tally(4, 2, 0, 2), limits) == "wait"
    assert judge(Tally(4, 3, 0, 3), limits) == "failure"
    assert judge(Tally(4, 4, 2, 2), limits) == "next"
    assert judge(Tally(2, 2, 1, 1), Thresholds(50, 49.9)) == "failure"
    assert judge(Tally(10, 2, 0, 2), Thresholds(100, 10, min_sample=3)) == "wait"
    assert judge(Tally(2, 2, 0, 2), Thresholds(100, 10, min_sample=3)) == "failure"
    assert judge(Tally(10, 2, 0, 2), Thresholds(100, 10), accepted=2) == "wait"
    assert judge(Tally(10, 3, 0, 3), Thresholds(100, 10), accepted=2) == "failure"


@given(st.integers(1, 50), st.integers(0, 80), st.none() | st.integers(1, 50), st.integers(0, 80))
def test_room_is_never_negative_nor_too_much(most, under_way, rate, recent):
    free = room(most, under_way, rate, recent)
    assert 0 <= free <= max(0, most - under_way)
    if rate is not None:
        assert free + recent <= max(rate, recent)


@given(st.lists(STATUSES, max_size=30))
def test_a_device_goes_forward_and_ends_once(reports):
    current, ended = "queued", None
    for reported in reports:
        outcome = advance(current, reported, sent=True)
        assert not (outcome.steps and outcome.refused)
        for step in outcome.steps:
            assert step in FINAL or STEPS.index(step) > STEPS.index(current)
            current = step
        if ended:
            assert current == ended
        if current in FINAL:
            ended = current


def test_what_was_not_sent_cannot_be_reported():
    assert advance("queued", "succeeded", sent=False).refused == "NOT_NOTIFIED"
    assert advance("queued", "downloading", sent=True).steps == ("notified", "downloading")
    assert advance("verifying", "downloading", sent=True).refused == "OUT_OF_ORDER"
    assert advance("timed_out", "succeeded", sent=True).refused == "TERMINAL_STATE"
    assert advance("installing", "succeeded", sent=True).steps == ("succeeded",)


class Rollout(RuleBasedStateMachine):
    """The server's rules under any interleaving of places, reports, silence, restarts and operators."""

    def __init__(self):
        super().__init__()
        self.limits = Thresholds(80, 20, 2)
        self.waves = [wave for wave, size in enumerate(wave_sizes(12, [10, 50, 100])) for _ in range(size)]
        self.status = dict.fromkeys(range(12), "queued")
        self.claimed, self.ended = set(), {}
        self.wave, self.accepted, self.running = 0, 0, True

    def under_way(self):
        return [one for one, status in self.status.items() if status not in FINAL and one in self.claimed]

    def tally(self):
        counts = {}
        for one, status in self.status.items():
            if self.waves[one] == self.wave:
                counts[status] = counts.get(status, 0) + 1
        return tally(counts)

    @rule(count=st.integers(1, 5))
    def take_places(self, count):
        free = room(3, len(self.under_way()), None, 0) if self.running else 0
        waiting = [one for one, status in self.status.items() if status == "queued" and one not in self.claimed]
        ready = [one for one in waiting if self.waves[one] <= self.wave]
        self.claimed |= set(ready[: min(free, count)])

    @rule()
    def tell_all_that_have_a_place(self):
        """Also after a restart: whoever has a place is told again."""
        for one in self.claimed:
            if self.status[one] == "queued":
                self.status[one] = "notified"

    @rule(one=st.integers(0, 11), reported=STATUSES)
    def report(self, one, reported):
        outcome = advance(self.status[one], reported, sent=one in self.claimed)
        if outcome.steps:
            self.status[one] = outcome.steps[-1]
            self.judge()

    def judge(self):
        while self.running:
            verdict = judge(self.tally(), self.limits, self.accepted)
            if verdict == "failure":
                self.running = False
            if verdict != "next" or self.wave == 2:
                return
            self.wave, self.accepted = self.wave + 1, 0

    @precondition(lambda self: not self.running)
    @rule()
    def resume(self):
        self.running, self.accepted = True, self.tally().failed
        self.judge()

    @invariant()
    def never_too_many(self):
        assert len(self.under_way()) <= 3

    @invariant()
    def one_end_each(self):
        for one, status in self.status.items():
            if status in FINAL:
                assert self.ended.setdefault(one, status) == status

    @invariant()
    def nobody_starts_past_the_running_wave(self):
        assert all(self.waves[one] <= self.wave for one in self.claimed)

    @invariant()
    def failures_stop_it(self):
        wave = self.tally()
        over = wave.failed * 100 > 20 * wave.total and wave.finished >= min(2, wave.total)
        assert not (self.running and over and wave.failed > self.accepted)


TestRollout = Rollout.TestCase


def test_every_failure_is_one():
    counts = dict.fromkeys(FINAL, 1) | {"queued": 1, "notified": 1}
    assert tally(counts) == Tally(8, 6, 1, 4)
    assert {"failed", "timed_out", "rejected", "rolled_back"} == FAILED


BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Window("0 2 * * *", 3600, "Europe/Berlin")


@pytest.mark.parametrize(
    ("own", "at", "is_so"),
    [
        (None, "2026-01-10T00:59:59+00:00", False),
        (None, "2026-01-10T01:00:00+00:00", True),
        (None, "2026-01-10T01:59:59+00:00", True),
        (None, "2026-01-10T02:00:00+00:00", False),
        ("Asia/Tokyo", "2026-01-10T17:30:00+00:00", True),
        ("Asia/Tokyo", "2026-01-10T01:30:00+00:00", False),
        ("Mars/Olympus", "2026-01-10T01:30:00+00:00", True),
        # In Berlin's summer 02:00 is 00:00 UTC.
        (None, "2026-07-10T00:30:00+00:00", True),
    ],
)
def test_the_window_is_in_the_robots_own_time(own, at, is_so):
    assert is_open(NIGHT, own, datetime.fromisoformat(at)) is is_so


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)))
def test_a_window_of_a_day_each_day_is_always_open(at):
    assert is_open(Window("0 0 * * *", 86_400 + 3600, "Europe/Berlin"), None, at.replace(tzinfo=BERLIN))


def test_why_a_device_waits():
    moment = datetime.fromisoformat("2026-01-10T12:00:00+00:00")
    device = Candidate("a", "online", {}, battery=50)
    assert why_waiting(device, 20, None, moment) is None
    assert why_waiting(device, 20, NIGHT, moment) == "window"
    assert why_waiting(device._replace(battery=19), 20, None, moment) == "battery"
    assert why_waiting(device._replace(battery=None), 20, None, moment) is None
    assert why_waiting(device._replace(busy=True), 20, None, moment) == "busy"
    assert why_waiting(device._replace(elsewhere=True), 20, None, moment) == "elsewhere"
    assert why_waiting(device._replace(status="offline"), 20, None, moment) == "offline"
    assert why_waiting(device._replace(status="maintenance"), 20, None, moment) == "maintenance"
