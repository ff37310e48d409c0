"""Fixtures: a real broker, a real ROS graph and the real bridge process, each test's own."""

from __future__ import annotations

import os
import random

import pytest
from bridge_rig import BridgeProcess, Broker, Cable, Listener


def pytest_configure():
    # Before any rclpy is initialised, so that runs side by side do not hear each other.
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ["ROS_DOMAIN_ID"] = str(random.randint(1, 100))


@pytest.fixture
def broker(tmp_path):
    made = Broker(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def listener(broker):
    made = Listener(broker.port)
    yield made
    made.close()


@pytest.fixture
def cable(broker):
    made = Cable(broker.port)
    yield made
    made.close()


@pytest.fixture
def bridge(tmp_path):
    """`bridge(config_text)` starts a bridge; all of them end with the test."""
    started = []

    def start(config: str) -> BridgeProcess:
        made = BridgeProcess(tmp_path, config).start()
        started.append(made)
        return made

    yield start
    for one in started:
        one.end()


@pytest.fixture(scope="session")
def ros():
    """A node to publish from, in a context of its own: other tests of the process may have theirs."""
    from rclpy.context import Context
    from rclpy.node import Node

    context = Context()
    context.init()
    node = Node("test_robot", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()
