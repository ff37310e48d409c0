"""What the server is told: each step once, progress now and then, and how it ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from rosfit_bridge.envelope import Outgoing, Stream
from rosfit_bridge.topics import OTA_PROGRESS_SUFFIX, OTA_RESULT_SUFFIX

# Between two reports of the same step.
PROGRESS_EVERY_S = 2.0


class Reports:
    """Any thread may call."""

    def __init__(self, device_id: str, publish: Callable[[Outgoing], object]) -> None:
        self._progress = Stream(device_id, OTA_PROGRESS_SUFFIX, 1)
        self._result = Stream(device_id, OTA_RESULT_SUFFIX, 1)
        self._publish = publish
        self._lock = threading.Lock()
        self._last: tuple[str, str, str | None] | None = None
        self._told_at = 0.0

    def progress(
        self, deployment_id: str, status: str, *, size: int = 0, done: int = 0, detail: str | None = None
    ) -> None:
        """`size` and `done` in bytes. `detail` is what the robot waits for, or what it does, in words."""
        with self._lock:
            told, now = (deployment_id, status, detail), time.monotonic()
            if told == self._last and now - self._told_at < PROGRESS_EVERY_S:
                return
            self._last, self._told_at = told, now
            percent = round(100 * done / size, 1) if size else 0
            payload = {"deployment_id": deployment_id, "status": status, "percent": percent, "bytes": done}
            if detail is not None:
                payload["detail"] = detail[:500]
            message = self._progress.sample(payload, time.time_ns())
        self._publish(message)

    def outcome(self, outcome: dict[str, Any]) -> None:
        payload = {name: outcome.get(name) for name in ("deployment_id", "status", "error", "version")}
        with self._lock:
            message = self._result.sample(payload, time.time_ns())
        self._publish(message)
