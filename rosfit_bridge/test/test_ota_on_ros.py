"""An update through a real broker into a robot whose gate and health are in a live ROS graph."""

from __future__ import annotations

import json
import uuid

import pytest
from bridge_rig import wait_until
from down_rig import Cloud, LiveRobot
from ota_rig import FileServer, archive, public_key_file, release, trigger
from std_msgs.msg import Float32


@pytest.fixture(scope="module")
def robot():
    made = LiveRobot()
    yield made
    made.close()


@pytest.fixture
def cloud(broker, listener):
    made = Cloud(broker.port, listener)
    yield made
    made.close()


@pytest.fixture
def server():
    made = FileServer()
    yield made
    made.close()


@pytest.fixture
def battery(robot):
    name = f"{robot.name}/battery_{uuid.uuid4().hex[:6]}"
    publisher = robot.node.create_publisher(Float32, f"/{name}", 10)
    yield publisher
    robot.node.destroy_publisher(publisher)


def config(robot, broker, tmp_path, battery, *, node: str) -> str:
    topic = battery.topic_name
    return f"""
rosfit: {{device_id: bot-01}}
connection: {{host: 127.0.0.1, port: {broker.port}, reconnect: {{min_s: 0.1, max_s: 0.3}}}}
bridge:
  heartbeat: {{period_s: 1}}
  spool: {{path: {tmp_path}/spool, flush_ms: 50}}
ota:
  enabled: true
  folder: {tmp_path}/updates
  public_keys: [{public_key_file(tmp_path)}]
  gate:
    - {{ros_topic: {topic}, msg_type: std_msgs/Float32, field: data, at_least: 50}}
    - {{ros_service: {robot.of("trigger")}}}
  health: {{nodes: [{node}], topics: [{topic}], within_s: 4, for_s: 0.5}}
logging: {{rosout: {{enabled: false}}}}
"""


def results(listener) -> list[dict]:
    return [json.loads(message.payload)["payload"] for message in listener.of("ota/result")]


def details(listener) -> str:
    told = [json.loads(message.payload)["payload"] for message in listener.of("ota/progress")]
    return " ".join(one.get("detail") or "" for one in told)


def send(cloud, message) -> None:
    cloud.publish("ota/trigger", json.dumps({"type": "ota", "payload": message}).encode())


def test_the_gate_waits_for_the_robot_and_the_health_looks_at_its_graph(
    robot, broker, listener, cloud, bridge, server, battery, tmp_path
):
    bridge(config(robot, broker, tmp_path, battery, node=f"/{robot.name}"))
    wait_until(lambda: listener.of("status"), what="online")
    files = release("2.0.0")
    send(cloud, trigger(server, archive(files)))
    wait_until(lambda: "nothing heard" in details(listener), what="the gate")

    def low() -> bool:
        battery.publish(Float32(data=20.0))
        return "below 50" in details(listener)

    wait_until(low, what="the reason")
    assert not server.requests

    def ended() -> list[dict]:
        battery.publish(Float32(data=80.0))
        return results(listener)

    outcome = wait_until(ended, what="the result")[0]
    assert outcome["status"] == "succeeded", outcome
    assert (tmp_path / "updates/current/part0.txt").read_bytes() == files["part0.txt"]
    assert robot.calls.count("trigger") >= 1


def test_a_robot_whose_node_is_gone_goes_back(robot, broker, listener, cloud, bridge, server, battery, tmp_path):
    bridge(config(robot, broker, tmp_path, battery, node="/gone"))
    wait_until(lambda: listener.of("status"), what="online")
    send(cloud, trigger(server, archive(release("2.0.0"))))

    def ended() -> list[dict]:
        battery.publish(Float32(data=80.0))
        return results(listener)

    outcome = wait_until(ended, what="the result")[0]
    assert outcome["status"] == "rolled_back"
    assert "/gone is not there" in outcome["error"]["message"]
    assert not (tmp_path / "updates/current").exists()
