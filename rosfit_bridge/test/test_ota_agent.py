"""The update agent with a real HTTP server and real files: what it installs, what it refuses, how it goes back."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from bridge_rig import wait_until
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ota_rig import AgentProcess, FileServer, archive, release, trigger

OLD, NEW = release("1.0.0"), release("2.0.0")
BAD = release("2.0.0", healthy=False)


@pytest.fixture
def server():
    server = FileServer()
    yield server
    server.close()


@pytest.fixture
def robot(tmp_path):
    """Its health is what the current version says of itself."""
    check = f'test "$(cat {tmp_path}/updates/current/healthy)" = yes'
    robot = AgentProcess(tmp_path, f"  health: {{command: [sh, -c, '{check}'], within_s: 0.2, for_s: 0.2}}\n")
    yield robot.start()
    if robot.process.poll() is None:
        robot.stop()


def old_first(robot: AgentProcess, server: FileServer) -> None:
    robot.send(trigger(server, archive(OLD), deployment_id="dep_0", artifact_id="art_0", version="1.0.0"))
    assert robot.final("dep_0")["status"] == "succeeded"


def test_an_update_is_downloaded_verified_installed_judged_and_told(robot, server):
    old_first(robot, server)
    robot.send(trigger(server, archive(NEW)))
    outcome = robot.final()
    assert (outcome["status"], outcome["error"]) == ("succeeded", None)
    assert outcome["version"] == {"artifact_id": "art_1", "name": "robot-app", "version": "2.0.0"}
    assert robot.holds(NEW)
    assert robot.steps() == ["notified", "downloading", "verifying", "installing", "rebooting", "health_check"]


def test_a_version_that_is_not_well_is_taken_back(robot, server):
    old_first(robot, server)
    robot.send(trigger(server, archive(BAD)))
    outcome = robot.final()
    assert outcome["status"] == "rolled_back"
    assert outcome["error"]["code"] == "UNHEALTHY"
    assert outcome["version"]["version"] == "1.0.0"
    assert robot.holds(OLD)


REFUSED = [
    ({"key": None}, "rejected", "NOT_SIGNED"),
    ({"key": Ed25519PrivateKey.generate()}, "rejected", "BAD_SIGNATURE"),
    ({"signature": "!"}, "rejected", "BAD_SIGNATURE"),
    ({"version": "0.9.0"}, "rejected", "DOWNGRADE"),
    ({"size": 3_000_000_000}, "rejected", "TOO_LARGE"),
    ({"size": 1000}, "failed", "WRONG_SIZE"),
    ({"size": None}, "rejected", "BAD_TRIGGER"),
    ({"url": "file:///etc/passwd"}, "failed", "BAD_URL"),
    ({"url": "http://[::1/x"}, "failed", "BAD_URL"),
    ({"url": "http://127.0.0.1/\u00fc"}, "failed", "BAD_URL"),
    ({"name": "robot-app\0"}, "rejected", "BAD_TRIGGER"),
    ({"deadline_s": -5}, "failed", "DEADLINE"),
]


def test_what_is_not_as_it_should_be_touches_nothing(robot, server):
    old_first(robot, server)
    for number, (change, status, code) in enumerate(REFUSED):
        robot.send(trigger(server, archive(NEW), deployment_id=f"dep_{number}x", **change))
        outcome = robot.final(f"dep_{number}x")
        assert (outcome["status"], outcome["error"]["code"]) == (status, code)
        assert robot.holds(OLD)


def test_tampered_and_truncated_bytes_are_refused(robot, server):
    old_first(robot, server)
    content = archive(NEW)
    robot.send(trigger(server, content))
    server.files["/art_1"] = content[:-1] + bytes([content[-1] ^ 1])
    assert robot.final()["error"]["code"] == "WRONG_HASH"
    robot.send(trigger(server, content, deployment_id="dep_2", artifact_id="art_2", deadline_s=3))
    server.files["/art_2"] = content[:1000]
    assert robot.final("dep_2")["error"]["code"] == "UNREACHABLE"
    assert robot.holds(OLD)


def test_an_address_that_has_run_out_is_told_at_once(robot, server):
    message = trigger(server, archive(NEW))
    server.status = 403
    robot.send(message)
    assert robot.final()["error"]["code"] == "DOWNLOAD_REFUSED"


def test_a_connection_that_breaks_costs_no_byte_twice(robot, server):
    content = archive(release("2.0.0", ballast=2_000_000))
    server.cut_after = 1_000_000
    robot.send(trigger(server, content))
    assert robot.final()["status"] == "succeeded"
    ranges = [asked for _, asked in server.requests]
    assert ranges[0] is None
    assert int(ranges[1].removeprefix("bytes=").rstrip("-")) > 900_000
    assert len(ranges) == 2


def test_a_repeated_trigger_has_one_effect_and_the_same_answer(robot, server):
    message = trigger(server, archive(NEW))
    robot.send(message)
    first = robot.final()
    robot.send(message)
    wait_until(lambda: len(robot.outcomes()) == 2)
    assert robot.outcomes()[1] == first
    assert len(server.requests) == 1


def test_the_gate_is_waited_for_and_the_reason_is_told(tmp_path, server):
    gate = f"  gate: [{{command: [test, -e, {tmp_path}/docked]}}]\n  health: {{for_s: 0}}\n"
    robot = AgentProcess(tmp_path, gate).start()
    robot.send(trigger(server, archive(NEW)))
    wait_until(lambda: any("says no" in (one["payload"].get("detail") or "") for one in robot.reports))
    assert server.requests == []
    (tmp_path / "docked").touch()
    assert robot.final()["status"] == "succeeded"
    robot.stop()


def test_the_last_versions_are_kept_and_one_of_them_may_come_back(robot, server):
    for number in range(1, 6):
        content = archive(release(f"{number}.0"))
        ids = {"deployment_id": f"dep_{number}", "artifact_id": f"art_{number}"}
        robot.send(trigger(server, content, version=f"{number}.0", **ids))
        assert robot.final(f"dep_{number}")["status"] == "succeeded"
    kept = sorted(path.name[:5] for path in (robot.updates / "versions").iterdir())
    assert kept == ["art_3", "art_4", "art_5"]
    content = server.files["/art_4"]
    robot.send(trigger(server, content, version="4.0", deployment_id="dep_back", artifact_id="art_4"))
    assert robot.final("dep_back")["status"] == "succeeded"
    assert robot.current.resolve().name.startswith("art_4")


def test_it_is_handed_over_to_a_program_and_taken_back_through_it(tmp_path, server):
    install = tmp_path / "install.sh"
    install.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/installed && echo "$ROSFIT_VERSION" >> {tmp_path}/calls\n')
    install.chmod(0o755)
    check = f"! grep -q broken {tmp_path}/installed"
    robot = AgentProcess(
        tmp_path,
        f"  install: {{method: command, command: [{install}]}}\n"
        f"  health: {{command: [sh, -c, '{check}'], within_s: 0.2, for_s: 0.1}}\n",
    ).start()
    robot.send(trigger(server, b"good", deployment_id="dep_0", artifact_id="art_0", version="1.0.0"))
    assert robot.final("dep_0")["status"] == "succeeded"
    robot.send(trigger(server, b"broken"))
    assert robot.final()["status"] == "rolled_back"
    assert (tmp_path / "installed").read_bytes() == b"good"
    assert (tmp_path / "calls").read_text().split() == ["1.0.0", "2.0.0", "1.0.0"]
    robot.stop()


def kill_at_random(tmp_path: Path, server: FileServer, seed: int, *, healthy: bool) -> str:
    """One update with kills in between; how it ended."""
    chance = random.Random(seed)
    slow = f"  install: {{hook: [sleep, '0.15'], restart: [sh, -c, 'sleep 0.1; echo x >> {tmp_path}/restarts']}}\n"
    check = f'test "$(cat {tmp_path}/updates/current/healthy)" = yes'
    robot = AgentProcess(
        tmp_path, f"{slow}  health: {{command: [sh, -c, '{check}'], within_s: 0.3, for_s: 0.3}}\n"
    ).start()
    old_first(robot, server)
    new = release("2.0.0", healthy=healthy, ballast=700_000)
    server.pace_s = 0.02
    robot.send(trigger(server, archive(new)))
    for _ in range(chance.randrange(1, 4)):
        time.sleep(chance.uniform(0.0, 1.8))  # the moment of the kill, not a wait for anything
        robot.kill()
        robot.start()
    outcome = robot.final()
    assert robot.holds(new if outcome["status"] == "succeeded" else OLD)
    assert outcome["version"]["version"] == ("2.0.0" if outcome["status"] == "succeeded" else "1.0.0")
    assert len({one["status"] for one in robot.outcomes()}) == 1
    robot.stop()
    return outcome["status"]


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(2, 21))])
def test_killed_anywhere_the_robot_ends_whole_and_says_truly_on_which_version(tmp_path, server, seed):
    healthy = seed % 3 != 0
    status = kill_at_random(tmp_path, server, seed, healthy=healthy)
    assert status in (("succeeded", "rolled_back", "failed") if healthy else ("rolled_back", "failed"))
