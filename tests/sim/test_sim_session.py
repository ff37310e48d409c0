"""Sessions: repeatable, in order, of the shapes that the ROS messages have, and as faulty as asked."""

import io
import itertools
import json
import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rosfit.fleet.vitals import battery_percent, pose_of
from rosfit.kernel.errors import InvalidError
from rosfit.protocol import envelope, topics
from rosfit.protocol.errors import BadMessageError
from rosfit.sim import payloads
from rosfit.sim.events import Event, Link, Publish
from rosfit.sim.faults import _BROKEN
from rosfit.sim.model import Robot
from rosfit.sim.recording import Recorder, read_events, read_header
from rosfit.sim.session import Scene, fleet_events

START = 1_774_865_132.0


def until(scene: Scene, seconds: float) -> list[Event]:
    return list(itertools.takewhile(lambda event: event.at <= seconds, fleet_events(scene)))


@given(seed=st.integers(0, 2**32), faults=st.booleans())
@settings(max_examples=8, deadline=None)
def test_same_scene_same_events_in_order(seed, faults):
    scene = Scene(3, 5.0, seed, faults, START)
    events = until(scene, 30.0)
    assert events == until(scene, 30.0)
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert events != until(msgspec.structs.replace(scene, seed=seed + 1), 30.0)


def test_a_robot_is_the_same_in_a_larger_fleet():
    """Robots do not depend on each other, so a test may name one of them."""

    def odometry(robots: int) -> list[Event]:
        events = until(Scene(robots, 5.0, 1, False, START), 10.0)
        return [
            event for event in events if event.device_id == "sim-002" and getattr(event, "row", "") == "telemetry/odom"
        ]

    assert odometry(2) == odometry(9) != []


def test_rates_and_rows():
    """Odometry at the rate, everything else slower; sequence numbers without a gap; ids of their own."""
    events = [event for event in until(Scene(2, 10.0, 1, False, START), 60.0) if isinstance(event, Publish)]
    rows = {row: list(found) for row, found in itertools.groupby(sorted(events, key=lambda e: e.row), lambda e: e.row)}
    assert set(rows) == {
        "telemetry/odom", "telemetry/status", "telemetry/battery", "telemetry/diagnostics", "telemetry/scan",
        "telemetry/joint_states", "blob/camera", "log",
    }  # fmt: skip
    assert 1180 < len(rows["telemetry/odom"]) <= 1200
    assert all(len(found) < 300 for row, found in rows.items() if row != "telemetry/odom")
    assert len(rows["blob/camera"]) <= 2 * 60 * 2
    seqs = [event.seq for event in rows["telemetry/odom"] if event.device_id == "sim-001"]
    assert seqs == list(range(len(seqs)))
    ids = [(event.device_id, event.row, event.message_id) for event in events if event.payload is not None]
    assert len(set(ids)) == len(ids)


def test_another_start_gives_other_message_ids():
    """Two runs of one scene are different messages, not redeliveries."""
    one, other = (
        next(e for e in fleet_events(Scene(1, 5.0, 1, False, at)) if isinstance(e, Publish)) for at in (1.0, 2.0)
    )
    assert one.message_id != other.message_id


def test_every_payload_is_taken_and_understood():
    """All rows pass the protocol; battery and pose are found in those that have them."""
    for event in until(Scene(2, 5.0, 4, False, START), 20.0):
        if not isinstance(event, Publish) or event.payload is None:
            continue
        route = topics.parse_topic(topics.device_topic(event.device_id, event.row))
        data = envelope.encode(event.payload, type="telemetry", device_id=event.device_id)
        payload = json.loads(envelope.decode(data, None, envelope.Limits()).payload)
        if route.name in {"status", "battery"}:
            assert 30 < battery_percent(route.name, payload) <= 100
        if route.name in {"status", "odom"}:
            assert set(pose_of(payload)) == {"x", "y", "theta"}


def test_payloads_have_the_fields_of_their_ros_messages():
    """Compared with the message classes themselves; joint temperatures are the one addition."""
    diagnostic = pytest.importorskip("diagnostic_msgs.msg")
    nav, sensor = pytest.importorskip("nav_msgs.msg"), pytest.importorskip("sensor_msgs.msg")
    robot = Robot.spawn("sim-001", 1)

    def fields(message_class: type) -> set[str]:
        return set(message_class.get_fields_and_field_types())

    assert set(payloads.odometry(robot, START)) == fields(nav.Odometry)
    assert set(payloads.battery(robot, START)) == fields(sensor.BatteryState)
    assert set(payloads.scan(robot, START)) == fields(sensor.LaserScan)
    assert set(payloads.diagnostics(robot, START)) == fields(diagnostic.DiagnosticArray)
    assert set(payloads.diagnostics(robot, START)["status"][0]) == fields(diagnostic.DiagnosticStatus)
    assert set(payloads.joint_states(robot, START, temperatures=False)) == fields(sensor.JointState)


