"""The bridge process between a live ROS graph and a real broker."""

import json
import re
import threading
import time
import uuid
from contextlib import contextmanager

import pytest
from bridge_rig import wait_until
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import BatteryState, CompressedImage, Image, PointCloud2
from std_msgs.msg import Int64, String

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 200
RELIABLE = QoSProfile(depth=2000, reliability=ReliabilityPolicy.RELIABLE)


def config(port, publish, spool, extra=""):
    lines = "\n".join(f"    - {{{entry}}}" for entry in publish)
    return f"""
rosfit: {{device_id: bot-01}}
connection:
  host: 127.0.0.1
  port: {port}
  reconnect: {{min_s: 0.1, max_s: 0.5}}
bridge:
  heartbeat: {{period_s: 1}}
  spool: {{path: {spool}}}
  publish:
{lines}
{extra}
"""


# A bridge killed with -9 stays in the graph for a while: each run of a test has a topic of its own.
COUNT = f"/count_{uuid.uuid4().hex[:8]}"
INT64 = f"ros_topic: {COUNT}, mqtt_suffix: telemetry/count, msg_type: std_msgs/Int64, qos: 1"


def payload(message):
    return json.loads(message.payload)["payload"]


def matched(publisher):
    wait_until(lambda: publisher.get_subscription_count() > 0, what=f"{publisher.topic_name} is subscribed")


def counter(ros, listener, topic=COUNT):
    """A publisher of numbers that the bridge hears: DDS knows a pair at one end some 60 ms before the other."""
    publisher = ros.create_publisher(Int64, topic, RELIABLE)

    def primed():
        publisher.publish(Int64(data=-1))
        return listener.of("telemetry/count")

    wait_until(primed, what=f"{topic} is heard")
    return publisher


