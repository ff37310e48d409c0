"""The bridge's own state on /diagnostics, where robot people look."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from rosfit_bridge.uplink import Uplink


class Diagnostics:
    def __init__(self, node: Node, uplink: Uplink, device_id: str) -> None:
        self._node, self._uplink, self._device_id = node, uplink, device_id
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._dropped = 0

    def publish(self) -> None:
        if self._publisher.get_subscription_count() == 0:
            return
        message = DiagnosticArray(status=[self._connection(), self._queue()])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _connection(self) -> DiagnosticStatus:
        state = self._uplink.link.state
        level = {"online": DiagnosticStatus.OK, "connecting": DiagnosticStatus.WARN}.get(
            state.name, DiagnosticStatus.ERROR
        )
        text = state.name if state.name == "online" else f"{state.name}: {state.detail}"
        return self._status("connection", level, text, {"state": state.name, "broker": state.detail})

    def _queue(self) -> DiagnosticStatus:
        counters, spooler = self._uplink.counters, self._uplink.spooler
        dropped = counters.dropped_spool + counters.dropped_slow_link
        worse, self._dropped = dropped > self._dropped, dropped
        level = DiagnosticStatus.WARN if worse else DiagnosticStatus.OK
        values: dict[str, Any] = {"queue": len(self._uplink.outbox), "held_back": self._uplink.link.waiting()}
        if spooler is not None:
            values.update(spool_rows=spooler.spool.count, spool_bytes=spooler.spool.bytes)
        return self._status("queue", level, "dropping samples" if worse else "ok", {**values, **counters.as_dict()})

    def _status(self, name: str, level: bytes, message: str, values: dict[str, Any]) -> DiagnosticStatus:
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        return DiagnosticStatus(
            level=level, name=f"rosfit_bridge: {name}", message=message, hardware_id=self._device_id, values=pairs
        )
