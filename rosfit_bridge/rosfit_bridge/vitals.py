"""How the robot's computer is doing."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

import psutil

from rosfit_bridge import __version__


class Vitals:
    """cpu, memory and disk in percent, uptime in seconds since the computer started."""

    def __init__(self, disk_path: str = "/") -> None:
        self._disk_path = disk_path
        self._process = psutil.Process()
        psutil.cpu_percent(None)  # the first call has nothing to compare with

    def read(self) -> dict[str, Any]:
        return {
            "cpu": psutil.cpu_percent(None),
            "memory": psutil.virtual_memory().percent,
            "disk": psutil.disk_usage(self._disk_path).percent,
            "uptime": round(time.time() - psutil.boot_time()),
        }

    def own_memory_mb(self) -> float:
        return round(self._process.memory_info().rss / 2**20, 1)


def versions() -> dict[str, str]:
    return {
        "bridge": __version__,
        "ros": os.environ.get("ROS_DISTRO", "unknown"),
        "python": platform.python_version(),
    }
