"""The way down without ROS: what is remembered, what is too old, how fast it may be, and when it stops."""

import json
import threading
import time
from types import SimpleNamespace

import msgspec
import pytest
from bridge_rig import wait_until

from rosfit_bridge.convert.bounds import Bound, Bounds
from rosfit_bridge.convert.parameters import from_json
from rosfit_bridge.counters import Counters
from rosfit_bridge.down import msgpack_read
from rosfit_bridge.down.backlog import MOST_BYTES, Backlog
from rosfit_bridge.down.desk import Desk
from rosfit_bridge.down.freshness import Freshness
from rosfit_bridge.down.job import Command
from rosfit_bridge.down.lane import Lane
from rosfit_bridge.down.ledger import Ledger, LedgerError
from rosfit_bridge.down.request import BadRequestError, read
from rosfit_bridge.down.watchdog import Watchdog

X = ("linear", "x")
DONE = {"status": "succeeded", "result": {"n": 1}}


def twist(x):
    return {"linear": {"x": x, "y": 0.0}}


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path / "bot.commands", remember=100)
    yield made
    made.close()


def test_a_command_is_new_once(ledger):
    assert ledger.begin("cmd_1", "c", "go") is None
    assert ledger.begin("cmd_1", "c", "go").answer is None
    ledger.finish("cmd_1", DONE)
    again = ledger.begin("cmd_1", "c", "go")
    assert (again.correlation_id, again.answer) == ("c", DONE)


def test_what_a_killed_bridge_left(tmp_path):
    """Another process sees what was under way, and which answers nobody may have got."""
    first = Ledger(tmp_path / "x", 100)
    for name in ("a", "b", "c"):
        first.begin(name, None, "go")
    first.finish("b", DONE)
    first.finish("c", DONE)
    first.sent(["c"])
    second = Ledger(tmp_path / "x", 100)
    assert [e.command_id for e in second.unfinished()] == ["a"]
    assert [e.command_id for e in second.unsent()] == ["b"]
    first.close()
    second.close()


def test_the_ledger_is_bounded(ledger):
    for n in range(1000):
        ledger.begin(f"cmd_{n}", None, "go")
        if n:
            ledger.finish(f"cmd_{n}", DONE)
    assert ledger.begin("cmd_999", None, "go").answer == DONE
    assert ledger.begin("cmd_5", None, "go") is None
    assert [e.command_id for e in ledger.unfinished()] == ["cmd_0", "cmd_5"]


def test_a_damaged_ledger_is_set_aside(tmp_path):
    (tmp_path / "x").write_bytes(b"no database at all, but long enough to look like one" * 100)
    made = Ledger(tmp_path / "x", 100)
    assert made.begin("a", None, "go") is None
    made.close()
    assert list(tmp_path.glob("x.damaged-*"))


def test_a_ledger_with_damage_in_the_middle_is_set_aside_too(tmp_path):
    """It opens, and every command after that would be refused for want of a ledger."""
    made = Ledger(tmp_path / "x", 10_000)
    with made._db:
        rows = [(f"cmd_{n}", None, "go", 1.0) for n in range(2000)]
        made._db.executemany(
            "INSERT INTO command (command_id, correlation_id, command, taken_at) VALUES (?, ?, ?, ?)", rows
        )
    made.close()
    with (tmp_path / "x").open("r+b") as file:
        for page in range(6, 20):
            file.seek(page * 4096)
            file.write(b"\xff" * 500)
    again = Ledger(tmp_path / "x", 10_000)
    assert [again.begin(f"cmd_{n}", None, "go") for n in (5, 1000, 3000)] == [None, None, None]
    again.close()
    assert list(tmp_path.glob("x.damaged-*"))


def test_a_ledger_that_is_not_to_blame_stays_where_it_is(tmp_path):
    """Set aside it would forget what was done, and a redelivered command would run again."""
    (tmp_path / "x").mkdir()
    with pytest.raises(LedgerError, match=r"bridge\.commands\.path"):
        Ledger(tmp_path / "x", 100)
    assert not list(tmp_path.glob("*damaged*"))


def test_a_ledger_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"bridge\.commands\.path"):
        Ledger(tmp_path / "file" / "x", 100)


