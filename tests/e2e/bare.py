"""Load from devices that send no message ids: with a time of their own, or without even that."""

from __future__ import annotations

from tests.load import wire
from tests.load.lane import Lane
from tests.load.plan import Load
from tests.load.publisher import Publisher
from tests.load.writer import Writer

_STARTED_MS = 1_774_865_132_000


class BareWriter(Writer):
    """`{"n": 7}`, or `{"n": 7, "timestamp": …}` for a stream called `timed`."""

    def __init__(self, writer: Writer, load: Load) -> None:
        self.__dict__ = writer.__dict__
        self._timed = load.stream == "timed"

    def next(self) -> tuple[int, bytes]:
        seq = self.device.next_seq
        self.device.next_seq = seq + 1
        # Every tenth payload is that of its predecessor, as a device at rest would send it.
        said = seq - 1 if seq % 10 == 9 and not self._timed else seq
        if self._timed:
            return seq, b'{"n":%d,"timestamp":%d}' % (said, _STARTED_MS + seq)
        return seq, b'{"n":%d}' % said

    def frame(self, packet_id: int, payload: bytes) -> bytes:
        return wire.publish(self._topic[2:].decode(), payload, 1, packet_id)


class BareLane(Lane):
    def __init__(self, lane: Lane, load: Load) -> None:
        self.__dict__ = lane.__dict__
        self._writers = [BareWriter(writer, load) for writer in lane._writers]


class BarePublisher(Publisher):
    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._lanes = [BareLane(lane, load) for lane in self._lanes]
