"""Commands, parameters and velocities through a real broker and the real bridge into a live ROS graph."""

import json
import threading
import time

import pytest
from bridge_rig import wait_until
from down_rig import Cloud, LiveRobot
from rclpy.node import Node
from std_msgs.msg import String


@pytest.fixture(scope="module")
def robot():
    made = LiveRobot()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def forgotten(request):
    if "robot" in request.fixturenames:
        robot = request.getfixturevalue("robot")
        robot.calls.clear()
        robot.velocities.clear()
        robot.release.clear()


@pytest.fixture
def cloud(broker, listener):
    made = Cloud(broker.port, listener)
    yield made
    made.close()


@pytest.fixture
def process(robot, broker, listener, cloud, bridge, tmp_path):
    """The bridge of `robot`, online and with its services discovered."""
    started = bridge(robot.config(broker.port, tmp_path / "spool"))
    wait_until(lambda: listener.of("status"), what="online")
    assert cloud.done("trigger")["status"] == "succeeded"
    robot.calls.clear()
    return started


def code(answer):
    return answer["status"], answer["error"]["code"]


def test_services(robot, cloud, process):
    answer = cloud.done("set_bool", {"data": True})
    assert answer["correlation_id"] == f"of-{answer['command_id']}"
    assert answer["status"] == "succeeded"
    assert answer["result"] == {"success": True, "message": "on"}
    no = cloud.done("set_bool", {"data": False})
    assert code(no) == ("failed", "SERVICE_FAILED")
    assert no["error"]["message"] == "I will not"
    assert robot.calls == [True, False]


def test_what_is_refused(robot, cloud, process):
    assert code(cloud.done("reboot")) == ("rejected", "NOT_ALLOWED")
    wrong = cloud.done("set_bool", {"data": "yes"})
    assert code(wrong) == ("rejected", "INVALID_DATA")
    assert "data: data: expected true or false, got 'yes'" in wrong["error"]["message"]
    assert "unknown field" in cloud.done("set_bool", {"dat": True})["error"]["message"]
    assert code(cloud.done("set_bool", [1])) == ("rejected", "INVALID_REQUEST")
    assert code(cloud.done("trigger", lives_s=-5)) == ("rejected", "EXPIRED")
    assert code(cloud.done("absent")) == ("failed", "UNAVAILABLE")
    assert code(cloud.done("short")) == ("failed", "TIMEOUT")
    assert robot.calls == ["slow"]


def test_a_slow_service_holds_nothing_up(robot, cloud, process):
    """It is acknowledged meanwhile, cannot be called back, and ends by itself."""
    slow = cloud.send("slow")
    wait_until(lambda: [a["status"] for a in cloud.answers(slow)] == ["acked"])
    assert cloud.done("trigger")["status"] == "succeeded"
    assert code(cloud.done("cancel", {"command_id": slow})) == ("failed", "NOT_CANCELLABLE")
    assert code(cloud.done("cancel", {"command_id": "cmd_other"})) == ("failed", "NOT_RUNNING")
    robot.release.set()
    assert cloud.final(slow)["status"] == "succeeded"


def test_order_and_redelivery(robot, cloud, process):
    """Fifty commands take effect in their order, and each once though each comes twice."""
    ids = [f"cmd_{number}" for number in range(50)]
    for number, command_id in enumerate(ids):
        for _ in range(2):
            cloud.send("set_bool", {"data": bool(number % 3)}, command_id=command_id)
    first = {command_id: cloud.final(command_id) for command_id in ids}
    for command_id in ids:
        cloud.send("set_bool", {"data": True}, command_id=command_id)
        wait_until(lambda command_id=command_id: cloud.answers(command_id).count(first[command_id]) > 1)
    assert {str(a["error"]["code"]) for a in first.values() if a["status"] == "failed"} == {"SERVICE_FAILED"}
    assert robot.calls == [bool(number % 3) for number in range(50)]


def test_commands_survive_a_cut_line(robot, cloud, cable, bridge, listener, tmp_path):
    """What is sent while the bridge is away is done once it is back; what ends meanwhile is told then."""
    bridge(robot.config(cable.port, tmp_path / "spool"))
    wait_until(lambda: listener.of("status"))
    assert cloud.done("trigger")["status"] == "succeeded"
    slow = cloud.send("slow")
    wait_until(lambda: "slow" in robot.calls)
    cable.cut()
    waiting = cloud.send("set_bool", {"data": True})
    robot.release.set()
    cable.mend()
    assert cloud.final(slow)["status"] == "succeeded"
    assert cloud.final(waiting)["status"] == "succeeded"
    assert robot.calls == ["trigger", "slow", True]


def test_an_answer_is_repeated_after_a_lost_line(robot, cloud, cable, bridge, listener, tmp_path):
    """Once: a broker that was killed may have forgotten it, and nobody else knows how the command ended."""
    bridge(robot.config(cable.port, tmp_path / "spool"))
    wait_until(lambda: listener.of("status"))
    before = cloud.done("trigger")
    cable.cut()
    cable.mend()
    wait_until(lambda: cloud.answers(before["command_id"]).count(before) == 2)
    assert cloud.done("ping")["status"] == "succeeded"
    assert cloud.answers(before["command_id"]).count(before) == 2
    assert robot.calls == ["trigger"]


