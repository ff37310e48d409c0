"""What the bridge costs: `python rosfit_bridge/test/bench_bridge.py --seconds 10` prints JSON.

Starts its own broker, the bridge and a ROS publisher, each its own process. Figures are the median of `--runs`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from bridge_rig import BridgeProcess, Broker, Listener, clean_env, wait_until

ROBOT = {
    "odom": ("nav_msgs/Odometry", 50),
    "imu": ("sensor_msgs/Imu", 100),
    "scan": ("sensor_msgs/LaserScan", 10),
    "image": ("sensor_msgs/CompressedImage", 10),
    "diagnostics": ("diagnostic_msgs/DiagnosticArray", 1),
    "battery": ("sensor_msgs/BatteryState", 1),
}
# Holds the place of the time of publishing in the odometry.
CLOCK = b"0000000000.000000"
# Messages a second when one type alone is measured.
ALONE_HZ = {"odom": 500, "imu": 500, "scan": 200, "image": 100}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--runs", type=int, default=3, help="the median of so many is printed")
    parser.add_argument("--publish", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        publish(json.loads(options.publish))
        return
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 100)))
    runs = []
    for number in range(options.runs):
        print(f"run {number + 1} of {options.runs}", file=sys.stderr)
        runs.append(measure(options.seconds))
    print(json.dumps({"runs": options.runs, "seconds": options.seconds, **median_of(runs)}, indent=2))


def measure(seconds: float) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        broker.start()
        process = BridgeProcess(Path(folder), config(broker.port, Path(folder) / "spool")).start()
        listener = Listener(broker.port)
        try:
            wait_until(lambda: listener.of("telemetry/status"), what="the bridge is up")
            return measured(psutil.Process(process.process.pid), listener, seconds)
        finally:
            listener.close()
            process.terminate()
            broker.kill()


def measured(bridge: psutil.Process, listener: Listener, seconds: float) -> dict:
    time.sleep(2.0)
    result: dict = {"idle_cpu_percent": idle(bridge, seconds)}
    nominal = load(bridge, listener, {name: hz for name, (_, hz) in ROBOT.items()}, seconds)
    result["nominal_robot"] = {"messages_per_s": nominal["messages_per_s"], "cpu_percent": nominal["cpu_percent"]}
    result["cpu_us_per_message"] = {
        name: load(bridge, listener, {name: hz}, seconds)["cpu_us_per_message"] for name, hz in ALONE_HZ.items()
    }
    result["latency_ms"] = {
        f"{hz} Hz": load(bridge, listener, {"odom": hz}, seconds)["latency_ms"] for hz in (50, 200, 500)
    }
    result["odometry_saturated_messages_per_s"] = saturated(listener, seconds)
    result["rss_mb"] = round(bridge.memory_info().rss / 2**20, 1)
    return result


def idle(bridge: psutil.Process, seconds: float) -> float:
    before = cpu(bridge)
    time.sleep(seconds)
    return round(100 * (cpu(bridge) - before) / seconds, 2)


def load(bridge: psutil.Process, listener: Listener, rates: dict, seconds: float) -> dict:
    """Publishes for `seconds` plus a second of warming up that is not counted."""
    listener.messages.clear()
    delays: list[float] = []
    listener.client.on_message = lambda _c, _u, m: note(listener, delays, m)
    publisher = start_publisher(rates, seconds + 1.5)
    time.sleep(1.0)
    listener.messages.clear()
    delays.clear()
    used, began = cpu(bridge), time.monotonic()
    time.sleep(seconds)
    spent, used = time.monotonic() - began, cpu(bridge) - used
    count = len(listener.messages)
    measured_delays = sorted(delays)
    publisher.wait()
    return {
        "messages_per_s": round(count / spent, 1),
        "cpu_percent": round(100 * used / spent, 2),
        "cpu_us_per_message": round(1e6 * used / max(count, 1), 1),
        "latency_ms": quantiles(measured_delays),
    }


def saturated(listener: Listener, seconds: float) -> float:
    """By the bridge's own count: a subscriber in Python would be the slowest of the four processes."""
    listener.client.unsubscribe("rosfit/#")
    listener.client.subscribe("rosfit/+/telemetry/status")
    beats: list[tuple[float, int]] = []

    def beat(_client, _userdata, message) -> None:
        beats.append((time.monotonic(), json.loads(message.payload)["payload"]["bridge"]["sent"]))

    listener.client.on_message = beat
    wait_until(lambda: beats)
    publisher = start_publisher({"odom": 20_000}, seconds)
    publisher.wait()
    ended = time.monotonic()
    wait_until(lambda: beats[-1][0] > ended + 1.5, timeout_s=30, what="a heartbeat after the flood")
    return round((beats[-1][1] - beats[0][1]) / seconds, 1)