def test_a_result_too_large_for_the_wire_is_left_out_and_said(ledger):
    """The map of a whole floor; without an answer the command would only time out."""
    sent = []

    def publish(message):
        if len(message.payload) > 1000:
            return False
        sent.append(json.loads(message.payload)["payload"])
        return True

    async def get_map(job):
        return {"data": "x" * 2000}

    desk = Desk("bot", ledger, Counters(), publish)
    desk.commands = {"get_map": Command("get_map", "service", "nav_msgs/srv/GetMap", {}, get_map)}
    desk.start()
    for _ in range(2):  # a redelivery has the same answer
        desk.take("", b'{"command_id":"a","command":"get_map"}', None)
        wait_until(lambda: sent)
        answer = sent.pop()
        assert (answer["status"], answer["error"]["code"]) == ("succeeded", "RESULT_TOO_LARGE")
    desk.close()


def test_a_flood_of_messages_is_bounded_and_lets_commands_pass():
    lane, taken, dropped, gate = Lane("test"), [], [], threading.Event()
    lane.start()
    lane.post(gate.wait)
    backlog = Backlog(lane.post, lambda _topic, payload, _properties: taken.append(payload), lambda: dropped.append(1))
    for n in range(5000):
        backlog.put("", b"%d" % n, None)
    lane.post(taken.append, "command")
    gate.set()
    wait_until(lambda: taken[-1:] == [b"4999"])
    assert taken.index("command") <= 1
    taken.remove("command")
    assert taken == [b"%d" % n for n in range(4000, 5000)]
    assert len(dropped) == 4000
    backlog.put("", bytes(MOST_BYTES + 1), None)
    wait_until(lambda: len(taken) == 1001)
    lane.close()


def test_limits_and_slew():
    """0.1 s apart, at most 1 m/s² faster, never above 0.5; slower and the other way at once from zero."""
    bounds = Bounds([Bound(X, 0.5, 1.0)])
    speeds = [bounds.apply(twist(x), at)["linear"]["x"] for x, at in [(2, 10.0), (2, 10.1), (2, 10.2), (2, 10.25)]]
    assert speeds == pytest.approx([0.1, 0.2, 0.3, 0.35])
    assert bounds.apply(twist(0.1), 10.3)["linear"]["x"] == 0.1
    assert bounds.apply(twist(-2), 10.4)["linear"]["x"] == pytest.approx(-0.1)
    bounds.stopped()
    assert bounds.apply(twist(-2), 10.5)["linear"]["x"] == pytest.approx(-0.1)
    assert bounds.apply(twist(0), 99.0)["linear"]["x"] == 0.0
    assert bounds.still


@pytest.mark.parametrize("x", ["NaN", "Infinity", float("nan"), 10**400, "fast", None, True, [1]])
def test_no_number_no_motion(x):
    with pytest.raises(ValueError, match=r"linear\.x"):
        Bounds([Bound(X, 1.0, None)]).apply(twist(x), 1.0)


def test_bounds_leave_the_callers_message_alone():
    message = twist(3.0)
    assert Bounds([Bound(X, 1.0, None)]).apply(message, 1.0) == twist(1.0)
    assert message == twist(3.0)


def zeros(dog, begin, end, step=0.01):
    """The times at which the watchdog says zero."""
    times = [begin + n * step for n in range(int((end - begin) / step))]
    return [at for at in times if dog.due(at)]


def test_the_watchdog_says_zero_for_a_second_and_then_nothing():
    dog = Watchdog(0.5)
    assert zeros(dog, 0, 2) == []
    for n in range(10):
        assert dog.feed(10 + n / 10, still=False)
    said = zeros(dog, 10.9, 15)
    assert said[0] == pytest.approx(11.4, abs=0.02)
    assert said[-1] == pytest.approx(12.4, abs=0.1)
    assert 15 <= len(said) <= 21
    assert dog.next_at == float("inf")


def test_a_lost_line_is_zero_at_once_if_somebody_drove():
    dog = Watchdog(0.5)
    dog.stop(5.0)
    assert not dog.due(5.0)
    dog.feed(6.0, still=False)
    dog.stop(6.1)
    assert dog.due(6.1)
    assert dog.feed(6.2, still=False)
    assert not dog.due(6.3)


def test_an_emergency_stop_holds_until_the_stick_is_let_go_of():
    dog = Watchdog(0.5)
    dog.feed(1.0, still=False)
    dog.hold(1.1)
    assert dog.due(1.1)
    assert not any(dog.feed(1.2 + n / 10, still=False) for n in range(50))
    assert dog.feed(6.3, still=True)
    assert dog.feed(6.4, still=False)
    dog.hold(7.0)
    assert not dog.feed(7.6, still=False)
    assert zeros(dog, 7.6, 9)
    assert dog.feed(9.0, still=False)


