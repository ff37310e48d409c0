"""Section 3, `/telemetry` and `/dead-letters`: raw samples, newest values, series, and messages taken again."""

import asyncio
import json
import secrets
from datetime import datetime, timedelta

import msgspec
import psycopg
import pytest
import redis

from rosfit.kernel.clock import format_time, parse_time
from rosfit.protocol.errors import REASONS
from tests.api.problems import assert_problem
from tests.api.test_devices import everything
from tests.server import until

START = datetime.fromisoformat("2026-01-01T00:00:00Z")


def at(seconds):
    return format_time(START + timedelta(seconds=seconds))


def stored(admin, device_id, count, **params):
    """All samples, once there are `count`."""
    path = f"/telemetry/{device_id}"
    return until(lambda: len(found := everything(admin, path, limit=200, **params)[0]) >= count and found)


@pytest.fixture
def robot(server, new_id):
    with server.robot(new_id()) as robot:
        yield robot


@pytest.fixture
def told(admin, robot):
    """Store values of one stream, one a second (or at given seconds); waits until they can be read."""

    def tell(values, seconds=None, stream="s"):
        for number, value in enumerate(values):
            when = number if seconds is None else seconds[number]
            robot.sample(stream, value, message_id=f"{stream}-{number}", timestamp=at(when), seq=number)
        stored(admin, robot.device_id, len(values), stream=stream)

    return tell


# ── raw samples ──


def test_a_sample_has_the_shape_of_the_contract(admin, robot):
    robot.sample("odom", {"x": 1.5}, message_id="m-1", timestamp="2026-01-01T01:00:00.123456+01:00", seq=7)
    (item,) = stored(admin, robot.device_id, 1)
    assert item.keys() == {"time", "stream", "message_id", "seq", "received_at", "payload"}
    assert item["time"] == "2026-01-01T00:00:00.123Z"
    assert (item["stream"], item["message_id"], item["seq"]) == ("odom", "m-1", 7)
    assert item["payload"] == {"x": 1.5}
    assert abs((parse_time(item["received_at"]) - datetime.now(tz=START.tzinfo)).total_seconds()) < 60


