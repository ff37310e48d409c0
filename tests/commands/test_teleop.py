"""Driving by hand over the socket, as far as the broker; the robot's own watchdog is tested with the bridge."""

from __future__ import annotations

import contextlib
import json
import queue
import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets import Subprotocol
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from rosfit.commands.teleop import MESSAGES_PER_S, PING_WITHIN_S, STILL, STILL_AFTER_S, Drive, Stick
from tests.commands.test_commands import Device
from tests.server import RunningServer, running_server, until

FLEET = {
    "name": "fleet",
    "up": {"fleet/{fleet}/robot/{device_id}/status": "status"},
    "down": {"cmd/{name}": "fleet/{fleet}/robot/{device_id}/command/{name}"},
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000", ROSFIT_LAYOUTS=json.dumps([FLEET])) as running:
        yield running


def stick(server: RunningServer, device_id: str, token: str | None = None, **query: str) -> ClientConnection:
    values = httpx.QueryParams({"token": token or server.admin.token or ""} | query)
    return connect(f"{server.url.replace('http', 'ws')}/ws/teleop/{device_id}?{values}")


def velocity(device: Device) -> tuple[float, float]:
    twist = json.loads(device.requests.get(timeout=5).payload)["payload"]
    return twist["linear"]["x"], twist["angular"]["z"]


def drive(socket: ClientConnection, seq: int, linear: float, angular: float = 0.0) -> Any:
    socket.send(json.dumps({"seq": seq, "linear_x": linear, "angular_z": angular}))
    return json.loads(socket.recv(timeout=5))


def test_each_stick_message_is_acknowledged_and_reaches_the_robot(server: RunningServer) -> None:
    with Device(server, "t-1", "cmd/cmd_vel") as device, stick(server, "t-1") as socket:
        assert json.loads(socket.recv())["type"] == "lease"
        assert drive(socket, 1, 0.4, 0.2) == {"ack": 1}
        message = device.requests.get(timeout=5)
        assert (message.qos, message.retain, message.properties.MessageExpiryInterval) == (0, False, 1)
        twist = json.loads(message.payload)["payload"]
        assert (twist["linear"]["x"], twist["angular"]["z"]) == (0.4, 0.2)


def test_an_older_number_is_answered_and_not_driven(server: RunningServer) -> None:
    with Device(server, "t-old", "cmd/cmd_vel") as device, stick(server, "t-old") as socket:
        socket.recv()
        assert [drive(socket, seq, seq / 10) for seq in (5, 3, 5, 6)] == [{"ack": seq} for seq in (5, 3, 5, 6)]
        assert [velocity(device) for _ in range(3)] == [(0.5, 0.0), (0.6, 0.0), (0.0, 0.0)]


def test_what_exceeds_the_limit_is_dropped_and_driving_goes_on(server: RunningServer) -> None:
    with Device(server, "t-many", "cmd/cmd_vel"), stick(server, "t-many") as socket:
        socket.recv()
        for seq in range(300):
            socket.send(json.dumps({"seq": seq, "linear_x": 0.1}))
        answers = list(told_within(socket, 1.1))
        assert MESSAGES_PER_S <= len(answers) < 300
        assert drive(socket, 1000, 0.1) == {"ack": 1000}


def told_within(socket: ClientConnection, seconds: float) -> Iterator[Any]:
    with contextlib.suppress(TimeoutError):
        while True:
            yield json.loads(socket.recv(timeout=seconds))


def test_a_robot_of_another_layout_is_driven_through_it(server: RunningServer) -> None:
    with Device(server, "t-fleet") as device:
        device.client.subscribe("fleet/hall/robot/t-fleet/command/#", qos=1)
        for status in ("offline", "online"):
            device.client.publish("fleet/hall/robot/t-fleet/status", json.dumps({"status": status}), qos=1)
            until(lambda status=status: server.admin.got("/devices/t-fleet")["status"] == status)
        with stick(server, "t-fleet") as socket:
            socket.recv()
            drive(socket, 1, 0.4)
            message = device.requests.get(timeout=5)
        assert message.topic == "fleet/hall/robot/t-fleet/command/cmd_vel"
        assert json.loads(message.payload)["payload"]["linear"]["x"] == 0.4


def test_values_are_clamped_to_what_the_device_allows(server: RunningServer) -> None:
    fields = {"metadata": {"teleop": {"linear_x": 0.5}}}
    with Device(server, "t-2", "cmd/cmd_vel", **fields) as device, stick(server, "t-2") as socket:
        socket.recv()
        drive(socket, 1, 9.0, -9.0)
        assert velocity(device) == (0.5, -2.0)


def test_without_a_command_zero_velocity_is_put_out(server: RunningServer) -> None:
    with Device(server, "t-3", "cmd/cmd_vel") as device, stick(server, "t-3") as socket:
        socket.recv()
        drive(socket, 1, 0.4)
        assert velocity(device) == (0.4, 0.0)
        assert velocity(device) == (0.0, 0.0)


def test_a_lost_socket_puts_zero_velocity_out(server: RunningServer) -> None:
    with Device(server, "t-4", "cmd/cmd_vel") as device:
        with stick(server, "t-4") as socket:
            socket.recv()
            drive(socket, 1, 0.4)
            assert velocity(device) == (0.4, 0.0)
            socket.socket.close()
        assert velocity(device) == (0.0, 0.0)


def test_one_operator_at_a_time_and_the_stick_can_be_taken_over(server: RunningServer) -> None:
    with Device(server, "t-5", "cmd/cmd_vel"), stick(server, "t-5") as first:
        first.recv()
        with stick(server, "t-5") as second:
            refused = json.loads(second.recv(timeout=5))
            assert refused["data"]["code"] == "LEASE_HELD"
        assert server.admin.got("/devices/t-5/driver")["lease"]["user_name"]
        with stick(server, "t-5", take_over="true") as third:
            assert json.loads(third.recv(timeout=5))["type"] == "lease"
            assert json.loads(first.recv(timeout=5))["data"]["code"] == "LEASE_LOST"
            with pytest.raises(ConnectionClosed):
                first.recv(timeout=5)
    actions = [entry["action"] for entry in server.admin.got("/audit", target="t-5")["items"]]
    assert "teleop.take_over" in actions


def test_who_comes_back_at_once_has_the_stick_again(server: RunningServer) -> None:
    with Device(server, "t-again", "cmd/cmd_vel"):
        for _ in range(10):
            with stick(server, "t-again") as socket:
                assert json.loads(socket.recv(timeout=5))["type"] == "lease"
                socket.socket.close()


def test_messagepack_is_answered_in_messagepack(server: RunningServer) -> None:
    with Device(server, "t-6", "cmd/cmd_vel"), stick(server, "t-6") as socket:
        socket.recv()
        socket.send(msgspec.msgpack.encode({"seq": 7, "linear_x": 0.1, "angular_z": 0.0}))
        assert msgspec.msgpack.decode(socket.recv(timeout=5)) == {"ack": 7}


def test_the_subprotocol_switches_the_stick_to_messagepack(server: RunningServer) -> None:
    with Device(server, "t-packed", "cmd/cmd_vel"):
        url = f"{server.url.replace('http', 'ws')}/ws/teleop/t-packed?token={server.admin.token}"
        with connect(url, subprotocols=[Subprotocol("rosfit.msgpack")]) as socket:
            assert socket.subprotocol == "rosfit.msgpack"
            assert msgspec.msgpack.decode(socket.recv(timeout=5))["type"] == "lease"


def test_a_decommissioned_robot_is_driven_no_more(server: RunningServer) -> None:
    with Device(server, "t-gone", "cmd/cmd_vel"), stick(server, "t-gone") as socket:
        socket.recv()
        assert server.admin.delete("/devices/t-gone").status_code == 204
        assert json.loads(socket.recv(timeout=5))["data"]["code"] == "DEVICE_DECOMMISSIONED"


def test_a_first_message_that_is_no_auth_is_told_so(server: RunningServer) -> None:
    with Device(server, "t-auth", "cmd/cmd_vel"):
        url = f"{server.url.replace('http', 'ws')}/ws/teleop/t-auth"
        auth = {"type": "auth", "data": {"token": server.admin.token}}
        for good in (json.dumps(auth), msgspec.msgpack.encode(auth)):
            with connect(url) as socket:
                socket.send(good)
                assert json.loads(socket.recv(timeout=5))["type"] == "lease"
        for bad in ("x", b"\xc1", "[]", msgspec.msgpack.encode({"seq": 1})):
            with connect(url) as socket:
                socket.send(bad)
                assert json.loads(socket.recv(timeout=5))["data"]["code"] == "AUTH_REQUIRED"


def test_rubbish_is_an_error_and_driving_goes_on(server: RunningServer) -> None:
    with Device(server, "t-7", "cmd/cmd_vel"), stick(server, "t-7") as socket:
        socket.recv()
        for rubbish in ("{", "[]", '{"seq": -1}', '{"seq": 1, "linear_x": "fast"}', '{"seq": 1, "linear_x": 1e999}'):
            socket.send(rubbish)
            assert json.loads(socket.recv(timeout=5))["data"]["code"] == "INVALID_MESSAGE"
        assert drive(socket, 1, 0.1) == {"ack": 1}


def test_a_viewer_may_not_drive_and_nobody_without_a_token(server: RunningServer) -> None:
    with Device(server, "t-8", "cmd/cmd_vel"):
        viewer = server.user("viewer")
        with stick(server, "t-8", token=viewer.token) as socket:
            assert json.loads(socket.recv(timeout=5))["data"]["code"] == "PERMISSION_DENIED"
        with stick(server, "t-8", token="nonsense") as socket:
            assert json.loads(socket.recv(timeout=5))["data"]["code"] == "AUTH_REQUIRED"
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=5)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401