@contextmanager
def publishing(publisher, message, hz=20):
    """Publishes in the background for as long as the block runs."""
    stop = threading.Event()

    def run():
        while not stop.wait(1 / hz):
            publisher.publish(message)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_a_robot_is_seen(ros, broker, listener, bridge, tmp_path):
    """Odometry, battery and pictures arrive with presence and a heartbeat that has learned from them."""
    bridge_process = bridge(
        config(
            broker.port,
            [
                "ros_topic: /odom, mqtt_suffix: telemetry/odom, msg_type: nav_msgs/Odometry, qos: 1",
                "ros_topic: /battery, mqtt_suffix: telemetry/battery, msg_type: sensor_msgs/BatteryState",
                "ros_topic: /camera/compressed, mqtt_suffix: blob/image, msg_type: sensor_msgs/CompressedImage",
                "ros_topic: /camera/raw, mqtt_suffix: blob/raw, msg_type: sensor_msgs/Image",
                "ros_topic: /points, mqtt_suffix: blob/pointcloud, msg_type: sensor_msgs/PointCloud2",
            ],
            tmp_path / "spool",
        )
    )
    wait_until(lambda: listener.of("status"), what="online")
    odometry = Odometry()
    odometry.header.stamp = ros.get_clock().now().to_msg()
    odometry.header.frame_id = "odom"
    odometry.pose.pose.position.x = 1.25
    odometry.twist.twist.linear.x = float("nan")
    raw = Image(height=2, width=3, encoding="bgr8", step=9, data=list(range(18)))
    sources = {
        "/odom": odometry,
        "/battery": BatteryState(percentage=0.42, voltage=12.1),
        "/camera/compressed": CompressedImage(format="jpeg", data=JPEG),
        "/camera/raw": raw,
        "/points": PointCloud2(height=1, width=2, data=[1, 2, 3]),
    }
    publishers = [(ros.create_publisher(type(m), topic, RELIABLE), m) for topic, m in sources.items()]
    for publisher, message in publishers:
        matched(publisher)
        publisher.publish(message)
    for suffix in ("telemetry/odom", "telemetry/battery", "blob/image", "blob/raw", "blob/pointcloud"):
        wait_until(lambda suffix=suffix: listener.of(suffix), what=suffix)

    (first,) = listener.of("telemetry/odom")
    envelope = json.loads(first.payload)
    assert set(envelope) == {"message_id", "device_id", "timestamp", "type", "seq", "payload"}
    assert (envelope["device_id"], envelope["type"], envelope["seq"]) == ("bot-01", "telemetry", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", envelope["timestamp"])
    stamp = odometry.header.stamp
    assert envelope["timestamp"].endswith(f".{stamp.nanosec // 1_000_000:03d}Z")
    assert envelope["payload"]["twist"]["twist"]["linear"]["x"] == "NaN"
    assert len(envelope["payload"]["pose"]["covariance"]) == 36
    assert payload(listener.of("telemetry/battery")[0])["voltage"] == 12.1

    picture = listener.of("blob/image")[0]
    assert (picture.payload, picture.properties.ContentType) == (JPEG, "image/jpeg")
    assert {name for name, _ in picture.properties.UserProperty} == {"message_id", "timestamp", "seq"}
    assert listener.of("blob/raw")[0].properties.ContentType == "image/png"
    cloud = listener.of("blob/pointcloud")[0]
    assert cloud.properties.ContentType == "application/x-ros-cdr; type=sensor_msgs/msg/PointCloud2"

    beat = wait_until(lambda: [b for b in map(payload, listener.of("telemetry/status")) if "battery" in b])[0]
    assert {"cpu", "memory", "disk", "uptime", "versions", "bridge"} <= set(beat)
    assert (beat["battery"], beat["position"]["x"]) == (42.0, 1.25)

    assert bridge_process.terminate() == 0
    statuses = [json.loads(m.payload) for m in listener.of("status")]
    wait_until(lambda: len(listener.of("status")) == 2)
    statuses = [json.loads(m.payload) for m in listener.of("status")]
    assert statuses == [{"status": "online"}, {"status": "offline", "reason": "shutdown"}]
    for publisher, _ in publishers:
        ros.destroy_publisher(publisher)


def test_a_killed_bridge_leaves_its_will(broker, listener, bridge, tmp_path):
    process = bridge(config(broker.port, [], tmp_path / "spool"))
    wait_until(lambda: listener.of("status"))
    process.kill()
    wait_until(lambda: len(listener.of("status")) == 2)
    assert json.loads(listener.of("status")[-1].payload) == {"status": "offline", "reason": "connection_lost"}


def test_rosout_becomes_log(ros, broker, listener, bridge, tmp_path):
    """Below the level nothing; above it level, text, logger and place."""
    bridge(config(broker.port, [INT64], tmp_path / "spool", "logging: {rosout: {level: warn}}"))
    wait_until(lambda: listener.of("status"))
    node = Node("planner", context=ros.context)
    wait_until(lambda: any(p.node_name == "rosfit_bridge" for p in node.get_subscriptions_info_by_topic("/rosout")))

    def logged():
        node.get_logger().info("plain")
        node.get_logger().warning("no path to goal")
        return listener.of("log")

    wait_until(logged)
    node.destroy_node()
    logs = [payload(m) for m in listener.of("log")]
    ours = [entry for entry in logs if entry["logger"] == "planner"]
    assert {(entry["level"], entry["message"]) for entry in ours} == {("warn", "no path to goal")}
    assert ours[0]["fields"]["file"].endswith("test_end_to_end.py")


def test_qos_follows_the_publishers(ros, broker, listener, bridge, tmp_path):
    """A best effort subscription becomes reliable and latched, and a best effort publisher is heard again after."""
    text = "ros_topic: /map_name, mqtt_suffix: telemetry/map_name, msg_type: std_msgs/String, qos: 1"
    process = bridge(config(broker.port, [text], tmp_path / "spool"))
    wait_until(lambda: listener.of("status"))
    latched = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    # Published before anybody can hear it: only a transient local subscription gets it.
    first = ros.create_publisher(String, "/map_name", latched)
    first.publish(String(data="hall"))
    wait_until(lambda: [m for m in listener.of("telemetry/map_name") if payload(m)["data"] == "hall"])
    ros.destroy_publisher(first)
    second = ros.create_publisher(String, "/map_name", QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
    with publishing(second, String(data="yard")):
        wait_until(lambda: [m for m in listener.of("telemetry/map_name") if payload(m)["data"] == "yard"])
    wait_until(lambda: "/map_name: publishers are best effort, volatile" in process.log.read_text())
    assert "incompatible" not in process.log.read_text()
    ros.destroy_publisher(second)


def test_nothing_is_lost_or_doubled_while_qos_changes(ros, broker, listener, bridge, tmp_path):
    """The old subscription stays until the new one has met the publishers."""
    bridge(config(broker.port, [INT64], tmp_path / "spool"))
    wait_until(lambda: listener.of("status"))
    publisher = counter(ros, listener)
    for number in range(300):
        publisher.publish(Int64(data=number))
        time.sleep(0.01)
    wait_until(lambda: len(heard(listener)) >= 300, what="300 samples")
    assert heard(listener) == list(range(300))
    ros.destroy_publisher(publisher)


def send(publisher, numbers):
    for number in numbers:
        publisher.publish(Int64(data=number))
        time.sleep(0.002)


def heard(listener):
    """The numbers in the order of their first arrival; a repetition must be the same message."""
    first = {}
    for message in listener.of("telemetry/count"):
        envelope = json.loads(message.payload)
        number = envelope["payload"]["data"]
        if number < 0:
            continue
        assert first.setdefault(number, envelope["message_id"]) == envelope["message_id"]
    return list(first)


def test_the_link_breaks_under_way(ros, listener, cable, bridge, tmp_path):
    """Cut twice in the middle: every QoS 1 sample from before, between and after arrives, in order."""
    bridge(config(cable.port, [INT64], tmp_path / "spool"))
    wait_until(lambda: listener.of("status"))
    publisher = counter(ros, listener)
    send(publisher, range(300))
    cable.cut()
    send(publisher, range(300, 2500))  # more than memory holds, so the disk takes part
    cable.mend()
    send(publisher, range(2500, 2700))
    cable.cut()
    send(publisher, range(2700, 2800))
    cable.mend()
    send(publisher, range(2800, 3000))
    wait_until(lambda: 2999 in heard(listener), timeout_s=30, what="the last sample")
    assert heard(listener) == list(range(3000))
    ros.destroy_publisher(publisher)


def test_the_broker_dies_and_comes_back(ros, broker, listener, cable, bridge, tmp_path):
    bridge(config(cable.port, [INT64], tmp_path / "spool"))
    wait_until(lambda: listener.of("status"))
    publisher = counter(ros, listener)
    send(publisher, range(100))
    wait_until(lambda: 99 in heard(listener))  # mosquitto acknowledges before its subscribers have it
    cable.cut()
    broker.kill()
    send(publisher, range(100, 300))
    broker.start()
    listener.wait_ready()
    cable.mend()
    send(publisher, range(300, 400))
    wait_until(lambda: 399 in heard(listener), what="the last sample")
    assert heard(listener) == list(range(400))
    assert [json.loads(m.payload)["status"] for m in listener.of("status")][-1] == "online"
    ros.destroy_publisher(publisher)


def test_a_killed_bridge_keeps_its_spool(ros, listener, cable, bridge, tmp_path):
    """Offline, killed with -9, started again: what was on disk arrives, in order, behind it what is new."""
    topic = f"{COUNT}_killed"
    process = bridge(config(cable.port, [INT64.replace(COUNT, topic)], tmp_path / "spool"))
    wait_until(lambda: listener.of("status"))
    publisher = counter(ros, listener, topic)
    cable.cut()
    send(publisher, range(500))
    wait_until(lambda: _spooled(tmp_path / "spool") >= 500, what="500 rows on disk")
    process.kill()
    cable.mend()
    process.start()
    wait_until(lambda: len(heard(listener)) >= 500, what="the spool is sent")
    matched(publisher)

    with publishing(publisher, Int64(data=-2)):
        wait_until(lambda: [m for m in listener.of("telemetry/count") if payload(m)["data"] == -2])
    assert heard(listener) == list(range(500))
    assert payload(listener.of("telemetry/count")[-1])["data"] == -2
    wait_until(lambda: _spooled(tmp_path / "spool") == 0, what="the spool is empty")
    ros.destroy_publisher(publisher)


def _spooled(path):
    import sqlite3

    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return db.execute("SELECT count(*) FROM sample WHERE topic LIKE '%/count'").fetchone()[0]


def test_the_broker_may_come_later(ros, tmp_path, bridge, cable, listener):
    """The bridge starts without a broker, and its first samples wait."""
    cable.cut()
    process = bridge(config(cable.port, [INT64], tmp_path / "spool"))
    wait_until(lambda: "next attempt" in process.log.read_text())
    publisher = ros.create_publisher(Int64, COUNT, RELIABLE)
    matched(publisher)
    with publishing(publisher, Int64(data=7)):
        wait_until(lambda: _spooled(tmp_path / "spool") > 0, what="a sample on disk")
        cable.mend()
        wait_until(lambda: listener.of("telemetry/count"))
    assert json.loads(listener.of("telemetry/count")[0].payload)["seq"] == 1
    ros.destroy_publisher(publisher)


def test_throttle_and_64_bits(ros, broker, listener, bridge, tmp_path):
    bridge(config(broker.port, [INT64.replace("qos: 1", "throttle_hz: 10")], tmp_path / "spool"))
    wait_until(lambda: listener.of("status"))
    publisher = ros.create_publisher(Int64, COUNT, RELIABLE)
    matched(publisher)
    with publishing(publisher, Int64(data=2**53 + 1), hz=200):
        wait_until(lambda: listener.of("telemetry/count"))
        start = len(listener.of("telemetry/count"))
        time.sleep(2.0)
        passed = len(listener.of("telemetry/count")) - start
    assert 17 <= passed <= 23
    assert payload(listener.of("telemetry/count")[0])["data"] == "9007199254740993"
    ros.destroy_publisher(publisher)


def test_diagnostics_in_ros(ros, broker, listener, bridge, tmp_path):
    heard = []
    subscription = ros.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    bridge(config(broker.port, [INT64], tmp_path / "spool"))
    executor = SingleThreadedExecutor(context=ros.context)
    executor.add_node(ros)

    def online():
        executor.spin_once(timeout_sec=0.1)
        return [s for m in heard for s in m.status if (s.name, s.message) == ("rosfit_bridge: connection", "online")]

    (status, *_) = wait_until(online)
    assert (status.level, status.hardware_id) == (b"\x00", "bot-01")
    queue = next(s for s in heard[-1].status if s.name == "rosfit_bridge: queue")
    assert {"queue", "spool_rows", "spool_bytes", "received", "acknowledged"} <= {v.key for v in queue.values}
    executor.shutdown()
    ros.destroy_subscription(subscription)


def test_a_mistake_ends_before_connecting(broker, bridge, tmp_path):
    process = bridge(config(broker.port, [INT64.replace("Int64", "Int65")], tmp_path / "spool"))
    assert process.process.wait(20) == 2
    log = process.log.read_text()
    assert re.search(r"rosfit-bridge.yaml:\d+: bridge.publish\[0\].msg_type: std_msgs has no msg Int65", log)
    assert "New client connected" not in broker.log.read_text()


def test_a_folder_for_updates_that_cannot_be_is_told(broker, bridge, tmp_path):
    (tmp_path / "file").write_text("")
    ota = f"ota: {{enabled: true, require_signature: false, folder: {tmp_path}/file/updates}}\n"
    process = bridge(config(broker.port, [], tmp_path / "spool") + ota)
    assert process.process.wait(20) == 1
    log = process.log.read_text()
    assert "set ota.folder" in log
    assert "Traceback" not in log


def test_a_header_stamp_of_another_time_is_not_taken(ros, broker, listener, bridge, tmp_path):
    """Simulation time starts at zero: such a sample is from now."""
    pose = "ros_topic: /pose, mqtt_suffix: ros/pose, msg_type: geometry_msgs/PoseStamped"
    bridge(config(broker.port, [pose], tmp_path / "spool"))
    wait_until(lambda: listener.of("status"))
    publisher = ros.create_publisher(PoseStamped, "/pose", RELIABLE)
    matched(publisher)
    message = PoseStamped()
    message.header.stamp.sec = 12
    publisher.publish(message)
    (heard,) = wait_until(lambda: listener.of("ros/pose"))
    assert json.loads(heard.payload)["timestamp"][:4] == str(time.gmtime().tm_year)
    ros.destroy_publisher(publisher)


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_signals_end_with_a_goodbye(broker, listener, bridge, tmp_path, signal_name):
    import signal

    process = bridge(config(broker.port, [INT64], tmp_path / "spool"))
    wait_until(lambda: listener.of("status"))
    process.process.send_signal(getattr(signal, signal_name))
    assert process.process.wait(10) == 0
    wait_until(lambda: len(listener.of("status")) == 2)
    assert json.loads(listener.of("status")[-1].payload) == {"status": "offline", "reason": "shutdown"}