def test_samples_come_newest_first_or_oldest_first(admin, robot, told):
    told([{"n": n} for n in range(10)])
    path = f"/telemetry/{robot.device_id}"
    assert [item["payload"]["n"] for item in admin.got(path)["items"]] == list(range(9, -1, -1))
    assert [item["payload"]["n"] for item in admin.got(path, order="asc")["items"]] == list(range(10))
    window = {"from": at(3), "to": at(6)}
    assert [item["payload"]["n"] for item in admin.got(path, order="asc", **window)["items"]] == [3, 4, 5]
    assert admin.got(path, **{"from": at(6), "to": at(3)})["items"] == []
    for form in ("2026-01-01T01:00:03+01:00", "1767225603", "1767225603000", "2026-01-01T00:00:03Z"):
        assert len(admin.got(path, **{"from": form})["items"]) == 7


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("stream", [None, "a"])
def test_pages_hold_where_times_tie(admin, robot, order, stream):
    """Forty samples of two streams at two instants, three a page: each once, in one order."""
    for number in range(20):
        for name in ("a", "b"):
            robot.sample(name, {"n": number}, message_id=f"{number:02}", timestamp=at(number % 2))
    stored(admin, robot.device_id, 40)
    path = f"/telemetry/{robot.device_id}"
    wanted = {"order": order, **({"stream": stream} if stream else {})}
    paged, pages = everything(admin, path, limit=3, **wanted)
    keys = [(item["time"], item["stream"], item["message_id"]) for item in paged]
    assert len(keys) == len(set(keys)) == (20 if stream else 40)
    assert keys == sorted(keys, reverse=order == "desc")
    assert pages == -(-len(keys) // 3)
    assert paged == admin.got(path, limit=200, **wanted)["items"]


def test_pages_hold_while_samples_arrive(admin, robot, told):
    told([{"n": n} for n in range(20)])
    path = f"/telemetry/{robot.device_id}"
    first = admin.got(path, limit=10)
    for number in range(20, 25):
        robot.sample("s", {"n": number}, timestamp=at(number), message_id=f"new-{number}")
    stored(admin, robot.device_id, 25)
    second = admin.got(path, limit=10, cursor=first["next_cursor"])
    assert [item["payload"]["n"] for item in first["items"] + second["items"]] == list(range(19, -1, -1))
    assert second["next_cursor"] is None


PAYLOADS = [
    {"nan": "NaN", "inf": "-Infinity"},
    {"big": "18446744073709551615", "edge": 2**53, "tiny": 5e-324, "large": 1e22},
    {"text": "ü🤖\n\"\\", "empty": "", "null": None, "bool": True},
    {"deep": {"a": [{"b": [1, [2, [3]]]}]}, "": {"": 0}},
    {},
]  # fmt: skip


@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_come_back_as_they_were_sent(admin, robot, payload):
    robot.sample("any", payload, message_id="1")
    assert stored(admin, robot.device_id, 1)[0]["payload"] == payload


def test_a_redelivery_is_one_row(admin, robot):
    """Same id, stream and time; or no id, and the same payload at the same device-given time."""
    for _ in range(3):
        robot.sample("a", {"n": 1}, message_id="one", timestamp=at(1))
        robot.sample("a", {"n": 2}, timestamp=at(2))
        robot.publish("telemetry", {"n": 3, "timestamp": at(3)})
    robot.sample("a", {"n": 4}, message_id="one", timestamp=at(4))
    robot.sample("b", {"n": 5}, message_id="one", timestamp=at(1))
    robot.sample("a", {"n": 6}, timestamp=at(2))
    robot.sample("a", {"n": 99}, message_id="last", timestamp=at(99))
    until(lambda: any(item["message_id"] == "last" for item in stored(admin, robot.device_id, 1)))
    found = sorted(item["payload"]["n"] for item in stored(admin, robot.device_id, 7))
    assert found == [1, 2, 3, 4, 5, 6, 99]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_devices_of_every_mqtt_version(server, admin, new_id, protocol):
    device_id = new_id()
    admin.device(device_id, type="mqtt_device")
    with server.mqtt(device_id, protocol=protocol) as robot:
        robot.publish("telemetry", {"temperature": 21.5, "timestamp": 1_767_225_600})
    (item,) = stored(admin, device_id, 1)
    assert (item["stream"], item["time"]) == ("default", at(0))
    assert item["payload"]["temperature"] == 21.5


def test_msgpack_is_stored_as_json(admin, robot):
    message = {"message_id": "p", "payload": {"raw": b"\0\xff", "nan": float("nan"), "big": 2**60, "n": 1}}
    robot.publish("telemetry/p", msgspec.msgpack.encode(message), content_type="application/msgpack")
    (item,) = stored(admin, robot.device_id, 1)
    assert item["payload"] == {"raw": "AP8=", "nan": "NaN", "big": str(2**60), "n": 1}


def test_numbers_that_no_double_holds_in_json_and_msgpack(admin, robot):
    robot.publish("telemetry/big", b'{"a":18446744073709551616,"b":1e400}')
    stored(admin, robot.device_id, 1)
    for path in (f"/telemetry/{robot.device_id}", f"/telemetry/{robot.device_id}/latest"):
        assert admin.got(path)["items"][0]["payload"] == {"a": 2**64, "b": 10**400}
        packed = msgspec.msgpack.decode(admin.get(path, headers={"Accept": "application/msgpack"}).content)
        assert packed["items"][0]["payload"]["a"] == str(2**64)


# ── newest values ──


def test_latest_is_the_newest_by_sample_time_per_stream(server, admin, robot, told):
    told([{"n": n} for n in range(5)], stream="a")
    told([{"n": n} for n in range(3)], stream="b/c")
    path = f"/telemetry/{robot.device_id}/latest"

    def newest():
        return [(item["stream"], item["payload"]["n"]) for item in admin.got(path)["items"]]

    assert until(lambda: newest() == [("a", 4), ("b/c", 2)])
    robot.sample("a", {"n": -1}, timestamp=at(-100), message_id="late")
    stored(admin, robot.device_id, 6, stream="a")
    assert newest() == [("a", 4), ("b/c", 2)], "an old sample that comes late is not the newest"
    with redis.Redis.from_url(server.endpoints.redis_url) as store:
        store.flushall()
        assert newest() == [("a", 4), ("b/c", 2)], "Redis can be rebuilt"
        robot.sample("a", {"n": 5}, timestamp=at(5), message_id="new")
        assert until(lambda: newest() == [("a", 5), ("b/c", 2)])
        store.script_flush()
        robot.sample("a", {"n": 6}, timestamp=at(6), message_id="newer")
        assert until(lambda: newest() == [("a", 6), ("b/c", 2)])


def test_latest_agrees_with_raw(admin, robot, told):
    told([{"n": 1, "x": [1.0, "NaN"]}])
    raw = stored(admin, robot.device_id, 1)
    until(lambda: admin.got(f"/telemetry/{robot.device_id}/latest")["items"])
    assert admin.got(f"/telemetry/{robot.device_id}/latest")["items"] == raw


def test_a_silent_device_has_no_latest(admin, device_id):
    assert admin.got(f"/telemetry/{device_id}/latest") == {"items": []}
    assert admin.got(f"/telemetry/{device_id}") == {"items": [], "next_cursor": None}


# ── series ──


def series(admin, device_id, field="v", **params):
    query = {"stream": "s", "field": field, "from": at(0), "to": at(10), "bucket": "10s"} | params
    answer = admin.got(f"/telemetry/{device_id}/series", **query)
    return answer["times"], [line["values"] for line in answer["series"]]


VALUES = [4.0, 1.0, 3.0, 2.0]


@pytest.mark.parametrize(
    ("fn", "expected"),
    [("avg", 2.5), ("min", 1), ("max", 4), ("sum", 10), ("count", 4), ("last", 2), ("p50", 2.5), ("p95", 3.85)],
)
def test_every_function(admin, robot, told, fn, expected):
    told([{"v": value} for value in VALUES])
    _, ((value,),) = series(admin, robot.device_id, fn=fn)
    assert value == pytest.approx(expected)


def test_the_answer_has_the_shape_of_the_contract(admin, robot, told):
    told([{"v": 1, "w": {"deep": [5, 6]}}, {"v": 2}], seconds=[0, 6])
    query = {"stream": "s", "field": ["v", "w.deep.1"], "from": at(0), "to": at(9), "bucket": "3s"}
    answer = admin.got(f"/telemetry/{robot.device_id}/series", **query)
    assert answer == {
        "times": [at(0), at(3), at(6)],
        "series": [
            {"stream": "s", "field": "v", "fn": "avg", "values": [1, None, 2]},
            {"stream": "s", "field": "w.deep.1", "fn": "avg", "values": [6, None, None]},
        ],
    }


def test_what_is_no_number_is_a_gap(admin, robot, told):
    told([{"v": v} for v in ("NaN", "12", True, None, [1], {"x": 1}, "Infinity")] + [{}, {"v": 7}])
    times, (values,) = series(admin, robot.device_id, bucket="1s")
    assert values == [None] * 8 + [7, None]
    assert len(times) == 10


@pytest.mark.parametrize("fn", ["avg", "min", "max", "sum", "count", "last", "p50", "p95"])
def test_huge_and_tiny_numbers_are_no_fault(admin, robot, fn):
    """jsonb holds what no double can; what does not fit is left out, whatever is asked."""
    numbers = ["1e400", "-1e400", "1.7e308", "1.7e308", "-1.7e308", "1e-400", "9" * 400, "1e160", "-1e160", "1"]
    for number, text in enumerate(numbers):
        robot.publish("telemetry/s", f'{{"timestamp":{1_767_225_600 + number},"v":{text}}}'.encode())
    stored(admin, robot.device_id, len(numbers))
    _, (values,) = series(admin, robot.device_id, fn=fn, bucket="1s")
    assert values[9] == 1
    assert values[0] is None
    _, ((whole,),) = series(admin, robot.device_id, fn=fn)
    assert whole is None or abs(whole) <= 1.7976931348623157e308


def test_short_buckets_take_the_right_samples(admin, robot, told):
    """0.3 / 0.1 is a little less than 3 in binary; the sample at 0.3 s is in the fourth bucket all the same."""
    told([{"v": n} for n in range(10)], seconds=[n / 10 for n in range(10)])
    times, (values,) = series(admin, robot.device_id, bucket="100ms", to=at(1))
    assert values == list(range(10))
    assert times == [at(n / 10) for n in range(10)]


def test_buckets_stand_still_while_time_moves_on(admin, robot, told):
    told([{"v": n} for n in range(10)])
    moved, _ = series(admin, robot.device_id, bucket="5s", **{"from": at(2)})
    assert moved == [at(0), at(5)]


@pytest.mark.parametrize("points", [1, 2, 7, 500, 10_000])
def test_points_bound_the_answer(admin, device_id, points):
    for hours in (0.01, 1, 24, 24 * 365):
        times, _ = series(admin, device_id, points=points, bucket=None, to=at(hours * 3600 + 1.234))
        assert 1 <= len(times) <= max(points, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket": "0s"}, {"bucket": "-1s"}, {"bucket": "soon"}, {"bucket": "1ms", "to": at(3600)}, {"fn": "median"},
        {"points": 0}, {"points": 10_001}, {"from": at(10), "to": at(1)}, {"field": ["a"] * 17}, {"stream": None},
        {"field": None}, {"bucket": "9" * 400},
    ],
)  # fmt: skip
def test_a_series_that_cannot_be_is_422(admin, device_id, wrong):
    query = {"stream": "s", "field": "v", "from": at(0), "to": at(10)} | wrong
    query = {name: value for name, value in query.items() if value is not None}
    assert_problem(admin.get(f"/telemetry/{device_id}/series", params=query), 422)