@pytest.mark.parametrize("skew", [0.0, -3600.0, 1e9])
def test_what_waited_somewhere_is_stale(skew):
    """Whatever the clocks say: a second later than the quickest of the last half minute is too late."""
    fresh = Freshness()
    for n in range(50):
        assert fresh.refusal("a", n, 1000 + n / 10 + skew, 50 + n / 10 + 0.02) is None
    assert "late" in fresh.refusal("a", 50, 1005 + skew, 56.5)
    assert fresh.refusal("a", 51, 1006.4 + skew, 56.6) is None


def test_out_of_order_is_stale_and_a_new_driver_begins_anew():
    fresh = Freshness()
    assert fresh.refusal("a", 500, None, 1.0) is None
    assert "seq 499 after 500" in fresh.refusal("a", 499, None, 1.1)
    assert fresh.refusal("a", 500, None, 1.1)
    assert fresh.refusal("b", 1, None, 1.2) is None
    assert fresh.refusal("b", 1, None, 2.5) is None  # the same sender, started again


def test_a_clock_set_back_is_believed_again():
    fresh = Freshness()
    assert fresh.refusal("a", 1, 1000.0, 50.0) is None
    assert fresh.refusal("a", 2, 400.0, 50.1)
    assert fresh.refusal("a", 3, 431.0, 81.1) is None


def request(envelope=None, expiry=None, **payload):
    payload = {"command_id": "c", "command": "go", **payload}
    properties = SimpleNamespace() if expiry is None else SimpleNamespace(MessageExpiryInterval=expiry)
    return read(json.dumps({**(envelope or {}), "payload": payload}).encode(), properties)


def test_expiry_by_the_robots_clock_only_without_the_brokers():
    assert request().deadline is None
    assert request(expires_at=time.time() - 1).expired
    assert not request(expires_at="2099-01-01T00:00:00Z").expired
    old = {"timestamp": "2020-01-01T00:00:00Z"}  # as seen from a robot whose clock is years ahead
    assert not request(old, expiry=10, expires_at="2020-01-01T00:00:30Z").expired
    assert request(old, expiry=10, expires_at="2019-12-31T23:59:59Z").expired


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"command": 5}, "command"),
        ({"command": ""}, "command"),
        ({"data": [1]}, "data"),
        ({"correlation_id": 7}, "correlation_id"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"command_id": None}, "command_id"),
    ],
)
def test_bad_requests_name_the_field(change, names):
    with pytest.raises(BadRequestError, match=names) as caught:
        request(**change)
    assert caught.value.command_id == change.get("command_id", "c")


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[1]", b'"x"', b"[" * 100_000, b'{"payload": 1}'])
def test_what_is_no_command_has_no_answer(payload):
    with pytest.raises(BadRequestError) as caught:
        read(payload, None)
    assert caught.value.command_id is None


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, "b": [-1, -33, 127, 128, 255, 256, 65535, 65536, 2**32, 2**64 - 1, -(2**63)]},
        {"text": "ä" * 40, "long": "x" * 300, "longer": "y" * 70_000, "raw": b"\x00\xff" * 200},
        {"f": 1.5, "none": None, "yes": True, "no": False, "list": list(range(20))},
        {str(n): {"n": n} for n in range(20)},
    ],
)
def test_messagepack(value):
    assert msgpack_read.unpack(msgspec.msgpack.encode(value)) == value


@pytest.mark.parametrize(
    "data", [b"", b"\x81", b"\xc1", b"\x81\x01\x01", b"\xc7\x01\x01\x01", b"\x01\x01", b"\xa2\xff\xff", b"\x91" * 100]
)
def test_what_is_not_messagepack(data):
    with pytest.raises(ValueError, match=r"."):
        msgpack_read.unpack(data)


def test_parameter_values_take_the_declared_type():
    assert from_json(2, 3) == (3, 2.0)
    assert from_json("NaN", 3)[1] != from_json("NaN", 3)[1]
    assert from_json([1, 2.5], 0) == (8, [1, 2.5])
    assert from_json("9007199254740993", 2) == (2, 9007199254740993)
    for value, kind in ((1.5, 2), (True, 2), (1, 1), (5, 4), ({}, 0), ([], 0), ([1, "a"], 0), (2**63, 2)):
        with pytest.raises(ValueError, match=r"."):
            from_json(value, kind)