def start_publisher(rates: dict, seconds: float) -> subprocess.Popen:
    command = [sys.executable, __file__, "--publish", json.dumps({"rates": rates, "seconds": seconds})]
    publisher = subprocess.Popen(command, env=clean_env(), stdout=subprocess.PIPE, text=True)
    publisher.stdout.readline()
    return publisher


def note(listener: Listener, delays: list[float], message) -> None:
    """The publisher writes the time of publishing into `child_frame_id`."""
    now = time.time()
    listener.messages.append(None)
    if message.topic.endswith("/odom"):
        at = message.payload.find(b'"child_frame_id":"') + 18
        sent = message.payload[at : at + 17]
        delays.append(now - float(sent))


def quantiles(delays: list[float]) -> dict:
    if not delays:
        return {}
    return {f"p{p}": round(1000 * delays[min(len(delays) - 1, len(delays) * p // 100)], 3) for p in (50, 95, 99)}


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def config(port: int, spool: Path) -> str:
    lines = "\n".join(
        f"    - {{ros_topic: /bench/{name}, msg_type: {kind}, "
        f"mqtt_suffix: {'blob/image' if name == 'image' else f'telemetry/{name}'}}}"
        for name, (kind, _) in ROBOT.items()
    )
    return (
        f"rosfit: {{device_id: bot-01}}\nconnection: {{host: 127.0.0.1, port: {port}}}\n"
        f"bridge:\n  heartbeat: {{period_s: 1}}\n  spool: {{path: {spool}}}\n  publish:\n{lines}\n"
    )


def publish(job: dict) -> None:
    """The child process: one publisher per type, on a common clock."""
    import rclpy

    rclpy.init()
    node = rclpy.create_node("bench_robot")
    sources = [source(node, name, hz) for name, hz in job["rates"].items()]
    for _, publisher, _, _ in sources:
        wait_until(lambda publisher=publisher: publisher.get_subscription_count() > 0)
    time.sleep(1.2)  # the bridge looks at the graph once a second
    print("publishing", flush=True)
    due = [[time.monotonic(), *s] for s in sources]
    end = time.monotonic() + job["seconds"]
    while (now := time.monotonic()) < end:
        entry = min(due, key=lambda e: e[0])
        if entry[0] > now:
            time.sleep(entry[0] - now)
        _, name, publisher, message, hz = entry
        if name == "odom":
            at = message.index(CLOCK)
            message = message[:at] + f"{time.time():.6f}".encode() + message[at + len(CLOCK) :]
        publisher.publish(message)
        entry[0] = max(entry[0] + 1 / hz, now - 0.1)
    node.destroy_node()
    rclpy.shutdown()


def source(node, name: str, hz: float):
    """Serialized once: building messages in Python would hold the publisher back."""
    from rclpy.qos import qos_profile_sensor_data
    from rclpy.serialization import serialize_message

    message = sample(name)
    publisher = node.create_publisher(type(message), f"/bench/{name}", qos_profile_sensor_data)
    return name, publisher, serialize_message(message), hz


def sample(name: str):
    import numpy as np
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
    from nav_msgs.msg import Odometry
    from sensor_msgs.msg import BatteryState, CompressedImage, Imu, LaserScan

    rng = np.random.default_rng(1)
    if name == "odom":
        message = Odometry(child_frame_id=CLOCK.decode())
        message.header.frame_id = "odom"
        message.pose.pose.position.x, message.pose.pose.position.y = 1.234567, -7.654321
        message.pose.covariance = (np.eye(6) * 0.0123456789).ravel()
        message.twist.covariance = (np.eye(6) * 0.0123456789).ravel()
        message.twist.twist.linear.x, message.twist.twist.angular.z = 0.4321, -0.1234567
        return message
    if name == "scan":
        return LaserScan(ranges=(rng.random(720) * 10).astype(np.float32))
    if name == "image":
        return CompressedImage(format="jpeg", data=b"\xff\xd8\xff" + rng.bytes(50_000))
    if name == "diagnostics":
        values = [KeyValue(key=f"key {i}", value=str(i)) for i in range(10)]
        return DiagnosticArray(status=[DiagnosticStatus(name=f"part {i}", values=values) for i in range(10)])
    return {"imu": Imu, "battery": BatteryState}[name]()


def median_of(runs: list):
    """Runs of the same form into one, number by number."""
    if isinstance(runs[0], dict):
        return {key: median_of([run[key] for run in runs]) for key in runs[0]}
    return round(statistics.median(runs), 3)


if __name__ == "__main__":
    main()
