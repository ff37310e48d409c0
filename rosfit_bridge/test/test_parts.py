"""The small parts: throttle, envelope, pictures, topics, backoff, heartbeat, the ears of a tap."""

import io
import json
import math
import random
import struct
import uuid

import numpy as np
import pytest
from bridge_rig import wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture
from rclpy.context import Context
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from rosfit_bridge import config, topics
from rosfit_bridge.backoff import Backoff
from rosfit_bridge.convert import blobs
from rosfit_bridge.counters import Counters
from rosfit_bridge.envelope import Clock, MessageIds, Outgoing, Stream, dumps, sample_time, stamp_of
from rosfit_bridge.heartbeat import Heartbeat
from rosfit_bridge.holdback import LARGE_DEPTH, SMALL_DEPTH, Holdback
from rosfit_bridge.node.feed import new_feed
from rosfit_bridge.node.qos import UNKNOWN
from rosfit_bridge.node.shadow_node import Shadow
from rosfit_bridge.node.tap import Tap, _Ear
from rosfit_bridge.throttle import Throttle, TokenBucket
from rosfit_bridge.uplink import Uplink
from rosfit_bridge.vitals import Vitals

NOW = 1_790_000_000_123_456_789


@pytest.mark.parametrize(
    ("source", "limit", "expected"), [(50, 10, 10), (4000, 10, 10), (10, 10, 10), (7, 10, 7), (30, 20, 20)]
)
def test_a_throttle_gives_its_rate(source, limit, expected):
    """Also when the source's rate is no multiple, and when it is the same with jitter."""
    throttle, rng = Throttle(limit), random.Random(1)
    times = [n / source + rng.uniform(0, 0.05 / source) for n in range(source * 20)]
    passed = sum(throttle.ready(t) for t in times)
    assert passed / 20 == pytest.approx(expected, rel=0.06)


@given(st.lists(st.floats(0, 10), max_size=200), st.floats(0.5, 50))
@settings(max_examples=300)
def test_a_throttle_never_gives_more(gaps, hz):
    """However irregular the source is: n messages need n - 1 periods, and at most one slot of lateness is made up."""
    throttle, now, passed = Throttle(hz), 0.0, []
    for gap in gaps:
        now += gap
        if throttle.ready(now):
            passed.append(now)
    # One per slot; a late one may be a whole slot late, an early one a tenth early.
    for start in range(len(passed)):
        for end in range(start + 1, min(len(passed), start + 12)):
            assert passed[end] - passed[start] >= (end - start - 1.1) / hz - 1e-6


def test_no_throttle_passes_everything():
    assert all(Throttle(None).ready(t) for t in (0.0, 0.0, 0.0))


def test_a_token_bucket_counts_what_it_holds_back():
    bucket = TokenBucket(10, 5)
    assert [bucket.take(0.0) for _ in range(8)] == [True] * 5 + [False] * 3
    assert (bucket.suppressed(), bucket.suppressed()) == (3, 0)
    assert bucket.take(0.11)


def test_message_ids_are_uuid7_and_rise():
    ids = MessageIds()
    made = [ids.new(NOW + n // 10_000 * 1_000_000) for n in range(20_000)]
    assert len(set(made)) == len(made)
    assert made == sorted(made)
    parsed = uuid.UUID(made[0])
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == NOW // 1_000_000


def test_two_processes_make_different_ids():
    assert MessageIds().new(NOW) != MessageIds().new(NOW)


def test_times_are_rfc_3339_with_milliseconds():
    clock = Clock()
    assert clock.text(1_774_865_132_123_999_999) == "2026-03-30T10:05:32.123Z"
    assert clock.text(1_774_865_132_000_000_000) == "2026-03-30T10:05:32.000Z"


@pytest.mark.parametrize(
    ("age_s", "taken"),
    [(0, True), (3600, True), (-59, True), (-61, False), (25 * 3600, False), (50 * 365 * 86400, False)],
)
def test_a_stamp_is_taken_if_it_is_of_about_now(age_s, taken):
    stamp = NOW - age_s * 10**9
    assert sample_time(stamp, NOW) == (stamp if taken else NOW)


def test_stamps_are_found():
    assert stamp_of({"header": {"stamp": {"sec": 3, "nanosec": 5}}}) == 3_000_000_005
    assert stamp_of({"stamp": {"sec": 3, "nanosec": 5}}) == 3_000_000_005
    assert stamp_of({"stamp": 3.5}) is None
    assert stamp_of({"data": 1}) is None


def test_streams_number_themselves():
    odom, scan = Stream("bot-01", "telemetry/odom", 1), Stream("bot-01", "ros/scan", 0)
    first, second, other = (s.sample({"x": "ä"}, NOW) for s in (odom, odom, scan))
    assert [json.loads(m.payload)["seq"] for m in (first, second, other)] == [1, 2, 1]
    assert (other.topic, json.loads(other.payload)["type"]) == ("rosfit/bot-01/ros/scan", "telemetry")
    assert json.loads(first.payload)["payload"] == {"x": "ä"}


def test_a_nan_that_slipped_through_is_an_error():
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"x": math.nan})


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "16UC1", "8UC3"])
@pytest.mark.parametrize("padding", [0, 5])
def test_a_raw_image_becomes_the_same_png(encoding, padding):
    """Pillow reads back each pixel, row padding left out."""
    channels, _, bits = blobs._PNG_ENCODINGS[encoding]
    rng = np.random.default_rng(3)
    shape = (7, 5, channels)
    pixels = rng.integers(0, 2**bits, shape, dtype=np.uint16 if bits == 16 else np.uint8)
    rows = pixels.reshape(7, -1).view(np.uint8)
    data = np.pad(rows, ((0, 0), (0, padding))).tobytes()
    message = Image(height=7, width=5, encoding=encoding, step=rows.shape[1] + padding, data=data)
    message.header.stamp.sec = 9
    blob = blobs.image(serialize_message(message))
    assert (blob.content_type, blob.stamp_ns) == ("image/png", 9 * 10**9)
    read = np.array(Picture.open(io.BytesIO(blob.data)))
    if encoding.startswith(("bgr", "8UC3")):
        read = read[:, :, [2, 1, 0, *range(3, channels)]]
    assert np.array_equal(read.reshape(shape), pixels)


