"""Measure, and write docs/benchmarks.md.

python -m tests.bench [--quick] [--no-bridge] [--out docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench import access, driving, ingest, latency, serving, shadows
from tests.bench.report import Figures, machine, write
from tests.e2e.site import Site
from tests.server import running_server

ROOT = Path(__file__).resolve().parents[2]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def measure(site: Site, quick: bool) -> Figures:
    messages, seconds = (40_000, 4.0) if quick else (300_000, 15.0)
    site.register(*ingest.DEVICES)
    say("durable ingest, flat out")
    await ingest.durable(site, messages // 5)
    durable = await ingest.durable(site, messages)
    say("a consumer that only counts")
    counted = await ingest.counted(messages)
    say("a COPY that only writes")
    copied = await asyncio.to_thread(ingest.copied, site, messages)
    steady = []
    for per_s in (durable.per_s / 2, 5_000):
        say(f"latency at {per_s:,.0f} messages/s")
        steady.append(await latency.measure(site, per_s, seconds))
    say("memory with 1,000 devices")
    memory = await serving.memory_mb(site, 1_000, seconds)
    say("GET /devices")
    requests = await serving.requests_per_s(site, "/api/v1/devices?limit=50", seconds / 2)
    say("shadows over MQTT and REST")
    shadow = await shadows.measure(site, seconds / 2)
    return Figures(messages, durable, counted, copied, steady, memory, requests, shadow)


def bridge(quick: bool) -> dict[str, Any]:
    say("the robot bridge")
    options = ["--seconds", "2" if quick else "5", "--runs", "1"]
    command = [sys.executable, str(ROOT / "rosfit_bridge/test/bench_bridge.py"), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)


def way_down(quick: bool) -> driving.Figures:
    say("commands, the stick, and standing still")
    with running_server(ROSFIT_RATE_LIMIT_PER_S="1000000") as server:
        return driving.measure(server, quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small counts, to see that it runs")
    parser.add_argument("--no-bridge", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks.md")
    options = parser.parse_args()
    before = machine()
    with running_server(ROSFIT_RATE_LIMIT_PER_S="1000000") as server:
        figures = asyncio.run(measure(Site(server), options.quick))
    # What was measured stays if a later part fails.
    write(options.out, before, figures)
    say("authentication on against off, and revoke → disconnect")
    figures.access = asyncio.run(access.measure(2.0 if options.quick else 16.0, 5 if options.quick else 40))
    if not options.no_bridge:
        figures.bridge = bridge(options.quick)
        write(options.out, before, figures)
        figures.driving = way_down(options.quick)
    write(options.out, before, figures)
    print(options.out.read_text())


if __name__ == "__main__":
    main()
