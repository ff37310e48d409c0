"""Load in processes of its own, and the CPU time that each part takes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time of living processes, their ended children left out."""
    return sum(_cpu_s(pid) for pid in pids)


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def load(url: str, *arguments: str) -> dict[str, Any]:
    """Run `tests.load.publisher` to its end; what it counted."""
    running = await start("tests.load.publisher", url, *arguments)
    return await finished(running)


async def start(module: str, url: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        env=os.environ | {"ROSFIT_MQTT_URL": url},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def finished(process: asyncio.subprocess.Process) -> dict[str, Any]:
    out, _ = await process.communicate()
    return json.loads(out.splitlines()[-1])
