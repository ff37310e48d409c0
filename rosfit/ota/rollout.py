"""The rules of a rollout, without I/O: how large the waves are, when one has failed, and who may start now."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from rosfit.ota.lifecycle import FAILED, FINAL

Verdict = Literal["wait", "failure", "next"]

REACHABLE = frozenset({"online", "error"})


def check_waves(waves: Sequence[float]) -> None:
    """Raises ValueError unless these are percentages that rise and end at 100."""
    if not waves or waves[-1] != 100 or not waves[0] > 0:
        raise ValueError("waves are percentages above 0, the last of which is 100")
    if any(not later > earlier for earlier, later in pairwise(waves)):
        raise ValueError("waves are cumulative: each is larger than the one before")


def wave_sizes(total: int, waves: Sequence[float]) -> list[int]:
    """How many devices each wave has. Shares are rounded up, so that the first wave is never empty."""
    # The tiny share taken off is what binary fractions add: 0.1 % of 1,000 is 1 device and not 2.
    ends = [min(total, math.ceil(total * share / 100 - 1e-9)) for share in waves]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


class Tally(NamedTuple):
    """A wave so far. `total` counts all its devices, cancelled ones, too; `failed` also those that timed out."""

    total: int
    finished: int = 0
    succeeded: int = 0
    failed: int = 0


def tally(counts: Mapping[str, int]) -> Tally:
    """From how many devices are in each status."""
    return Tally(
        total=sum(counts.values()),
        finished=sum(count for status, count in counts.items() if status in FINAL),
        succeeded=counts.get("succeeded", 0),
        failed=sum(count for status, count in counts.items() if status in FAILED),
    )


class Thresholds(NamedTuple):
    """In percent of the wave's devices."""

    success: float
    failure: float
    min_sample: int = 1


def judge(wave: Tally, thresholds: Thresholds, accepted: int = 0) -> Verdict:
    """Failure first, then whether the next wave may begin.

    `accepted` failures were there when an operator resumed; only another one counts again. A wave smaller than
    `min_sample` is judged once all of it has finished.
    """
    enough = wave.finished >= min(thresholds.min_sample, wave.total)
    if enough and wave.failed > accepted and wave.failed * 100 > thresholds.failure * wave.total:
        return "failure"
    if wave.finished == wave.total or wave.succeeded * 100 >= thresholds.success * wave.total:
        return "next"
    return "wait"


def room(max_in_progress: int, in_progress: int, rate_per_minute: int | None, last_minute: int) -> int:
    """How many devices may start now; `last_minute` counts those that did within the last 60 s."""
    free = max_in_progress - in_progress
    if rate_per_minute is not None:
        free = min(free, rate_per_minute - last_minute)
    return max(0, free)


class Candidate(NamedTuple):
    """What is known of a device that waits. `battery` is in percent."""

    device_id: str
    status: str
    metadata: Mapping[str, Any]
    battery: float | None = None
    busy: bool = False
    elsewhere: bool = False


class Window(NamedTuple):
    """When devices may start: for `duration_s` from each time that `cron` names.

    `timezone` is for devices without one of their own.
    """

    cron: str
    duration_s: float
    timezone: str = "UTC"


WAITING = ("offline", "maintenance", "elsewhere", "busy", "battery", "window")


def why_waiting(device: Candidate, min_battery: float, window: Window | None, now: datetime) -> str | None:
    """The first word of `WAITING` that holds, or None when it may start."""
    if device.status == "maintenance":
        return "maintenance"
    if device.status not in REACHABLE:
        return "offline"
    if device.elsewhere:
        return "elsewhere"
    if device.busy:
        return "busy"
    if device.battery is not None and device.battery < min_battery:
        return "battery"
    if window is not None and not is_open(window, own_timezone(device.metadata), now):
        return "window"
    return None


def own_timezone(metadata: Mapping[str, Any]) -> str | None:
    name = metadata.get("timezone")
    return name if isinstance(name, str) else None


def is_open(window: Window, own: str | None, now: datetime) -> bool:
    """Whether `now` is within the window, by the device's own time zone if it has one that exists."""
    zone = find_timezone(own) or find_timezone(window.timezone) or ZoneInfo("UTC")
    # Backwards from the end of this minute, since cron's minutes begin on the whole one.
    minute = now.astimezone(zone).replace(second=0, microsecond=0)
    began = next(CronSim(window.cron, minute + timedelta(minutes=1), reverse=True), None)
    return began is not None and now - began < timedelta(seconds=window.duration_s)


def find_timezone(name: str | None) -> tzinfo | None:
    """None for a name that no time zone has."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return None


def check_window(window: Window) -> None:
    """Raises ValueError naming what is wrong."""
    try:
        CronSim(window.cron, datetime(2026, 1, 1))
    except CronSimError as error:
        raise ValueError(f"cron {window.cron!r} is not five fields such as '0 2 * * *' ({error})") from error
    if find_timezone(window.timezone) is None:
        raise ValueError(f"timezone {window.timezone!r} is none, such as Europe/Berlin")
