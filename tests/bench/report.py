"""The figures as docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.access import AccessFigures
from tests.bench.driving import BESIDE, STICK_HZ
from tests.bench.driving import Figures as Driving
from tests.bench.ingest import Rate
from tests.bench.latency import Latency
from tests.bench.shadows import DEVICES as SHADOWED
from tests.bench.shadows import STEADY_PER_S
from tests.bench.shadows import Figures as Shadows

HEAD = """# Benchmarks

Written by `make bench`. All figures of one table are from one run on one machine, with broker, PostgreSQL, RosFit and
the load on the same cores, so the ratios say more than the absolute values. QoS 1, 300 bytes a message, 20 devices on
four connections, the embedded servers with their defaults (PostgreSQL flushes every commit). A message counts as
durable when its row is committed; RosFit acknowledges it to the broker after that.
"""

BUSY = (
    " Others worked on the same cores, so rates are too low and latencies far too high, by an amount this run cannot "
    "tell: compare ratios only, and run it again when the machine is quiet."
)


@dataclass
class Figures:
    messages: int
    durable: Rate
    counted: Rate
    copied: Rate
    steady: list[Latency]
    memory_mb: float
    requests_per_s: float
    shadows: Shadows
    access: AccessFigures | None = field(default=None)
    bridge: dict[str, Any] | None = field(default=None)
    driving: Driving | None = field(default=None)


def machine() -> str:
    """The machine and how busy others kept it before the run."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    load = os.getloadavg()[0]
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"Run of {at} on {os.cpu_count()} cores ({model}), Python {platform.python_version()}. Load average of the "
        f"last minute before the run: {load:.1f}." + (BUSY if load > 1 else "")
    )


def write(path: Path, before: str, figures: Figures) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_lines(before, figures)) + "\n")


def _lines(before: str, figures: Figures) -> Iterator[str]:
    yield HEAD
    yield before
    yield ""
    yield from _targets(figures)
    yield from _ingest(figures)
    yield from _latency(figures)
    yield from _shadows(figures.shadows)
    if figures.access:
        yield from _access(figures.access)
    if figures.bridge:
        yield from _bridge(figures.bridge)
    if figures.driving:
        yield from _driving(figures.driving)


def _targets(figures: Figures) -> Iterator[str]:
    rate, row, socket = figures.durable.per_s, figures.steady[0].committed.p99, figures.steady[-1].websocket.p99
    rows = [
        ("durable QoS 1 messages/s", "≥ 12,000", f"{rate:,.0f}", rate >= 12_000),
        ("publish → row p99, at half that rate", "< 100 ms", f"{row:.1f} ms", row < 100),
        ("publish → WebSocket p99, at 5,000/s", "< 20 ms", f"{socket:.1f} ms", socket < 20),
        ("resident memory, 1,000 devices", "< 200 MB", f"{figures.memory_mb:.0f} MB", figures.memory_mb < 200),
    ]
    yield from _table("target", "wanted", "measured", "")
    shadow = figures.shadows
    rows += [
        ("durable shadow updates/s over MQTT", "≥ 1,500", f"{shadow.mqtt_per_s:,.0f}", shadow.mqtt_per_s >= 1_500),
        (f"report → answer p99, at {STEADY_PER_S}/s", "< 50 ms", f"{shadow.answer.p99:.1f} ms", shadow.answer.p99 < 50),
    ]
    if access := figures.access:
        cost, slowest = access.cost, max(access.revoke_ms)
        rows += [
            ("`GET /devices`, cost of authentication", "< 15 %", f"{cost:.0%}", cost < 0.15),
            ("credential revoked → robot disconnected, longest", "< 2 s", f"{slowest:.0f} ms", slowest < 2_000),
        ]
    for name, wanted, measured, met in rows:
        yield f"| {name} | {wanted} | {measured} | {'met' if met else 'missed'} |"
    yield f"| `GET /api/v1/devices?limit=50`, requests/s | | {figures.requests_per_s:,.0f} | |"


def _ingest(figures: Figures) -> Iterator[str]:
    yield f"\n## Ingest, {figures.messages:,} messages flat out\n"
    yield from _table("", "messages/s", "CPU per message, of one process", "against RosFit")
    for name, rate in (
        ("RosFit: parsed, committed, acknowledged", figures.durable),
        ("a consumer that only counts and acknowledges", figures.counted),
        ("a binary COPY that only writes", figures.copied),
    ):
        ratio = rate.per_s / figures.durable.per_s
        yield f"| {name} | {rate.per_s:,.0f} | {rate.cpu_us:.1f} µs | {ratio:.2f} × |"


