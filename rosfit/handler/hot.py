"""Behind the commit: newest values and frames go to the hot store, vitals to the database, each coalesced."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from rosfit.fleet import repository as fleet
from rosfit.fleet.models import Vitals
from rosfit.fleet.vitals import BATTERY_STREAMS, POSE_STREAMS, VITAL_STREAMS, battery_percent, pose_of
from rosfit.kernel.clock import format_time
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.ports import HotStore
from rosfit.kernel.work import Work
from rosfit.protocol.numbers import read_json
from rosfit.telemetry.models import MADE_UP, Frame, FrameInfo, Item, Sample

log = structlog.get_logger(__name__)

_encode = msgspec.json.encode
_pack = msgspec.msgpack.encode

# Newest values are read by people and programs that just saw a commit; 20 writes a second are plenty.
LATEST_EVERY_S = 0.05
VITALS_EVERY_S = 1.0

# Frames that wait for a hot store that is away: one per camera, and at most these many cameras.
FRAMES_LIMIT = 2_000


class LatestValues:
    """The newest sample per stream and the newest frame per name, on their way to the hot store."""

    def __init__(self, hot: HotStore) -> None:
        self._hot = hot
        self._samples: dict[tuple[str, str], Sample] = {}
        self._frames: dict[tuple[str, str], Frame] = {}
        self._stale = True
        self._some = asyncio.Event()

    def note(self, sample: Sample) -> None:
        key = (sample.device_id, sample.stream)
        newest = self._samples.get(key)
        if newest is None or newest.time <= sample.time:
            self._samples[key] = sample
        self._some.set()

    def note_frame(self, device_id: str, name: str, frame: Frame) -> None:
        if (device_id, name) in self._frames or len(self._frames) < FRAMES_LIMIT:
            self._frames[device_id, name] = frame
        self._some.set()

    def distrust(self) -> None:
        """What the hot store has may be older than the database: have it rebuilt."""
        self._stale = True
        self._some.set()

    async def run(self) -> None:
        """Write what is new, until cancelled. After a failure everything is forgotten there, to be rebuilt."""
        while True:
            await self._some.wait()
            self._some.clear()
            try:
                await self._flush()
            except UnavailableError as error:
                if not self._stale:
                    log.warning("hot_store_unreachable", why=error.detail)
                await self._pause()
            except Exception:
                log.exception("hot_store_not_written")
                await self._pause()
            await asyncio.sleep(LATEST_EVERY_S)

    async def _pause(self) -> None:
        self.distrust()
        await asyncio.sleep(1)

    async def _flush(self) -> None:
        if self._stale:
            # What is there may be older than the database; a question rebuilds it.
            self._samples.clear()
            await self._hot.forget_values()
            self._stale = False
        samples, self._samples = self._samples, {}
        frames, self._frames = self._frames, {}
        if samples:
            await self._hot.put_latest({key: _latest(sample) for key, sample in samples.items()})
        for (device_id, name), frame in frames.items():
            await self._hot.put_frame(device_id, name, _pack(frame), _encode(FrameInfo.of(name, frame)))


def _latest(sample: Sample) -> tuple[float, bytes]:
    shown_id = None if sample.message_id.startswith(MADE_UP) else sample.message_id
    item = Item(
        format_time(sample.time),
        sample.stream,
        shown_id,
        sample.seq,
        format_time(sample.received_at),
        sample.payload,
    )
    return sample.time.timestamp(), _encode(item)


class VitalsBook:
    """When each device was heard last, and what its newest messages say of battery and pose."""

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}
        self._samples: dict[str, dict[str, msgspec.Raw]] = {}

    def heard(self, device_id: str, at: float) -> None:
        self._heard[device_id] = at

    def note(self, sample: Sample) -> None:
        if sample.stream in VITAL_STREAMS:
            self._samples.setdefault(sample.device_id, {})[sample.stream] = sample.payload

    async def write(self, work: Work) -> None:
        """Write what changed since the last time."""
        if not self._heard:
            return
        heard, self._heard = self._heard, {}
        samples, self._samples = self._samples, {}
        try:
            vitals = {device_id: _vitals(at, samples.get(device_id, {})) for device_id, at in heard.items()}
            await fleet.write_vitals(work.connection, vitals)
        except BaseException:
            self._heard = heard | self._heard
            self._samples = samples | self._samples
            raise


def _vitals(at: float, samples: dict[str, msgspec.Raw]) -> Vitals:
    payloads = {stream: read_json(payload) for stream, payload in samples.items()}
    battery = (battery_percent(stream, payloads[stream]) for stream in BATTERY_STREAMS if stream in payloads)
    pose = (pose_of(payloads[stream]) for stream in POSE_STREAMS if stream in payloads)
    return Vitals(at, next((found for found in battery if found is not None), None), next(filter(None, pose), None))
