"""Topics, envelopes, times, cursors: what was built is read back, and nothing but the named errors comes of garbage."""

import json
import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rosfit.api.ws.channels import InvalidChannelError, parse_channel
from rosfit.fleet import presence
from rosfit.fleet.vitals import battery_percent, pose_of
from rosfit.kernel.clock import EPOCH, format_time, parse_time
from rosfit.kernel.paging import CursorError, decode_cursor, encode_cursor
from rosfit.protocol import envelope, topics
from rosfit.protocol.errors import BadMessageError
from rosfit.protocol.layouts import Layouts
from rosfit.protocol.numbers import msgpack_from_json, read_json, written_out
from rosfit.telemetry.errors import SeriesRequestError
from rosfit.telemetry.series import align, bucket_for, bucket_starts, parse_bucket

LIMITS = envelope.Limits()
text = st.text(st.characters(codec="utf-8"), max_size=20)
ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)
segments = st.text(st.characters(categories=["L", "N"], codec="utf-8"), min_size=1, max_size=20)
streams = st.lists(segments, min_size=1, max_size=7).map("/".join)
times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
payloads = st.dictionaries(text, values, max_size=5)


@given(ids, streams)
def test_a_sample_topic_is_read_back(device_id, stream):
    route = topics.parse_topic(topics.sample_topic(device_id, stream))
    assert route == topics.Route(device_id, topics.Kind.SAMPLE, stream)


@given(st.text(max_size=80) | st.builds("rosfit/{}/{}".format, ids, st.text(max_size=60)))
def test_any_topic_has_a_route_or_is_a_bad_one(topic):
    with suppress(BadMessageError):
        route = topics.parse_topic(topic)
        assert topic.startswith(f"rosfit/{route.device_id}/")


@given(payloads, ids, times, st.integers(0, 2**62), segments)
def test_an_envelope_is_read_back(payload, device_id, moment, seq, message_id):
    built = envelope.encode(
        payload, type="telemetry", device_id=device_id, seq=seq, timestamp=moment, message_id=message_id
    )
    message = envelope.decode(built, None, LIMITS)
    assert json.loads(message.payload) == payload
    assert (message.device_id, message.seq, message.message_id) == (device_id, seq, message_id)
    assert message.sampled_at == moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@given(payloads)
def test_msgpack_says_the_same_as_json(payload):
    packed = msgspec.msgpack.encode({"payload": payload, "message_id": "m"})
    assert json.loads(envelope.decode(packed, "application/msgpack", LIMITS).payload) == payload


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True))
@example("9" * 5_000)
def test_any_number_is_read_and_packed(number):
    text = b'{"x":[%b]}' % number.encode()
    read_json(text)
    (packed,) = msgspec.msgpack.decode(msgpack_from_json(text))["x"]
    assert packed == number or float(packed) == float(number)


@pytest.mark.parametrize("number", [b"1e100000", b"-2.5E-0100000", b"1e999999999999999999999"])
def test_numbers_that_fill_the_memory_of_their_readers_are_too_large(number):
    many = b'{"x":[%b]}' % b",".join([number] * 11)
    with pytest.raises(BadMessageError) as bad:
        envelope.decode(many, None, LIMITS)
    assert bad.value.reason == "too_large"
    assert written_out(b'{"x":["1e100000","\\"e999"],"e123":1e99}') < 50


@given(st.binary(max_size=200), st.sampled_from([None, "application/json", "application/msgpack", "x/y"]))
def test_bytes_are_a_message_or_a_bad_one(data, content_type):
    with suppress(BadMessageError):
        message = envelope.decode(data, content_type, LIMITS)
        assert isinstance(json.loads(message.payload), dict)


@given(values, st.sampled_from(["timestamp", "seq", "message_id", "device_id", "payload", "type", "correlation_id"]))
def test_any_value_in_any_field_is_taken_or_named(value, field):
    with suppress(BadMessageError):
        envelope.decode(json.dumps({"payload": {}} | {field: value}).encode(), None, LIMITS)