def _latency(figures: Figures) -> Iterator[str]:
    yield "\n## Latency\n"
    yield from _table("messages/s", "publish → committed, p50 / p99", "publish → WebSocket, p50 / p99", "samples timed")
    for steady in figures.steady:
        row, socket = steady.committed, steady.websocket
        yield (
            f"| {steady.per_s:,.0f} | {row.p50:.1f} / {row.p99:.1f} ms | {socket.p50:.1f} / {socket.p99:.1f} ms"
            f" | {row.count:,} / {socket.count:,} |"
        )
    yield "\nA row counts from when another connection sees it, which is looked at every 2 ms."


def _shadows(figures: Shadows) -> Iterator[str]:
    answer = figures.answer
    yield "\n## Shadows\n"
    flat_out, rest = figures.mqtt_per_s, figures.rest_per_s
    yield (
        f"Reports of {len(SHADOWED)} devices over MQTT, each answered after its commit: {flat_out:,.0f}/s flat out; at "
        f"{STEADY_PER_S}/s p50 / p99 {answer.p50:.1f} / {answer.p99:.1f} ms of {answer.count:,}. `PATCH` of one "
        f"desired over eight connections: {rest:,.0f}/s."
    )


def _access(figures: AccessFigures) -> Iterator[str]:
    yield "\n## Authentication\n"
    yield from _table("`GET /devices?limit=50`, 50 devices, eight connections", "requests/s", "against none")
    for name, per_s in (
        ("without authentication (a build of the benchmark's own)", figures.open_per_s),
        ("access token", figures.token_per_s),
        ("API key", figures.key_per_s),
    ):
        yield f"| {name} | {per_s:,.0f} | {per_s / figures.open_per_s:.2f} × |"
    yield (
        f"\nFrom the request that revokes a credential to the lost connection: p50 {figures.revoke_p50_ms:.0f} ms, "
        f"longest {max(figures.revoke_ms):.0f} ms of {len(figures.revoke_ms)}."
    )


def _bridge(figures: dict[str, Any]) -> Iterator[str]:
    yield "\n## Robot bridge\n"
    yield f"Median of {figures['runs']} runs of {figures['seconds']:.0f} s each.\n"
    yield from _table("", "measured")
    for name, value in _flat(figures):
        yield f"| {name} | {value} |"


def _driving(figures: Driving) -> Iterator[str]:
    slowest = max(times[-1] for times in figures.zero.values())
    command, stick = figures.command, figures.stick
    yield "\n## The way down\n"
    yield from _table("target", "wanted", "measured", "")
    for name, wanted, measured, met in (
        ("REST → ROS service → REST, p50", "< 25 ms", command.p50, command.p50 < 25),
        (f"stick → `/cmd_vel` at {STICK_HZ} Hz beside {BESIDE} robots, p99", "< 30 ms", stick.p99, stick.p99 < 30),
        ("any loss → zero velocity, max", "< 600 ms", slowest, slowest < 600),
    ):
        yield f"| {name} | {wanted} | {measured:.1f} ms | {'met' if met else 'missed'} |"
    yield f"| commands/s accepted, each committed | | {figures.accepted_per_s:,.0f} | |"
    yield (
        f"\nCommands: p50 / p99 {command.p50:.1f} / {command.p99:.1f} ms of {command.count:,}. Stick: p50 / p99 "
        f"{stick.p50:.1f} / {stick.p99:.1f} ms of {stick.count:,} that arrived of {figures.stick_sent:,} sent.\n"
    )
    yield from _table("lost", "times", "to zero velocity, p50 / max")
    for loss, times in figures.zero.items():
        yield f"| {loss} | {len(times)} | {times[len(times) // 2]:.0f} / {times[-1]:.0f} ms |"
    yield (
        "\n`stick`: nothing is sent any more; `socket`: closed; `network`: the robot's line carries nothing and does "
        "not say so; `bridge`: SIGTERM; `ping`: from 3 s after the last one; `broker`, `server`: kill -9."
    )


def _flat(figures: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if not before and name in {"runs", "seconds"}:
            continue
        label = f"{before}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _flat(value, f"{label}, ")
        else:
            yield label, value


def _table(*columns: str) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
