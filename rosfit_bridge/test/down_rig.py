"""A robot with services, parameters and wheels, and the cloud's side of commands."""

from __future__ import annotations

import json
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone

import paho.mqtt.client as mqtt
from bridge_rig import Listener, wait_until
from geometry_msgs.msg import Twist
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

FINAL = {"succeeded", "failed", "rejected", "cancelled"}


class LiveRobot:
    """Its names are its own, as a node of an earlier test stays in the graph for a while."""

    def __init__(self) -> None:
        self.context = Context()
        self.context.init()
        self.name = f"robot_{uuid.uuid4().hex[:8]}"
        self.node = Node(self.name, context=self.context)
        self.calls: list[object] = []
        self.velocities: list[tuple[float, float, float]] = []  # (monotonic, linear.x, angular.z)
        self.release = threading.Event()
        group, alone = ReentrantCallbackGroup(), MutuallyExclusiveCallbackGroup()
        self.node.create_service(Trigger, self.of("trigger"), self._trigger, callback_group=group)
        self.node.create_service(SetBool, self.of("set_bool"), self._set_bool, callback_group=alone)
        self.node.create_service(Trigger, self.of("slow"), self._slow, callback_group=group)
        self.node.create_service(Trigger, self.of("stop"), self._stop, callback_group=group)
        self.node.create_subscription(Twist, self.of("cmd_vel"), self._moved, 100, callback_group=group)
        self.node.declare_parameter("max_speed", 1.0)
        self.node.declare_parameter("name", "Ada")
        self.node.declare_parameter("secret", "x")
        self.node.add_on_set_parameters_callback(self._judge)
        self._executor = MultiThreadedExecutor(4, context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def of(self, name: str) -> str:
        return f"/{self.name}/{name}"

    def close(self) -> None:
        self.release.set()
        self._executor.shutdown(2.0)
        self.node.destroy_node()
        self.context.try_shutdown()
        self._thread.join(2.0)

    def set(self, name: str, value: object) -> None:
        self.node.set_parameters([Parameter(name, value=value)])

    def config(
        self, port: int, spool: object, extra: str = "", limits: str = "{linear_x: 1.0}", token: str = ""
    ) -> str:
        auth = f", auth: {{method: token, token: {token}}}" if token else ""
        return f"""
rosfit: {{device_id: bot-01}}
connection: {{host: 127.0.0.1, port: {port}, reconnect: {{min_s: 0.1, max_s: 0.3}}{auth}}}
bridge:
  heartbeat: {{period_s: 1}}
  spool: {{path: {spool}, flush_ms: 50}}
  subscribe:
    - {{mqtt_suffix: cmd/cmd_vel, ros_topic: {self.of("cmd_vel")}, msg_type: geometry_msgs/Twist, limits: {limits}}}
    - {{mqtt_suffix: ros/inject/chatter, ros_topic: {self.of("chatter")}, msg_type: std_msgs/String}}
  services:
    - {{command: trigger, ros_service: {self.of("trigger")}, srv_type: std_srvs/Trigger}}
    - {{command: set_bool, ros_service: {self.of("set_bool")}, srv_type: std_srvs/SetBool}}
    - {{command: slow, ros_service: {self.of("slow")}, srv_type: std_srvs/Trigger, timeout_s: 30}}
    - {{command: short, ros_service: {self.of("slow")}, srv_type: std_srvs/Trigger, timeout_s: 0.3}}
    - {{command: absent, ros_service: {self.of("absent")}, srv_type: std_srvs/Trigger, timeout_s: 0.3}}
  parameters:
    - {{node: /{self.name}, names: [max_*, name], writable: true}}
    - {{node: /{self.name}, names: [use_sim_time]}}
{extra}
logging: {{rosout: {{enabled: false}}}}
"""

    def _trigger(self, _request: object, response: Trigger.Response) -> Trigger.Response:
        self.calls.append("trigger")
        response.success, response.message = True, f"call {len(self.calls)}"
        return response

    def _set_bool(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.calls.append(request.data)
        response.success, response.message = request.data, "on" if request.data else "I will not"
        return response

    def _slow(self, _request: object, response: Trigger.Response) -> Trigger.Response:
        self.calls.append("slow")
        self.release.wait(30)
        response.success = True
        return response

    def _stop(self, _request: object, response: Trigger.Response) -> Trigger.Response:
        self.calls.append("stop")
        response.success, response.message = True, "standing"
        return response

    def _moved(self, message: Twist) -> None:
        self.velocities.append((time.monotonic(), message.linear.x, message.angular.z))

    @staticmethod
    def _judge(parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "max_speed" and parameter.value > 2.0:
                return SetParametersResult(successful=False, reason="faster than the motors")
        return SetParametersResult(successful=True)


class Cloud:
    """Sends what the server would send, and reads the answers."""

    def __init__(self, port: int, listener: Listener) -> None:
        self._listener = listener
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.drives = 0

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def send(self, command: str, data: object = None, *, command_id: str | None = None, lives_s: float = 30.0) -> str:
        command_id = command_id or f"cmd_{uuid.uuid4().hex[:12]}"
        now = datetime.now(timezone.utc)
        payload = {
            "command_id": command_id,
            "correlation_id": f"of-{command_id}",
            "command": command,
            "data": {} if data is None else data,
            "expires_at": (now + timedelta(seconds=lives_s)).isoformat(),
        }
        envelope = {"type": "command", "timestamp": now.isoformat(), "message_id": command_id, "payload": payload}
        self.publish("cmd/request", json.dumps(envelope).encode(), expiry_s=max(1, int(lives_s)))
        return command_id

    def publish(
        self, suffix: str, payload: bytes, *, qos: int = 1, content_type: str = "application/json", expiry_s: int = 30
    ) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType, properties.MessageExpiryInterval = content_type, expiry_s
        self.client.publish(f"rosfit/bot-01/{suffix}", payload, qos, properties=properties).wait_for_publish(5)

    def drive(self, linear_x: float, angular_z: float = 0.0, **fields: object) -> None:
        self.drives += 1
        now = datetime.now(timezone.utc).isoformat()
        body = {"linear": {"x": linear_x, "y": 0.0, "z": 0.0}, "angular": {"x": 0.0, "y": 0.0, "z": angular_z}}
        envelope = {"type": "teleop", "timestamp": now, "seq": self.drives, "payload": body, **fields}
        self.publish("cmd/cmd_vel", json.dumps(envelope).encode(), qos=0, expiry_s=1)

    def answers(self, command_id: str) -> list[dict[str, object]]:
        told = [json.loads(m.payload)["payload"] for m in self._listener.of("cmd/response")]
        return [answer for answer in told if answer["command_id"] == command_id]

    def final(self, command_id: str, timeout_s: float = 20.0) -> dict[str, object]:
        def ended() -> list[dict[str, object]]:
            return [answer for answer in self.answers(command_id) if answer["status"] in FINAL]

        return wait_until(ended, timeout_s, f"{command_id} ends; told so far: {self.answers(command_id)}")[0]

    def done(self, command: str, data: object = None, **options: object) -> dict[str, object]:
        return self.final(self.send(command, data, **options))