@given(times)
def test_times_are_read_back_to_the_millisecond(moment):
    written = format_time(moment)
    assert len(written) == 24
    assert abs(parse_time(written) - moment) < timedelta(milliseconds=1)
    assert parse_time(written.lower()) == parse_time(written)


@given(st.text() | st.floats() | st.none() | st.booleans() | st.lists(st.integers()))
def test_what_is_no_time_is_a_value_error(value):
    with suppress(ValueError):
        assert parse_time(value) >= EPOCH or parse_time(value) < EPOCH


@given(times, text, text)
def test_a_cursor_is_read_back(moment, stream, message_id):
    key = (moment, stream, message_id)
    assert decode_cursor(encode_cursor(*key), tuple[datetime, str, str]) == key


@given(st.text(max_size=60))
def test_any_other_cursor_is_refused(cursor):
    with suppress(CursorError):
        assert decode_cursor(cursor, tuple[datetime, str, str]) is None


starts = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(starts, st.timedeltas(timedelta(milliseconds=1), timedelta(days=4000)), st.integers(1, 10_000))
def test_points_bound_the_buckets_which_cover_the_time(start, span, points):
    width = bucket_for(start, start + span, points)
    buckets = bucket_starts(align(start, width), start + span, width)
    assert len(buckets) <= max(points, 2)
    assert buckets[0] <= start
    assert buckets[-1] < start + span <= buckets[-1] + timedelta(microseconds=width)
    assert all((bucket - EPOCH) // timedelta(microseconds=1) % width == 0 for bucket in buckets[:3])


@given(st.text(max_size=20))
def test_any_bucket_is_a_width_or_refused(width):
    with suppress(SeriesRequestError):
        assert 1000 <= parse_bucket(width) <= 366 * 86_400 * 10**6


@given(st.text(max_size=80) | st.builds("{}:{}".format, st.sampled_from(["telemetry", "status", "logs"]), st.text()))
def test_any_channel_is_read_or_refused(channel):
    with suppress(InvalidChannelError):
        assert parse_channel(channel).text == channel


TABLE = {
    "provisioning": "online decommissioned",
    "online": "offline error maintenance decommissioned",
    "offline": "online maintenance decommissioned",
    "error": "online offline maintenance decommissioned",
    "maintenance": "online offline decommissioned",
    "decommissioned": "",
}


@pytest.mark.parametrize("status", TABLE)
def test_presence_moves_only_along_the_contracts_table(status):
    assert set(TABLE[status].split()) == presence.MAY_BECOME[status]
    reached = [presence.after_heartbeat(status), presence.after_silence(status)]
    reached += [presence.after_report(status, told, "why") for told in ("online", "offline", "error")]
    assert all(after is None or after.status in TABLE[status].split() for after in reached)


@given(payloads, st.sampled_from(["status", "battery", "battery_state", "default", "odom"]))
def test_vitals_of_anything_are_numbers_or_none(payload, stream):
    percent = battery_percent(stream, payload)
    assert percent is None or 0 <= percent <= 100
    pose = pose_of(payload)
    assert pose is None or all(math.isfinite(value) for value in pose.values())


LAYOUTS = Layouts(
    [
        {
            "name": "fleet",
            "up": {"fleet/{fleet}/robot/{device_id}/telemetry/{stream...}": "telemetry/{stream...}"},
            "down": {"cmd/{name}": "fleet/{fleet}/robot/{device_id}/command/{name}"},
        }
    ]
)


@given(segments, ids, streams)
def test_a_layout_maps_in_and_finds_the_way_back(fleet, device_id, stream):
    mapped = LAYOUTS.inbound(f"fleet/{fleet}/robot/{device_id}/telemetry/{stream}")
    assert mapped.topic == f"rosfit/{device_id}/telemetry/{stream}"
    remembered = {"layout": mapped.layout, **mapped.variables}
    out = LAYOUTS.outbound(device_id, "cmd/stop", remembered)
    assert out == f"fleet/{fleet}/robot/{device_id}/command/stop"