@pytest.mark.parametrize(
    ("change", "code", "closed_with"),
    [({"role": "viewer"}, "PERMISSION_DENIED", 4403), ({"disabled": True}, "AUTH_REQUIRED", 4401),
     ({"only_tags": ["elsewhere"]}, "DEVICE_NOT_FOUND", 4403)],
)  # fmt: skip
def test_who_loses_the_right_loses_the_stick(
    server: RunningServer, change: dict[str, Any], code: str, closed_with: int
) -> None:
    """Within seconds, in the middle of driving, and the robot stands still."""
    operator = server.user("operator")
    user_id = operator.got("/auth/me")["id"]
    name = f"t-loses-{closed_with}-{len(code)}"
    with Device(server, name, "cmd/cmd_vel") as device, stick(server, name, token=operator.token) as socket:
        socket.recv()
        drive(socket, 1, 0.4)
        assert velocity(device) == (0.4, 0.0)
        assert server.admin.patch(f"/users/{user_id}", json=change).status_code == 200
        assert json.loads(socket.recv(timeout=5))["data"]["code"] == code
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == closed_with
        assert velocity(device) == (0.0, 0.0)
    assert server.admin.got(f"/devices/{name}/driver")["lease"] is None


def test_a_killed_server_leaves_the_stick_to_the_next_driver(server: RunningServer) -> None:
    with Device(server, "t-9", "cmd/cmd_vel"):
        with stick(server, "t-9") as socket:
            socket.recv()
            server.kill()
        server.start()
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with stick(server, "t-9") as again:
                if json.loads(again.recv(timeout=5))["type"] == "lease":
                    return
        pytest.fail("the lease of a dead process was never given up")