def test_a_killed_bridge_says_so_and_does_not_repeat(robot, cloud, process):
    done = cloud.send("trigger")
    first = cloud.final(done)
    slow = cloud.send("slow")
    wait_until(lambda: "slow" in robot.calls)
    process.kill()
    robot.release.set()
    process.start()
    assert code(cloud.final(slow)) == ("failed", "INTERRUPTED")
    cloud.send("slow", command_id=slow)
    cloud.send("trigger", command_id=done)
    wait_until(lambda: len([a for a in cloud.answers(slow) if a["status"] == "failed"]) == 2)
    wait_until(lambda: cloud.answers(done).count(first) >= 2)
    assert robot.calls == ["trigger", "slow"]


def test_parameters(robot, cloud, listener, process):
    node = f"/{robot.name}"
    assert cloud.done("get_parameters")["result"] == {node: {"max_speed": 1.0, "name": "Ada", "use_sim_time": False}}
    assert cloud.done("get_parameters", {"nodes": [robot.name], "names": ["max_*"]})["result"] == {
        node: {"max_speed": 1.0}
    }
    change = {"node": robot.name, "name": "max_speed", "value": 2}
    told = cloud.done("set_parameters", {"params": [change]})
    assert told["result"] == {"params": [{"node": node, "name": "max_speed", "old_value": 1.0, "new_value": 2}]}
    refused = cloud.done("set_parameters", {"params": [{**change, "value": 3.0}]})
    assert code(refused) == ("failed", "REFUSED")
    assert "faster than the motors" in refused["error"]["message"]
    wrong = cloud.done("set_parameters", {"params": [{**change, "value": "fast"}]})
    assert code(wrong) == ("rejected", "INVALID_DATA")
    assert "params[0].value" in wrong["error"]["message"]
    for name in ("secret", "use_sim_time"):
        assert code(cloud.done("set_parameters", {"params": [{**change, "name": name}]})) == ("rejected", "NOT_ALLOWED")
    assert code(cloud.done("get_parameters", {"nodes": ["other"]})) == ("rejected", "NOT_ALLOWED")
    robot.set("max_speed", 1.0)
    robot.set("secret", "y")
    changes = [
        {"node": node, "name": "max_speed", "old_value": 1.0, "new_value": 2.0},
        {"node": node, "name": "max_speed", "old_value": 2.0, "new_value": 1.0},
    ]
    wait_until(lambda: len(listener.of("telemetry/parameters")) >= 2)
    assert [json.loads(m.payload)["payload"] for m in listener.of("telemetry/parameters")] == changes


@pytest.mark.full
def test_a_node_that_hangs_hides_no_other(robot, broker, listener, cloud, bridge, tmp_path):
    """It is in the graph with all its services, and nobody turns its executor."""
    hung = Node("hung", context=robot.context)
    bridge(robot.config(broker.port, tmp_path / "spool", "    - {node: /hung}"))
    wait_until(lambda: listener.of("status"), what="online")

    def answered_by_the_other():
        """Once the bridge has found both."""
        alone, together = cloud.send("get_parameters", {"nodes": ["hung"]}), cloud.done("get_parameters")
        found = code(cloud.final(alone)) == ("failed", "TIMEOUT")
        return found and list(together.get("result", ())) == [f"/{robot.name}"]

    wait_until(answered_by_the_other)
    hung.destroy_node()


def test_what_the_bridge_offers(robot, cloud, process):
    assert "version" in cloud.done("ping")["result"]
    graph = cloud.done("list_graph")["result"]
    by_name = {command["name"]: command for command in graph["commands"]}
    assert by_name["set_bool"] == {
        "name": "set_bool", "kind": "service", "type": "std_srvs/srv/SetBool", "request": {"data": "bool"}
    }  # fmt: skip
    assert by_name["emergency_stop"]["kind"] == "builtin"
    assert {"name": robot.of("cmd_vel"), "type": "geometry_msgs/msg/Twist"} in graph["topics"]
    assert graph["parameters"] == [f"/{robot.name}"]


def test_reload(robot, cloud, process):
    """A mistake leaves everything as it was; a good file is served at once."""
    before = process.config.read_text()
    process.config.write_text(before.replace("std_srvs/SetBool", "std_srvs/SetBoo"))
    answer = cloud.done("reload_config")
    assert code(answer) == ("failed", "INVALID_CONFIG")
    assert "std_srvs has no srv SetBoo" in answer["error"]["message"]
    process.config.write_text(before.replace("std_srvs/SetBool", "std_srvs/Empty"))
    answer = cloud.done("reload_config")
    assert code(answer) == ("failed", "INVALID_CONFIG")
    assert "is std_srvs/srv/SetBool until the bridge is started anew" in answer["error"]["message"]
    assert cloud.done("set_bool", {"data": True})["status"] == "succeeded"
    renamed = before.replace("command: set_bool", "command: lights")
    process.config.write_text(renamed.replace("period_s: 1", "period_s: 2"))
    answer = cloud.done("reload_config")
    assert answer["result"] == {"applied": ["bridge.services"], "needs_restart": ["bridge.heartbeat"]}
    assert code(cloud.done("set_bool", {"data": True})) == ("rejected", "NOT_ALLOWED")
    assert cloud.done("lights", {"data": True})["status"] == "succeeded"


