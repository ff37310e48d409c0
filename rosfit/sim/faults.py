"""What goes wrong with a simulated robot under `--faults`, and when; seeded like everything else."""

from __future__ import annotations

from enum import StrEnum
from random import Random

# Mean time between two faults of one robot.
MEAN_S = 40.0


class Fault(StrEnum):
    """The ways of failing."""

    DROP = "drop"
    SILENCE = "silence"
    DUPLICATE = "duplicate"
    MALFORMED = "malformed"
    LATE = "late"
    BATTERY = "battery"
    SENSOR = "sensor"
    BUMP = "bump"


# A silence may outlast the heartbeat timeout of 60 s, so that a robot goes offline without a will.
DURATIONS = {Fault.DROP: (3.0, 15.0), Fault.SILENCE: (10.0, 90.0), Fault.SENSOR: (10.0, 40.0)}
LATE_BY_S = (20.0, 900.0)

_BROKEN: tuple[bytes, ...] = (
    b'{"message_id":"0198f0","payload":{"linear":',
    b"[1,2,3]",
    b'{"payload":17}',
    b'{"payload":{"x":1},"timestamp":"yesterday"}',
    b'{"payload":{"x":1},"seq":-4}',
    b'{"payload":{"text":"\xff\xfe"}}',
    b"",
    b'{"device_id":"somebody-else","payload":{"x":1}}',
    b'{"payload":' + b'{"a":' * 40 + b"1" + b"}" * 41,
)


class FaultDice:
    """Decides for one robot which fault comes next and how long it lasts."""

    def __init__(self, seed: int, device_id: str) -> None:
        self._rng = Random(f"{seed}/{device_id}/faults")  # noqa: S311 - a simulation has to be repeatable

    def pause_s(self) -> float:
        return self._rng.expovariate(1 / MEAN_S)

    def kind(self) -> Fault:
        return self._rng.choice(list(Fault))

    def duration_s(self, fault: Fault) -> float:
        return self._rng.uniform(*DURATIONS[fault])

    def late_s(self) -> float:
        return self._rng.uniform(*LATE_BY_S)

    def malformed(self) -> bytes:
        return self._rng.choice(_BROKEN)
