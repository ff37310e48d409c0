"""From a loss on the way between a driver's hand and the robot to zero velocity, as the ROS graph hears it."""

from __future__ import annotations

import time

from tests.e2e.ros_site import Driver, RosSite, zero_after_s
from tests.e2e.site import Site

LOSSES = ("stick", "socket", "network", "bridge", "ping", "broker", "server")


def seconds_to_zero(site: RosSite, loss: str) -> float:
    """Drive, lose one of LOSSES, stand still; afterwards everything is there again."""
    driver = Driver(site, pings=loss != "ping")
    lost_at = time.monotonic()
    if loss == "stick":
        driver.let_go()
    elif loss == "socket":
        driver.close()
    elif loss == "network":
        site.cable.stall()
    elif loss == "bridge":
        site.bridge.terminate()
    elif loss == "ping":
        lost_at = driver.pinged_at + 3.0
    elif loss == "broker":
        Site(site.server).kill("mosquitto")
    else:
        site.server.kill()
    took = zero_after_s(site, lost_at, may_go_on=loss == "broker")
    driver.let_go()
    site.cable.flow()
    if loss == "server":
        site.server.start()
    if loss == "bridge":
        site.bridge.start()
    driver.socket.close()
    site.online()
    return took