@pytest.mark.parametrize(
    "query",
    [
        {"from": "0001-01-01T00:00:00Z"},
        {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999Z"},
        {"to": "9999-12-31T23:59:59.999Z", "points": 1},
        {"from": "9999-12-31T23:59:00Z", "to": "9999-12-31T23:59:59.999Z", "bucket": "366d"},
        {"field": ""}, {"field": "."}, {"field": "a" * 5000}, {"field": "99999999999999999999"}, {"stream": ""},
        {"field": "-1"}, {"field": "{}"}, {"field": '"'}, {"stream": "é" * 2000},
    ],
)  # fmt: skip
def test_odd_questions_are_no_fault(admin, device_id, query):
    whole = {"stream": "s", "field": "v", "from": at(0), "to": at(10)} | query
    answer = admin.get(f"/telemetry/{device_id}/series", params=whole)
    assert answer.status_code in {200, 422}, answer.text


def test_without_a_time_the_series_is_the_last_hour(admin, robot):
    robot.sample("s", {"v": 5})
    stored(admin, robot.device_id, 1)
    answer = admin.got(f"/telemetry/{robot.device_id}/series", stream="s", field="v")
    assert [value for value in answer["series"][0]["values"] if value is not None] == [5]
    span = parse_time(answer["times"][-1]) - parse_time(answer["times"][0])
    assert timedelta(minutes=58) < span < timedelta(minutes=61)


# ── dead letters ──

BAD = {
    "not_json": ("telemetry/x", b"{"),
    "wrong_shape": ("telemetry/x", b"[1]"),
    "bad_envelope": ("telemetry/x", b'{"payload":{},"seq":"x"}'),
    "bad_timestamp": ("telemetry/x", b'{"payload":{},"timestamp":"soon"}'),
    "too_deep": ("telemetry/x", b'{"a":' * 40 + b"1" + b"}" * 40),
    "too_large": ("telemetry/x", b'{"a":"' + b"x" * 300_000 + b'"}'),
    "device_mismatch": ("telemetry/x", b'{"device_id":"other","payload":{}}'),
    "bad_topic": ("weather", b"{}"),
    "not_storable": ("telemetry/x", b'{"a":"\\u0000"}'),
}


def letters(admin, **params):
    return admin.got("/dead-letters", **params)["items"]


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_message_is_kept_by_reason_and_stops_nothing(server, admin, robot, reason):
    row, payload = BAD[reason]
    # The embedded broker keeps devices to the contract's rows; another broker may not.
    publish_as_server(server, f"rosfit/{robot.device_id}/{row}", payload)
    robot.sample("good", {"n": 1})
    stored(admin, robot.device_id, 1)
    (letter,) = until(lambda: [found for found in letters(admin, reason=reason) if robot.device_id in found["topic"]])
    assert letter["reason"] == reason in REASONS
    assert letter["topic"] == f"rosfit/{robot.device_id}/{row}"
    assert letter["size"] == len(payload)
    assert letter["payload"] == payload.decode()[:65_536]
    assert letter["detail"]
    assert letter["replayed_at"] is None
    assert_problem(admin.post(f"/dead-letters/{letter['id']}/replay"), 422, "STILL_BAD")


def test_bytes_that_are_no_text_are_base64(admin, robot):
    robot.publish("telemetry/x", b"\xff\x00")
    (letter,) = until(lambda: letters(admin, device_id=robot.device_id))
    assert (letter["payload"], letter["payload_base64"]) == (None, "/wA=")


def test_a_message_of_an_unknown_device_is_replayed_after_its_registration(server, admin, new_id):
    """The message is taken as it came, at its own time, and once; and it is no sign of life."""
    device_id = new_id()
    publish_as_server(server, f"rosfit/{device_id}/telemetry/odom", {"timestamp": at(1), "payload": {"x": 1}})
    (letter,) = until(lambda: letters(admin, device_id=device_id))
    assert letter["reason"] == "unknown_device"
    path = f"/dead-letters/{letter['id']}/replay"
    assert_problem(admin.post(path), 422, "STILL_BAD")
    admin.device(device_id)
    assert admin.post(path).status_code == 200
    (item,) = admin.got(f"/telemetry/{device_id}")["items"]
    assert (item["time"], item["payload"]) == (at(1), {"x": 1})
    assert_problem(admin.post(path), 409, "ALREADY_REPLAYED")
    assert letters(admin, device_id=device_id)[0]["replayed_at"]
    assert admin.got(f"/devices/{device_id}")["status"] == "provisioning", "an old message is no sign of life"


def test_a_frame_of_an_unknown_device_is_replayed_into_the_database(server, admin, new_id):
    device_id = new_id()
    publish_as_server(server, f"rosfit/{device_id}/blob/image", b"\xff\xd8frame")
    (letter,) = until(lambda: letters(admin, device_id=device_id))
    admin.device(device_id)
    assert admin.post(f"/dead-letters/{letter['id']}/replay").status_code == 200
    with redis.Redis.from_url(server.endpoints.redis_url) as store:
        store.flushall()
    assert admin.get(f"/devices/{device_id}/blobs/image/latest").content == b"\xff\xd8frame"


def publish_as_server(server, topic, payload):
    """As the broker's administrator: devices themselves may only use their own topics."""
    from rosfit.infra.mqtt import make_client

    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()

    async def publish():
        async with make_client(server.endpoints.mqtt_url, f"test-{secrets.token_hex(4)}") as client:
            await client.publish(topic, data, qos=1)

    asyncio.run(publish())


@pytest.mark.parametrize("letter_id", ["0", "-1", "999999999999", "9" * 40, "x", "1e3", "%F0%9F%A4%96", "٣"])
def test_an_unknown_dead_letter_is_404(admin, letter_id):
    assert_problem(admin.post(f"/dead-letters/{letter_id}/replay"), 404, "DEAD_LETTER_NOT_FOUND")


def test_dead_letters_page_and_filter(admin, robot):
    for number in range(7):
        robot.publish("telemetry/x", b"%d" % number)
    until(lambda: len(letters(admin, device_id=robot.device_id)) == 7)
    found, pages = everything(admin, "/dead-letters", device_id=robot.device_id, limit=3)
    assert [letter["payload"] for letter in found] == [str(number) for number in range(6, -1, -1)]
    assert pages == 3
    assert letters(admin, device_id=robot.device_id, reason="too_large") == []


def test_nothing_of_a_test_run_was_retried(server):
    """Retries of whole batches hide faults of ours."""
    assert "ingest_write_failed" not in server.log_text()
    with psycopg.connect(server.endpoints.database_url) as database:
        assert database.execute("SELECT count(*) FROM telemetry").fetchone()[0] > 0
