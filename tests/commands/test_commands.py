"""Commands over REST to a device on a real broker, and back."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from typing import Any, Self

import msgspec
import paho.mqtt.client as paho
import pytest
from websockets import Subprotocol
from websockets.sync.client import ClientConnection, connect

from tests.server import RunningServer, running_server, until


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as running:
        yield running


class Device:
    """A device that keeps what it is sent, as a stranger would write one."""

    def __init__(self, server: RunningServer, device_id: str, row: str = "cmd/request", **fields: Any) -> None:
        self.server = server
        self.device_id = device_id
        server.admin.device(device_id, **fields)
        self.token = server.admin.device_token(device_id)
        self.row = row
        self.requests: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.connect()

    def connect(self) -> None:
        self.listen()
        self.say("status", {"status": "online"})
        until(lambda: self.server.admin.got(f"/devices/{self.device_id}")["status"] == "online")

    def listen(self) -> None:
        subscribed = queue.Queue[bool]()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.username_pw_set(self.device_id, self.token)
        self.client.on_message = lambda _client, _userdata, message: self.requests.put(message)
        self.client.on_subscribe = lambda *_: subscribed.put(True)
        self.client.connect("127.0.0.1", self.server.mqtt_port)
        self.client.loop_start()
        until(self.client.is_connected)
        self.client.subscribe(f"rosfit/{self.device_id}/{self.row}", qos=1)
        subscribed.get(timeout=5)

    def say(self, row: str, payload: Any) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload)
        self.client.publish(f"rosfit/{self.device_id}/{row}", data, qos=1).wait_for_publish(5)

    def asked(self) -> dict[str, Any]:
        """The payload of the next request."""
        return json.loads(self.requests.get(timeout=10).payload)["payload"]

    def answer(self, request: dict[str, Any], status: str, **more: Any) -> None:
        ids = {"command_id": request["command_id"], "correlation_id": request["correlation_id"]}
        row = "command/response" if self.row == "command" else "cmd/response"
        self.say(row, ids | {"status": status} | more)

    def leave(self) -> None:
        self.say("status", {"status": "offline", "reason": "shutdown"})
        self.client.disconnect()
        self.client.loop_stop()
        until(lambda: self.server.admin.got(f"/devices/{self.device_id}")["status"] == "offline")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def send(server: RunningServer, device_id: str, command: str, **more: Any) -> str:
    accepted = server.admin.made(f"/commands/{device_id}", {"command": command, **more}, 202)
    assert accepted["status"] == "pending"
    return accepted["command_id"]


def status_of(server: RunningServer, device_id: str, command_id: str) -> str:
    return server.admin.got(f"/commands/{device_id}/{command_id}")["status"]


def steps_of(server: RunningServer, device_id: str, command_id: str) -> list[str]:
    return [step["status"] for step in server.admin.got(f"/commands/{device_id}/{command_id}")["steps"]]


def test_a_command_goes_to_the_device_and_its_result_comes_back(server: RunningServer) -> None:
    with Device(server, "c-1") as device:
        command_id = send(server, "c-1", "navigate_to", data={"x": 1.5})
        message = device.requests.get(timeout=10)
        envelope = json.loads(message.payload)
        request = envelope["payload"]
        assert envelope["type"] == "command"
        assert (request["command_id"], request["command"], request["data"]) == (command_id, "navigate_to", {"x": 1.5})
        assert message.properties.ResponseTopic == "rosfit/c-1/cmd/response"
        assert message.properties.CorrelationData.decode() == request["correlation_id"]
        assert 0 < message.properties.MessageExpiryInterval <= 30
        device.answer(request, "acked")
        device.answer(request, "in_progress", progress=0.5)
        device.answer(request, "succeeded", result={"at": "dock"})
        until(lambda: status_of(server, "c-1", command_id) == "succeeded")
        assert steps_of(server, "c-1", command_id) == ["pending", "delivered", "acked", "in_progress", "succeeded"]
        assert server.admin.got(f"/commands/c-1/{command_id}")["result"] == {"at": "dock"}


def test_steps_that_a_device_skips_are_recorded_before_the_later_one(server: RunningServer) -> None:
    with Device(server, "c-2") as device:
        command_id = send(server, "c-2", "ping")
        device.answer(device.asked(), "succeeded")
        until(lambda: status_of(server, "c-2", command_id) == "succeeded")
        assert steps_of(server, "c-2", command_id) == ["pending", "delivered", "acked", "succeeded"]


def test_a_device_that_is_away_is_a_conflict_unless_the_command_may_wait(server: RunningServer) -> None:
    with Device(server, "c-3") as device:
        device.leave()
        refused = server.admin.post("/commands/c-3", json={"command": "ping"})
        assert (refused.status_code, refused.json()["code"]) == (409, "DEVICE_OFFLINE")
        waiting = [send(server, "c-3", f"step_{number}", queue=True) for number in range(20)]
        device.connect()
        asked = [device.asked()["command_id"] for _ in waiting]
        assert asked == waiting


def test_an_emergency_stop_goes_ahead_of_what_waits(server: RunningServer) -> None:
    with Device(server, "c-4") as device:
        device.leave()
        for number in range(200):
            send(server, "c-4", f"step_{number}", queue=True)
        server.admin.made("/devices/c-4/emergency-stop", status=202)
        device.connect()
        assert device.asked()["command"] == "emergency_stop"


def test_devices_of_the_short_form_are_asked_on_command(server: RunningServer) -> None:
    with Device(server, "c-5", row="command", type="mqtt_device") as device:
        command_id = send(server, "c-5", "blink")
        device.answer(device.asked(), "succeeded")
        until(lambda: status_of(server, "c-5", command_id) == "succeeded")


def test_silence_times_out_and_a_late_result_is_taken_once(server: RunningServer) -> None:
    with Device(server, "c-6") as device:
        command_id = send(server, "c-6", "slow", timeout_s=0.5)
        request = device.asked()
        until(lambda: status_of(server, "c-6", command_id) == "timed_out")
        device.answer(request, "succeeded", result={"done": True})
        until(lambda: status_of(server, "c-6", command_id) == "succeeded")
        device.answer(request, "succeeded", result={"done": True})  # repeated after a lost line, and not news
        device.answer(request, "failed", error={"code": "X", "message": "again"})
        until(lambda: "failed" in steps_of(server, "c-6", command_id))
        assert len(steps_of(server, "c-6", command_id)) == 5
        command = server.admin.got(f"/commands/c-6/{command_id}")
        assert (command["status"], command["late"]) == ("succeeded", True)
        assert command["steps"][-1]["refused"] == "TERMINAL_STATE"


def test_a_pending_command_is_cancelled_and_a_final_one_is_not(server: RunningServer) -> None:
    with Device(server, "c-7") as device:
        device.leave()
        command_id = send(server, "c-7", "later", queue=True)
        assert server.admin.delete(f"/commands/c-7/{command_id}").json()["status"] == "cancelled"
        again = server.admin.delete(f"/commands/c-7/{command_id}")
        assert (again.status_code, again.json()["code"]) == (409, "TERMINAL_STATE")


def test_cancelling_what_is_under_way_asks_the_device(server: RunningServer) -> None:
    with Device(server, "c-8") as device:
        command_id = send(server, "c-8", "drive")
        request = device.asked()
        device.answer(request, "in_progress")
        until(lambda: status_of(server, "c-8", command_id) == "in_progress")
        server.admin.delete(f"/commands/c-8/{command_id}")
        cancel = device.asked()
        assert (cancel["command"], cancel["data"]) == ("cancel", {"command_id": command_id})
        device.answer(request, "cancelled")
        until(lambda: status_of(server, "c-8", command_id) == "cancelled")


def test_a_command_that_was_taken_back_never_reaches_the_device(server: RunningServer) -> None:
    """However close the cancel comes to the publish; a device that may have it is asked to stop it."""
    with Device(server, "c-race") as device:
        taken_back, stopped = set(), set()
        for _ in range(40):
            command_id = send(server, "c-race", "go")
            status = server.admin.delete(f"/commands/c-race/{command_id}").json()["status"]
            (taken_back if status == "cancelled" else stopped).add(command_id)
        send(server, "c-race", "last")
        received = []
        while not received or received[-1]["command"] != "last":
            received.append(device.asked())
        assert {one["command_id"] for one in received if one["command"] == "go"} == stopped
        assert {one["data"]["command_id"] for one in received if one["command"] == "cancel"} == stopped


def test_what_waits_too_long_expires(server: RunningServer) -> None:
    with Device(server, "c-9") as device:
        device.leave()
        soon = server.admin.post(
            "/commands/c-9", json={"command": "x", "queue": True, "expires_at": "2020-01-01T00:00:00Z"}
        )
        assert soon.status_code == 422


def test_a_response_of_another_device_changes_nothing(server: RunningServer) -> None:
    with Device(server, "c-10") as device, Device(server, "c-11") as stranger:
        command_id = send(server, "c-10", "secret")
        request = device.asked()
        stranger.answer(request, "succeeded")
        letters = lambda: server.admin.got("/dead-letters", device_id="c-11", reason="unknown_command")["items"]  # noqa: E731
        until(letters)
        assert status_of(server, "c-10", command_id) == "delivered"
        device.answer(request, "succeeded")
        until(lambda: status_of(server, "c-10", command_id) == "succeeded")


def test_progress_is_told_each_time_and_is_one_step(server: RunningServer) -> None:
    url = f"{server.websocket_url}?token={server.admin.token}"
    with Device(server, "c-steps") as device, connect(url) as ws:
        ws.recv(timeout=5)
        ws.send(json.dumps({"type": "command", "data": {"device_id": "c-steps", "command": "go"}}))
        request = device.asked()
        for progress in (0.1, 0.5, 0.9):
            device.answer(request, "in_progress", progress=progress)
        told: list[dict[str, Any]] = []
        while not told or told[-1].get("progress") != 0.9:
            told.append(json.loads(ws.recv(timeout=5))["data"])
        assert [one["progress"] for one in told if "progress" in one] == [0.1, 0.5, 0.9]
        assert steps_of(server, "c-steps", request["command_id"]) == ["pending", "delivered", "acked", "in_progress"]


@pytest.mark.parametrize(("said", "kept"), [(0.25, 0.25), (-3, 0.0), (17, 1.0)])
def test_progress_stays_between_0_and_1(server: RunningServer, said: float, kept: float) -> None:
    with Device(server, f"c-progress-{kept * 100:.0f}") as device:
        command_id = send(server, device.device_id, "go")
        device.answer(device.asked(), "in_progress", progress=said)
        until(lambda: status_of(server, device.device_id, command_id) == "in_progress")
        assert server.admin.got(f"/commands/{device.device_id}/{command_id}")["progress"] == kept


def test_a_result_that_cannot_be_stored_is_a_dead_letter_and_no_fault(server: RunningServer) -> None:
    with Device(server, "c-nul") as device:
        command_id = send(server, "c-nul", "read")
        request = device.asked()
        device.answer(request, "succeeded", result={"text": "a\0b"})
        until(lambda: server.admin.got("/dead-letters", device_id="c-nul", reason="not_storable")["items"])
        assert status_of(server, "c-nul", command_id) == "delivered"
        device.answer(request, "succeeded", result={"text": "ab"})
        until(lambda: status_of(server, "c-nul", command_id) == "succeeded")
        assert "Traceback" not in server.log_text()


def test_a_command_that_no_message_has_room_for_is_refused(server: RunningServer) -> None:
    server.admin.device("c-large")
    body = {"command": "map", "data": {"cells": "x" * 256 * 1024}, "queue": True}
    refused = server.admin.post("/commands/c-large", json=body)
    assert (refused.status_code, refused.json()["code"]) == (413, "COMMAND_TOO_LARGE")
    assert "262156 bytes" in refused.json()["detail"]


def test_commands_survive_a_killed_server_and_come_in_order(server: RunningServer) -> None:
    with Device(server, "c-12") as device:
        device.leave()
        waiting = [send(server, "c-12", f"step_{number}", queue=True) for number in range(10)]
        server.kill()
        server.start()
        device.connect()
        asked: list[str] = []
        while len(asked) < len(waiting):
            command_id = device.asked()["command_id"]
            if command_id not in asked:
                asked.append(command_id)
        assert asked == waiting


def socket_to(server: RunningServer) -> ClientConnection:
    return connect(f"{server.url.replace('http', 'ws')}/ws?token={server.admin.token}")


def test_a_command_over_the_socket_is_told_at_each_step_and_ends_with_its_result(server: RunningServer) -> None:
    with (
        Device(server, "c-13") as device,
        socket_to(server) as ws,
    ):
        assert json.loads(ws.recv())["type"] == "auth_result"
        data = {"device_id": "c-13", "command": "navigate_to", "data": {"x": 1}}
        ws.send(json.dumps({"type": "command", "data": data, "request_id": "r1"}))
        request = device.asked()
        device.answer(request, "acked")
        device.answer(request, "succeeded", result={"ok": True})
        told = [json.loads(ws.recv(timeout=10)) for _ in range(4)]
        assert [(one["type"], one["data"]["status"]) for one in told] == [
            ("command_ack", "pending"),
            ("command_ack", "delivered"),
            ("command_ack", "acked"),
            ("command_result", "succeeded"),
        ]
        assert told[-1]["data"]["result"] == {"ok": True}
        assert {one["request_id"] for one in told} == {"r1"}


def test_a_command_to_a_device_that_is_away_is_an_error_on_the_socket(server: RunningServer) -> None:
    with (
        Device(server, "c-14") as device,
        socket_to(server) as ws,
    ):
        device.leave()
        ws.recv()
        ws.send(json.dumps({"type": "command", "data": {"device_id": "c-14", "command": "x"}}))
        assert json.loads(ws.recv(timeout=10))["data"]["code"] == "DEVICE_OFFLINE"


def test_a_command_over_the_socket_is_judged_like_one_over_rest(server: RunningServer) -> None:
    with Device(server, "c-judged"), socket_to(server) as ws:
        ws.recv()
        for bad in ({"expires_at": "2020-01-01T00:00:00Z"}, {"expires_at": "soon"}, {"timeout_s": 0}, {"queue": 1}):
            data = {"device_id": "c-judged", "command": "x", **bad}
            ws.send(json.dumps({"type": "command", "data": data}))
            assert json.loads(ws.recv(timeout=5))["data"]["code"] in {"INVALID", "INVALID_MESSAGE"}


def test_messagepack_that_json_does_not_know_reaches_the_robot_as_text_or_is_refused(server: RunningServer) -> None:
    url = f"{server.websocket_url}?token={server.admin.token}"
    with Device(server, "c-pack") as device, connect(url, subprotocols=[Subprotocol("rosfit.msgpack")]) as ws:

        def told(data: Any) -> Any:
            ask = {"type": "command", "data": {"device_id": "c-pack", "command": "x", "data": data}}
            ws.send(msgspec.msgpack.encode(ask))
            return msgspec.msgpack.decode(ws.recv(timeout=5))

        assert msgspec.msgpack.decode(ws.recv(timeout=5))["type"] == "auth_result"
        for bad in ({1: "x"}, {"a": msgspec.msgpack.Ext(5, b"x")}):
            assert told(bad)["data"]["code"] == "INVALID_MESSAGE"
        assert told({"bytes": b"\x01\x02", "speed": float("nan")})["type"] == "command_ack"
        assert device.asked()["data"] == {"bytes": "AQI=", "speed": "NaN"}


def test_parameters_are_asked_of_the_robot(server: RunningServer) -> None:
    with Device(server, "c-15") as device:
        answers: queue.Queue[Any] = queue.Queue()
        asking = threading.Thread(
            target=lambda: answers.put(server.admin.put("/devices/c-15/params/nav/planner/speed", json={"value": 2}))
        )
        asking.start()
        request = device.asked()
        assert request["command"] == "set_parameters"
        assert request["data"] == {"params": [{"node": "nav/planner", "name": "speed", "value": 2}]}
        device.answer(request, "succeeded", result={"params": [{"name": "speed", "old_value": 1, "new_value": 2}]})
        asking.join(10)
        assert answers.get(timeout=10).json()["params"][0]["new_value"] == 2


def test_a_robot_at_a_glance_tells_what_its_streams_say(server: RunningServer) -> None:
    with Device(server, "c-16") as device:
        device.say("telemetry/joint_states", {"name": ["a"], "position": [1.5], "temperature": [41]})
        device.say(
            "telemetry/diagnostics", {"status": [{"name": "motor", "level": 2, "message": "hot", "hardware_id": "M1"}]}
        )
        device.say("telemetry/odom", {"pose": {"pose": {"position": {"x": 1, "y": 2}, "orientation": {"w": 1}}}})

        def glance() -> Any:
            status = server.admin.got("/robots/c-16/status")
            return status if status["pose"] and status["joints"] and status["error_codes"] else None

        status = until(glance)
        assert status["joints"][0]["temperature"] == 41
        assert status["error_codes"] == [{"code": "M1", "level": "ERROR", "message": "hot"}]
        assert status["pose"] == {"x": 1.0, "y": 2.0, "theta": 0.0}


def test_a_bulk_command_goes_to_all_who_can_take_it_and_tells_who_cannot(server: RunningServer) -> None:
    with Device(server, "b-1", tags=["bulk"]) as one, Device(server, "b-2", tags=["bulk"]) as away:
        away.leave()
        body = {"command": "ping", "target": {"tag": "bulk"}}
        preview = server.admin.made("/commands/preview", body, 200)
        assert (preview["count"], preview["left_out"]) == (1, [{"device_id": "b-2", "reason": "offline"}])
        sent = server.admin.made("/commands", body, 202)
        assert [row["device_id"] for row in sent["accepted"]] == ["b-1"]
        one.answer(one.asked(), "succeeded")
        until(lambda: server.admin.got(f"/commands/bulk/{sent['bulk_id']}")["counts"] == {"succeeded": 1})
        for nobody in ({"query": " "}, {"tag": ""}, {"group": ""}, {"device_ids": []}):
            empty = server.admin.post("/commands", json={"command": "ping", "target": nobody})
            assert empty.status_code == 422, f"{nobody} must not mean every device"
        unclear = server.admin.post("/commands", json={"command": "ping", "target": {"tag": "a", "group": "b"}})
        assert unclear.status_code == 422
