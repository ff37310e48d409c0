"""Simulated robots through three waves, with failures, silences and a server that is killed again and again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.site import Site as Stores
from tests.ota.conftest import Site
from tests.server import RunningServer, running_server, until

FINAL = {"succeeded", "failed", "rolled_back", "timed_out", "cancelled", "rejected"}


@contextmanager
def simulated(server: RunningServer, robots: int, *options: str) -> Iterator[dict[str, Any]]:
    """`rosfit sim`; what it says at its end is in the dictionary after the block."""
    where = ["--data-dir", str(server.data_dir), "--robots", str(robots), "--rate", "0.1", "--json", *options]
    command = [sys.executable, "-m", "rosfit.cli", "sim", *where]
    environment = {"ROSFIT_MQTT_PORT": str(server.mqtt_port)}
    summary: dict[str, Any] = {}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=server.environment() | environment)
    try:
        yield summary
    finally:
        process.send_signal(signal.SIGTERM)
        summary |= json.loads(process.communicate(timeout=30)[0] or "{}")


@pytest.mark.parametrize(
    ("robots", "kills", "at_once", "deadline_s"),
    [(30, 1, 10, 6), pytest.param(1000, 5, 200, 40, marks=[pytest.mark.full, pytest.mark.timeout(900)])],
)
def test_waves_over_a_killed_server(robots: int, kills: int, at_once: int, deadline_s: float) -> None:
    """One end each, the simulator's own counts, and never more than max_in_progress at any instant."""
    options = ["--update-failures", "0.06", "--update-silences", "0.04", "--update-time", "1", "--seed", "6"]
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as server:
        site, stores = Site(server), Stores(server)
        with simulated(server, robots, *options) as summary:
            until(lambda: stores.one("SELECT count(*) FROM devices WHERE status = 'online'") == robots, 120)
            deployment = start(site, at_once, deadline_s)
            for number in range(1, kills + 1):
                enough = number * robots // (kills + 1)
                until(lambda enough=enough: ended(stores) >= enough, 300)
                server.kill()
                server.start()
            until(lambda: site.shown(deployment)["status"] == "finished", 300)
        check_counts(site.shown(deployment)["counts"], summary["updates"], robots)
        check_history(stores, robots, at_once)


def start(site: Site, at_once: int, deadline_s: float) -> str:
    artifact = site.upload(device_types="simulator")
    body = {
        "artifact_id": artifact["artifact_id"],
        "target": {"query": "type:simulator"},
        "waves": [10, 50, 100],
        "success_threshold": 95,
        "failure_threshold": 40,
        "min_sample": 5,
        "max_in_progress": at_once,
        "device_deadline_s": deadline_s,
        "min_battery": 0,
    }
    deployment = site.admin.made("/ota/deployments", body)["deployment_id"]
    site.ask(deployment, "start")
    return deployment


def ended(stores: Stores) -> int:
    return stores.one("SELECT count(*) FROM device_deployments WHERE finished_at IS NOT NULL")


def check_counts(counts: dict[str, int], simulated_counts: dict[str, int], robots: int) -> None:
    """What the server counted is what the robots did."""
    assert sum(counts.values()) == robots
    assert counts.pop("timed_out", 0) == simulated_counts.pop("silent", 0)
    assert counts == simulated_counts


def check_history(stores: Stores, robots: int, at_once: int) -> None:
    rows = stores.rows(
        "SELECT device_id, status, at FROM device_deployment_steps WHERE refused IS NULL ORDER BY at, number"
    )
    under_way: set[str] = set()
    most, ends = 0, 0
    for device_id, status, _ in rows:
        if status == "notified":
            assert device_id not in under_way
            under_way.add(device_id)
        elif status in FINAL:
            under_way.remove(device_id)
            ends += 1
        most = max(most, len(under_way))
    assert ends == robots
    assert most <= at_once
    assert most > at_once / 2, "the limit was not reached, so nothing was shown"


@pytest.mark.full
def test_a_thousand_notifications_a_minute() -> None:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as server:
        site, stores = Site(server), Stores(server)
        with simulated(server, 1000, "--update-time", "30"):
            until(lambda: stores.one("SELECT count(*) FROM devices WHERE status = 'online'") == 1000, 120)
            began = time.monotonic()
            start(site, 1000, 300)
            until(
                lambda: stores.one("SELECT count(*) FROM device_deployments WHERE notified_at IS NOT NULL") >= 100, 60
            )
            took_s = time.monotonic() - began
    print(f"the first wave of 100 took {took_s:.2f} s")
    assert took_s < 6