def driving(cloud, speed=0.5, hz=20):
    """Sends until the returned event is set."""
    over = threading.Event()

    def run():
        while not over.wait(1 / hz):
            cloud.drive(speed)

    threading.Thread(target=run, daemon=True).start()
    return over


def zero_after(robot, since):
    """When the first zero after `since` arrived that nothing else followed, in seconds after it."""

    def still():
        later = [v for v in list(robot.velocities) if v[0] > since]
        moving = [at for at, x, _ in later if x]
        zeros = [at for at, x, _ in later if not x and at > max(moving, default=since)]
        return zeros[0] if zeros else None

    return wait_until(still, what="zero velocity") - since


def test_driving_and_letting_go(robot, cloud, process):
    """Clamped to the limit; half a second after the last message zero for a second, then silence."""
    over = driving(cloud, speed=3.0)
    wait_until(lambda: len([v for v in robot.velocities if v[1]]) > 5)
    assert {x for _, x, _ in robot.velocities} == {1.0}
    over.set()
    took = zero_after(robot, time.monotonic())
    assert 0.3 < took < 1.0
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - robot.velocities[-1][0] > 0.5)
    zeros = [at for at, x, _ in robot.velocities if not x]
    assert 0.8 < zeros[-1] - zeros[0] < 1.5
    assert time.monotonic() - began < 4


def test_a_lost_broker_stops_at_once(robot, cloud, broker, process):
    over = driving(cloud)
    wait_until(lambda: robot.velocities)
    over.set()
    broker.kill()
    assert zero_after(robot, time.monotonic()) < 0.4


def test_a_stopped_bridge_stops_the_robot(robot, cloud, process):
    over = driving(cloud)
    wait_until(lambda: robot.velocities)
    since = time.monotonic()
    assert process.terminate() == 0
    over.set()
    assert zero_after(robot, since) < 0.4


def test_nothing_old_or_wrong_is_driven(robot, cloud, listener, process):
    cloud.drive(0.2)
    wait_until(lambda: robot.velocities)
    cloud.drive(0.9, seq=0)
    cloud.drive(0.9, timestamp="2020-01-01T00:00:00Z")
    cloud.drive(float("nan"))
    cloud.publish("cmd/cmd_vel", b'{"linear": {"q": 1}}', qos=0)
    cloud.publish("cmd/cmd_vel", b"{", qos=0)
    cloud.publish("cmd/cmd_vel", b"\x81\xa6linear\x81\xa1x\xcb\x3f\xd0\x00\x00\x00\x00\x00\x00",
                  qos=0, content_type="application/msgpack")  # fmt: skip
    wait_until(lambda: 0.25 in {x for _, x, _ in robot.velocities})
    assert {x for _, x, _ in robot.velocities} <= {0.2, 0.25, 0.0}
    log = process.log.read_text()
    assert "cmd/cmd_vel: a message for" in log


def test_emergency_stop_holds_until_the_stick_is_released(robot, cloud, process):
    over = driving(cloud)
    wait_until(lambda: robot.velocities)
    answer = cloud.done("emergency_stop")
    assert answer["result"] == {"stopped": [robot.of("cmd_vel")], "cancelled": []}
    since = time.monotonic()
    wait_until(lambda: time.monotonic() - since > 1.5)
    assert not [v for v in robot.velocities if v[0] > since and v[1]]
    over.set()
    cloud.drive(0.0)
    cloud.drive(0.3)
    wait_until(lambda: robot.velocities[-1][1] == 0.3 or [v for v in robot.velocities if v[1] == 0.3])


def test_emergency_stop_goes_first(robot, cloud, broker, listener, bridge, tmp_path):
    """A thousand commands wait for a service that is not there; the stop is done while they do."""
    stop = f"    - {{command: emergency_stop, ros_service: {robot.of('stop')}, srv_type: std_srvs/Trigger}}"
    config = robot.config(broker.port, tmp_path / "spool").replace("  parameters:", f"{stop}\n  parameters:")
    bridge(config.replace("timeout_s: 0.3}", "timeout_s: 60}"))
    wait_until(lambda: listener.of("status"))
    assert cloud.done("trigger")["status"] == "succeeded"
    for _ in range(1000):
        cloud.send("absent")
    began = time.monotonic()
    answer = cloud.done("emergency_stop")
    assert answer["result"] == {"success": True, "message": "standing"}
    assert time.monotonic() - began < 1.0


def test_any_message_type_is_injected(ros, robot, cloud, process):
    heard = []
    robot.node.create_subscription(String, robot.of("chatter"), lambda m: heard.append(m.data), 10)

    def told():
        cloud.publish("ros/inject/chatter", b'{"payload": {"data": "hello"}}')
        return heard

    assert wait_until(told)[0] == "hello"
