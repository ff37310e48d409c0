"""What a load run sends and what came of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from rosfit.sim.accounts import RobotAccount


def new_run() -> str:
    return os.urandom(4).hex()


@dataclass(frozen=True)
class Load:
    """What to send. `messages` counts over all devices; without `rate` (messages/s) as fast as it goes.

    `connections` is one per device unless fewer are asked for, which a shared credential allows.
    """

    host: str
    port: int
    accounts: Sequence[RobotAccount]
    messages: int | None = None
    duration_s: float | None = None
    rate: float | None = None
    qos: int = 1
    size: int = 300
    inflight: int = 200
    connections: int | None = None
    stream: str = "load"
    run: str = field(default_factory=new_run)
    drain_timeout_s: float = 60.0


@dataclass
class Device:
    """Sequence numbers from 0 of one device: `acked` in order of arrival, `refused` with reason code."""

    device_id: str
    next_seq: int = 0
    acked: list[int] = field(default_factory=list)
    refused: dict[int, int] = field(default_factory=dict)


@dataclass
class Result:
    """What was sent and acknowledged. `resent` and `reconnects` tell of broken connections."""

    run: str
    qos: int
    devices: dict[str, Device]
    sent: int = 0
    resent: int = 0
    reconnects: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0

    @property
    def acknowledged(self) -> int:
        return sum(len(device.acked) for device in self.devices.values())

    @property
    def refused(self) -> int:
        return sum(len(device.refused) for device in self.devices.values())

    @property
    def complete(self) -> bool:
        """Everything that was sent was acknowledged (at QoS 0: written)."""
        return not self.qos or self.acknowledged == self.sent

    def message_ids(self, device_id: str) -> set[str]:
        """The `message_id` of every acknowledged message of this device."""
        return {message_id(self.run, seq) for seq in self.devices[device_id].acked}

    def summary(self) -> dict[str, object]:
        """As JSON: per device, acknowledged sequence numbers as [first, last] ranges."""
        taken = self.acknowledged if self.qos else self.sent
        return {
            "run": self.run,
            "sent": self.sent,
            "acknowledged": self.acknowledged,
            "refused": self.refused,
            "resent": self.resent,
            "reconnects": self.reconnects,
            "seconds": round(self.seconds, 3),
            "rate": round(taken / self.seconds, 1) if self.seconds else 0.0,
            "cpu_s": round(self.cpu_s, 3),
            "devices": {name: list(ranges(device.acked)) for name, device in self.devices.items()},
        }


def message_id(run: str, seq: int) -> str:
    return f"{run}-{seq:08d}"


def ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive numbers as (first, last)."""
    for _, group in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield run[0], run[-1]