def test_requests_are_empty_when_nobody_drives(server: RunningServer) -> None:
    with Device(server, "t-10", "cmd/cmd_vel") as device, stick(server, "t-10") as socket:
        socket.recv()
        with pytest.raises(queue.Empty):
            device.requests.get(timeout=STILL_AFTER_S * 2)


@pytest.mark.parametrize("pinged_at", [None, 2.0])
def test_three_seconds_without_a_ping_stop_the_robot_until_the_next(pinged_at: float | None) -> None:
    held = Stick(0.0)
    if pinged_at is not None:
        held.ping(pinged_at)
    last = (pinged_at or 0.0) + PING_WITHIN_S
    assert held.drive(Drive(1, 0.5), last) is not None
    assert not held.must_stop(last)
    assert held.must_stop(last + 0.1)
    assert held.drive(Drive(2, 0.5), last + 0.2) is None
    held.ping(last + 0.3)
    assert held.drive(Drive(3, 0.5), last + 0.4) is not None


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(-5, 5), st.floats(0, 0.3)), max_size=60))
def test_the_stick_never_drives_on_without_a_new_command(messages: list[tuple[int, float, float]]) -> None:
    """Whatever comes: velocities are within the limits, older numbers are dropped, and zero is due in time."""
    held, at, newest, moving_since = Stick(0.0, (1.0, 2.0)), 0.0, -1, None
    for seq, linear, pause in messages:
        at += pause
        held.ping(at)
        if held.must_stop(at):
            assert moving_since is not None
            assert at - moving_since >= STILL_AFTER_S
            moving_since = None
        elif moving_since is not None:
            assert at - moving_since < STILL_AFTER_S
        driven = held.drive(Drive(seq, linear), at)
        assert (driven is not None) == (seq > newest)
        newest = max(newest, seq)
        if driven is not None:
            assert abs(driven.linear_x) <= 1.0
            moving_since = None if driven == STILL else at