def test_an_image_png_cannot_hold_goes_as_it_is():
    message = Image(height=1, width=2, encoding="32FC1", step=8, data=struct.pack("<2f", 1.5, 2.5))
    blob = blobs.image(serialize_message(message))
    parameters = "encoding=32FC1; width=2; height=1; step=8; is_bigendian=0"
    assert blob.content_type == f"application/x-ros-image; {parameters}"
    assert blob.data == bytes(message.data)


@pytest.mark.parametrize(("step", "size"), [(3, 12), (6, 11)])
def test_an_image_with_too_few_bytes_is_named(step, size):
    message = Image(height=2, width=2, encoding="rgb8", step=step, data=bytes(size))
    with pytest.raises(
        ValueError, match=f"2 x 2 rgb8 needs rows of 6 bytes, the message has rows of {step} bytes and {size} in all"
    ):
        blobs.image(serialize_message(message))


@pytest.mark.parametrize(
    ("form", "data", "content_type"),
    [
        ("rgb8; jpeg compressed bgr8", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("png", b"\x89PNG\r\n\x1a\n", "image/png"),
        ("webp", b"RIFF\0\0\0\0WEBP", "image/webp"),
        ("h264", b"\0\0\0\1", "application/x-ros-compressed-image; format=h264"),
        ("a; b", b"", 'application/x-ros-compressed-image; format="a; b"'),
    ],
)
def test_compressed_images_say_what_they_are(form, data, content_type):
    message = CompressedImage(format=form, data=data)
    message.header.frame_id = "camera"
    assert blobs.compressed_image(serialize_message(message)) == (data, content_type, 0)


def test_an_image_that_ends_early_is_an_error():
    raw = serialize_message(CompressedImage(format="jpeg", data=bytes(100)))
    with pytest.raises(ValueError, match="the message ends before"):
        blobs.compressed_image(raw[:60])


@pytest.mark.parametrize(
    "suffix", ["telemetry", "telemetry/a/b/c/d/e/f/g/h", "ros/scan", "blob/image", "alert/collision"]
)
def test_suffixes_the_bridge_may_publish_on(suffix):
    assert topics.problem_of_up_suffix(suffix) is None


@pytest.mark.parametrize(
    "suffix",
    [
        "status",
        "log",
        "cmd/x",
        "shadow/reported",
        "ota/result",
        "blob",
        "blob/a/b",
        "ros",
        "/odom",
        "telemetry/",
        "x/#",
        "",
    ],
)
def test_suffixes_it_may_not(suffix):
    assert topics.problem_of_up_suffix(suffix)


@pytest.mark.parametrize(
    ("suffix", "good"),
    [("cmd/cmd_vel", True), ("ros/inject/a/b", True), ("cmd/request", False), ("ros/a/b", False), ("cmd", False)],
)
def test_suffixes_into_the_robot(suffix, good):
    assert (topics.problem_of_down_suffix(suffix) is None) == good


def test_backoff_doubles_with_jitter_and_starts_over_after_a_stable_connection():
    backoff = Backoff(1.0, 8.0, random.Random(1))
    waits = [backoff.failed() for _ in range(6)]
    assert all(ceiling / 2 <= wait <= ceiling for wait, ceiling in zip(waits, [1, 2, 4, 8, 8, 8], strict=True))
    backoff.was_connected(0.5)  # thrown out at once: another bridge with this id
    assert backoff.failed() >= 4
    backoff.was_connected(60)
    assert backoff.failed() <= 1


def test_the_heartbeat_learns_from_what_passes():
    beat = Heartbeat(Vitals(), Counters(received=3))
    assert "battery" not in beat.payload()
    beat.saw_battery({"percentage": 0.5})
    beat.saw_battery({"percentage": "NaN"})
    turn = {"x": 0.0, "y": 0.0, "z": math.sqrt(0.5), "w": math.sqrt(0.5)}
    pose = {"pose": {"position": {"x": 1.0, "y": 2.0, "z": 0.0}, "orientation": turn}}
    beat.saw_odometry({"header": {"frame_id": "odom"}, "pose": pose})
    payload = beat.payload()
    assert payload["battery"] == 50.0
    assert payload["position"] == {"x": 1.0, "y": 2.0, "z": 0.0, "theta": 1.5708, "frame": "odom"}
    assert payload["bridge"]["received"] == 3
    assert 0 <= payload["cpu"] <= 100 * 1024
    assert payload["uptime"] > 0


@pytest.mark.parametrize(("w", "z"), [(1e200, 1e200), (0.0, 1e308), (1.0, math.inf)])
def test_a_pose_that_is_none_leaves_the_heartbeat_alone(w, z):
    """Its yaw would be no number, which JSON does not have."""
    beat = Heartbeat(Vitals(), Counters())
    pose = {"position": {"x": 0.0, "y": 0.0, "z": 0.0}, "orientation": {"x": 0.0, "y": z, "z": z, "w": w}}
    beat.saw_odometry({"header": {"frame_id": "odom"}, "pose": {"pose": pose}})
    assert "position" not in json.loads(dumps(beat.payload()))


def test_a_publisher_of_another_type_is_told_of_once(ros, caplog):
    """Nothing comes then, and DDS does not say why."""
    publisher = ros.create_publisher(Image, "/strange", 10)
    context = Context()
    context.init()
    node = Node("listener", context=context)
    tap = Tap(node, CompressedImage, "/strange", print, depth=1)
    wait_until(lambda: node.count_publishers("/strange"))
    tap.look()
    tap.look()
    others, ours = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
    message = f"/strange: somebody publishes {others}, which is not heard: it is {ours} here"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [message]
    assert tap.wanted == UNKNOWN
    node.destroy_node()
    context.try_shutdown()
    ros.destroy_publisher(publisher)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=300))