def test_scan_names_what_json_cannot():
    robot = Robot.spawn("sim-001", 1)
    robot.x, robot.y = 12.0, 8.0
    ranges = payloads.scan(robot, START)["ranges"]
    assert len(ranges) == payloads.BEAMS
    assert "Infinity" in ranges
    assert all(payloads.RANGE_MIN <= value <= payloads.RANGE_MAX for value in ranges if value != "Infinity")
    assert set(payloads.scan(robot, START, broken=True)["ranges"]) == {"NaN"}


def test_camera_frames_are_small_jpegs_that_change():
    frames = [
        e for e in until(Scene(1, 5.0, 1, False, START), 10.0) if isinstance(e, Publish) and e.row == "blob/camera"
    ]
    assert len(frames) >= 4
    assert len({frame.data for frame in frames}) == len(frames)
    for frame in frames:
        assert frame.content_type == "image/jpeg"
        assert 6_000 < len(frame.data) < 16_000
        assert Image.open(io.BytesIO(frame.data)).size == (320, 240)


def test_stamps_are_times_of_the_session():
    for event in until(Scene(1, 5.0, 1, False, START), 5.0):
        if isinstance(event, Publish) and event.row == "telemetry/odom":
            stamp = event.payload["header"]["stamp"]
            assert math.isclose(stamp["sec"] + stamp["nanosec"] * 1e-9, START + event.at, abs_tol=2e-6)


@pytest.mark.full
def test_faults_bring_every_kind_and_calm_brings_none():
    calm = until(Scene(10, 2.0, 1, False, START), 300.0)
    assert not [event for event in calm if isinstance(event, Link) and event.action == "drop"]
    assert not [event for event in calm if isinstance(event, Publish) and event.row.startswith("alert/")]
    wild = until(Scene(10, 2.0, 1, True, START), 300.0)
    sent = [event for event in wild if isinstance(event, Publish)]
    rows = {event.row for event in sent}
    assert {"alert/battery_low", "alert/sensor_fault", "alert/collision"} <= rows
    assert any(event.at - event.sampled_at > 10 for event in sent if event.payload is not None)
    assert any(event.payload is None and event.row != "blob/camera" for event in sent)
    assert any(one == other for one, other in itertools.pairwise(sent))
    assert any(event.payload["ranges"][0] == "NaN" for event in sent if event.row == "telemetry/scan" and event.payload)
    drops = [event.action for event in wild if isinstance(event, Link) and event.device_id == "sim-001"]
    assert drops[0] == "up"
    silent = max(_gaps(sent, "sim-003"))
    assert silent > 5


def _gaps(sent: list[Publish], device_id: str) -> list[float]:
    times = [event.at for event in sent if event.device_id == device_id]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


@pytest.mark.parametrize("data", _BROKEN)
def test_every_malformed_message_is_bad(data):
    """What `--faults` sends as malformed really becomes a dead letter."""
    try:
        message = envelope.decode(data, None, envelope.Limits())
    except BadMessageError:
        return
    assert message.device_id == "somebody-else"


def test_recording_reads_back(tmp_path):
    events = until(Scene(2, 5.0, 1, True, START), 20.0)
    path = tmp_path / "session.jsonl"
    with Recorder(path, START, ["sim-001", "sim-002"]) as recorder:
        for event in events:
            recorder.record(event)
    assert read_header(path).device_ids == ["sim-001", "sim-002"]
    assert list(read_events(path)) == events


@pytest.mark.parametrize("text", ["", "{}", "hello\n", '{"rosfit_session":99,"started_at":1,"device_ids":[]}\n'])
def test_other_files_are_refused_by_name(tmp_path, text):
    path = tmp_path / "other.txt"
    path.write_text(text)
    with pytest.raises(InvalidError, match=r"other\.txt"):
        read_header(path)


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "session.jsonl"
    with Recorder(path, START, ["sim-001"]) as recorder:
        recorder.record(Link(0.0, "sim-001", "up"))
    path.write_text(path.read_text() + '{"type":"publish"\n')
    with pytest.raises(InvalidError, match="line 3"):
        list(read_events(path))