@settings(max_examples=50)
def test_held_back_samples_are_the_newest_in_order(sent):
    holdback, kept = Holdback(), {}
    dropped = 0
    for n, (stream, large) in enumerate(sent):
        size = 100_000 if large else 10
        dropped += holdback.put(Outgoing(f"s{stream}{large}", n.to_bytes(size, "big")))
        kept.setdefault((stream, large), []).append(n)
    out = []
    while (message := holdback.pop()) is not None:
        out.append(int.from_bytes(message.payload, "big"))
    newest = [n for (_, large), ns in kept.items() for n in ns[-(LARGE_DEPTH if large else SMALL_DEPTH) :]]
    assert out == sorted(newest)
    assert dropped == len(sent) - len(out)


def test_what_can_never_fit_is_not_decoded(tmp_path):
    """The bytes are no map at all, which nobody notices."""
    entry = "{ros_topic: /map, mqtt_suffix: telemetry/map, msg_type: nav_msgs/OccupancyGrid}"
    text = f"rosfit: {{device_id: bot}}\nconnection: {{host: x}}\nbridge: {{spool: {{path: s}}, publish: [{entry}]}}\n"
    settings = config.parse(text, file="bridge.yaml", folder=tmp_path, env={})
    uplink = Uplink(settings)
    feed = new_feed(settings.bridge.publish[0], "bot", uplink, None, None)
    feed(b"\xff" * (4 * 256 * 1024 + 4))
    assert (uplink.counters.too_large, uplink.counters.failed) == (1, 0)
    feed(b"\xff" * 1000)
    assert (uplink.counters.too_large, uplink.counters.failed) == (1, 1)
    uplink.close()


def test_a_message_that_is_too_much_for_its_reader_does_not_end_the_node(caplog):
    """Nested too deep, say; it is told once, and the next message is heard."""
    heard = []
    ear = _Ear(lambda text: heard.append(json.loads(text)), "/state")
    for text in ("[" * 100_000, "[" * 100_000, "1"):
        ear(text)
    assert heard == [1]
    assert caplog.text.count("RecursionError") == caplog.text.count("/state: a message could not be handled") == 1


@pytest.mark.parametrize("payload", [b"[1]", b'{"payload": [1]}', b'{"payload": "x"}', b"\xff"])
def test_what_is_no_shadow_message_is_told(payload, caplog):
    Shadow._in_lane(None, None)("rosfit/bot/shadow/delta", payload, None)
    assert "rosfit/bot/shadow/delta was not understood" in caplog.text


@given(st.lists(st.integers(0, 4), max_size=30), st.data())
@settings(max_examples=200)
def test_two_ears_let_each_message_pass_once(published, data):
    """Each hears a part of the stream in order: whatever either heard passes, as often as it was published."""
    passed = []
    ears = [_Ear(passed.append, "/a"), _Ear(passed.append, "/a")]
    ears[0].meet([ears[1]])
    ears[1].meet([ears[0]])
    missed = [data.draw(st.integers(0, len(published))) for _ in ears]
    left = [[bytes([n]) for n in published[m:]] for m in missed]
    while any(left):
        ear = data.draw(st.sampled_from([i for i, rest in enumerate(left) if rest]))
        ears[ear](left[ear].pop(0))
    assert sorted(passed) == sorted(bytes([n]) for n in published[min(missed) :])
