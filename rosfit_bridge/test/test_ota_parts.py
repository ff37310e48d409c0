"""The pure parts of the update agent, and what an archive must not do."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from bridge_rig import wait_until
from hypothesis import given
from hypothesis import strategies as st
from ota_rig import FileServer

from rosfit_bridge.config import ConfigError, parse
from rosfit_bridge.envelope import Outgoing
from rosfit_bridge.ota.agent import Agent, Surroundings
from rosfit_bridge.ota.conditions import stay_well
from rosfit_bridge.ota.download import Download
from rosfit_bridge.ota.errors import RejectedError, UpdateError
from rosfit_bridge.ota.hooks import Hooks
from rosfit_bridge.ota.install import check_room, make_installer
from rosfit_bridge.ota.journal import Journal, Update
from rosfit_bridge.ota.policy import check, version_key
from rosfit_bridge.ota.steps import MOST_INTERRUPTIONS, Step, may_pass_deadline, resumed
from rosfit_bridge.ota.trigger import Artifact, BadTriggerError, Trigger, read
from rosfit_bridge.ota.unpack import BadArchiveError, unpack

ARTIFACT = Artifact("art_1", "robot-app", "2.0.0", "http://x/y", 10, "0" * 64, "c2ln")


def policy(text: str = ""):
    content = f"rosfit: {{device_id: bot}}\nconnection: {{host: x}}\nota: {{enabled: false{text}}}\n"
    return parse(content, file="f", folder=Path(), env={}).ota


class Faulty:
    def unmet(self) -> None:
        raise RuntimeError("a fault of ours")


def test_a_fault_ends_the_update_and_not_the_agent(tmp_path):
    told: list[dict[str, Any]] = []
    around = Surroundings(gate=[Faulty()])
    agent = Agent(policy(", require_signature: false"), tmp_path, "bot", lambda out: told.append(payload(out)), around)
    agent.start()
    for deployment_id in ("dep_1", "dep_2"):
        agent.take("", json.dumps(Trigger(deployment_id, ARTIFACT).as_dict()).encode())
        outcome = wait_until(lambda: next((one for one in told if "error" in one), None))
        assert (outcome["deployment_id"], outcome["error"]["code"]) == (deployment_id, "BRIDGE_FAULT")
        told.clear()
    agent.close()


def test_a_slow_link_is_seen_to_move_and_keeps_what_came(tmp_path):
    """A block of 256 KiB may take a minute there, and what a broken connection takes with it came for nothing."""
    server, content = FileServer(pace_s=0.01), bytes(100_000)
    artifact = dataclasses.replace(ARTIFACT, url=f"{server.url}/a", size=len(content))
    server.files["/a"] = content
    seen: list[int] = []
    nothing = lambda *_: None  # noqa: E731
    Download(artifact, tmp_path / "a", etag=None, remember=nothing, progress=seen.append, wait=nothing).run(
        lambda: False
    )
    server.close()
    assert (tmp_path / "a").read_bytes() == content
    assert seen[0] < len(content)


def payload(message: Outgoing) -> dict[str, Any]:
    return json.loads(message.payload)["payload"]


@given(st.lists(st.booleans(), min_size=MOST_INTERRUPTIONS + 1, max_size=20), st.sampled_from(list(Step)))
def test_a_step_that_is_cut_short_for_ever_is_left_for_one_that_ends(boots, begun):
    """Before the switch it may begin anew, for the deadline ends it; after it there is a way out of every step."""
    step, interruptions = begun, 0
    for same_boot in boots:
        interruptions += 1
        after = resumed(step, interruptions, same_boot=same_boot)
        step, interruptions = after, 0 if after is not step else interruptions
    assert step in (Step.WAITING, Step.GIVING_UP, Step.CHECKING, Step.ROLLING_BACK, Step.RETURNED)
    assert step is not Step.CHECKING or len(boots) <= 2 * MOST_INTERRUPTIONS + 1


@given(st.sampled_from(list(Step)), st.integers(1, 5), st.booleans())
def test_the_way_never_leads_back_over_the_switch(step, interruptions, same_boot):
    after = resumed(step, interruptions, same_boot=same_boot)
    if may_pass_deadline(step):
        assert may_pass_deadline(after)
    if step in (Step.ROLLING_BACK, Step.RETURNING, Step.RETURNED):
        assert after in (Step.ROLLING_BACK, Step.RETURNED)


def test_a_machine_that_goes_down_on_trial_goes_back():
    assert resumed(Step.CHECKING, 1, same_boot=False) is Step.ROLLING_BACK
    assert resumed(Step.CHECKING, 1, same_boot=True) is Step.CHECKING


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.9", "1.10"),
        ("1.0-rc1", "1.0"),
        ("1.0", "1.0.1"),
        ("v1.2", "2"),
        ("2.0-alpha", "2.0-beta"),
        ("1.0", "1.0.0.1"),
    ],
)
def test_versions_are_ordered_as_people_do(older, newer):
    assert version_key(older) < version_key(newer)
    assert version_key(f"{newer}+build5") == version_key(newer)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (", names: [other*]", "NAME_NOT_ALLOWED"),
        (", device_type: gateway", "WRONG_TYPE"),
        (", max_mb: 0.001", "TOO_LARGE"),
    ],
)
def test_what_the_policy_forbids_is_rejected(text, code):
    artifact = Artifact("art_1", "robot-app", "2.0.0", "u", 2000, "0" * 64, "c2ln", "k", ("ros2_robot",))
    with pytest.raises(RejectedError) as refused:
        check(artifact, policy(text), None, [])
    assert refused.value.code == code


def test_a_version_this_robot_still_has_is_no_downgrade():
    installed = {"name": "robot-app", "version": "3.0.0", "sha256": "1" * 64}
    with pytest.raises(RejectedError, match="older"):
        check(ARTIFACT, policy(), installed, [])
    check(ARTIFACT, policy(), installed, [ARTIFACT.sha256])
    check(ARTIFACT, policy(", allow_downgrade: true"), installed, [])
    check(ARTIFACT, policy(), {**installed, "name": "another"}, [])


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps).map(str.encode)
)
def test_garbage_is_a_bad_trigger_and_nothing_else(payload):
    with pytest.raises(BadTriggerError):
        read(payload)


def test_a_trigger_is_read_from_an_envelope_and_survives_the_journal(tmp_path):
    artifact = {
        "artifact_id": "art_1", "name": "a", "version": "1", "url": "http://x", "size": 1, "sha256": "A" * 64,
        "signature": None, "key_id": None, "device_types": ["ros2_robot"],
    }  # fmt: skip
    body = {"deployment_id": "dep_1", "artifact": artifact, "deadline": "2026-03-30T10:05:32.123Z"}
    trigger = read(json.dumps({"type": "ota", "payload": body}).encode())
    assert trigger.deadline == pytest.approx(1774865132.123)
    assert trigger.artifact.sha256 == "a" * 64
    with Journal(tmp_path / "journal.json").change() as state:
        state.update = Update(trigger.as_dict(), Step.WAITING.value)
    again = Journal(tmp_path / "journal.json").state.update
    assert Trigger.from_dict(again.trigger) == trigger


def test_a_damaged_journal_is_put_aside(tmp_path):
    (tmp_path / "journal.json").write_text('{"update": {"step"')
    assert Journal(tmp_path / "journal.json").state.update is None
    assert list(tmp_path.glob("journal.json.damaged-*"))


def tar_of(*members: tuple[str, str, str]) -> bytes:
    """(name, kind, target or content)"""
    kinds = {"file": tarfile.REGTYPE, "sym": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, what in members:
            member = tarfile.TarInfo(name)
            member.type = kinds[kind]
            member.linkname = what if kind in ("sym", "hard") else ""
            member.size = len(what) if kind == "file" else 0
            tar.addfile(member, io.BytesIO(what.encode()))
    return buffer.getvalue()


def zip_of(name: str, content: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        tar_of(("../out", "file", "x")),
        tar_of(("/etc/out", "file", "x")),
        tar_of(("link", "sym", "/etc")),
        tar_of(("a/link", "sym", "../../out")),
        tar_of(("dir", "sym", "."), ("dir/../../out", "file", "x")),
        tar_of(("a", "sym", "b/../x"), ("b", "sym", "."), ("a/out", "file", "x")),
        tar_of(("link", "hard", "../secret")),
        tar_of(("pipe", "fifo", "")),
        zip_of("../out"),
        zip_of("/out"),
        zip_of("bomb", bytes(200_000_000)),
        tar_of(("a", "file", "x" * 2000))[:1000],
    ],
    ids=[
        "up",
        "absolute",
        "link out",
        "link up",
        "over a link",
        "over two links",
        "hard link",
        "pipe",
        "zip up",
        "zip absolute",
        "bomb",
        "cut",
    ],
)
def test_an_archive_that_leads_out_of_its_folder_or_has_no_end_is_refused(tmp_path, content):
    (tmp_path / "secret").write_text("s")
    file = tmp_path / "artifact"
    file.write_bytes(content)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(BadArchiveError):
        unpack(file, tmp_path / "slot", "artifact")
    assert {path.name for path in tmp_path.iterdir()} == before | {"slot"}


def test_a_damaged_archive_is_named_as_one(tmp_path):
    """xz has an exception of its own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        member = tarfile.TarInfo("a")
        member.size = 50_000
        tar.addfile(member, io.BytesIO(random.Random(1).randbytes(member.size // 2).hex().encode()))
    content = bytearray(buffer.getvalue())
    content[15_000:15_100] = b"\xff" * 100
    (tmp_path / "artifact").write_bytes(content)
    with pytest.raises(BadArchiveError):
        unpack(tmp_path / "artifact", tmp_path / "slot", "artifact")


def test_what_could_not_be_unpacked_leaves_no_room_taken(tmp_path):
    """A disk that is full stays so otherwise, and not even the failure can be written down."""
    (tmp_path / "artifact").write_bytes(tar_of(("a", "file", "x" * 2000))[:1000])
    installer = make_installer(policy().install, tmp_path, Hooks(tmp_path, 1.0, lambda _: None))
    with pytest.raises(BadArchiveError):
        installer.prepare(ARTIFACT, tmp_path / "artifact")
    assert list((tmp_path / "versions").iterdir()) == []


def test_some_of_the_disk_stays_free(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(UpdateError, match="stay free"):
        check_room(tmp_path, free - 1000)


def test_a_link_in_a_zip_is_not_read_without_end(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "artifact", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(info, bytes(50_000))
    with pytest.raises(BadArchiveError, match="50000 bytes long"):
        unpack(tmp_path / "artifact", tmp_path / "slot", "artifact")


def test_archives_keep_links_inside_and_modes_without_more_rights(tmp_path):
    file = tmp_path / "artifact"
    file.write_bytes(tar_of(("bin/run", "file", "x"), ("run", "sym", "bin/run"), ("same", "hard", "bin/run")))
    unpack(file, tmp_path / "slot", "artifact")
    assert (tmp_path / "slot/run").read_text() == (tmp_path / "slot/same").read_text() == "x"
    file.write_bytes(b"#!/bin/sh\n")
    unpack(file, tmp_path / "other", "start.sh")
    assert (tmp_path / "other/start.sh").read_bytes() == b"#!/bin/sh\n"


class Scripted:
    """A condition that is met at the given moments of a clock that only waiting moves."""

    def __init__(self, met: list[bool]) -> None:
        self.now, self._met = 0.0, met

    def unmet(self) -> str | None:
        at = int(self.now / 0.5)
        return None if at < len(self._met) and self._met[at] else "not well"

    def wait(self, seconds: float) -> None:
        self.now += seconds


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 10), st.integers(0, 6))
def test_health_has_to_come_in_time_and_to_stay(met, within, keep):
    script = Scripted(met)
    wrong = stay_well([script], within / 2, keep / 2, script.wait, lambda: script.now)
    runs = [at for at in range(len(met) - keep) if all(met[at : at + keep + 1])]
    first_failure_after = next(
        (at for at in range(len(met) + within + 1) if at >= within and not (at < len(met) and met[at])), None
    )
    well = any(first_failure_after is None or at + keep < first_failure_after for at in runs)
    assert (wrong == []) == well


def test_mistakes_in_the_section_are_named_with_their_line(tmp_path):
    content = (
        "rosfit: {device_id: bot}\nconnection: {host: x}\nota:\n  enabled: true\n"
        "  gate:\n    - {ros_topic: /battery, at_least: 0.3}\n    - {}\n  install: {method: command}\n"
    )
    with pytest.raises(ConfigError) as wrong:
        parse(content, file="f", folder=tmp_path, env={})
    told = [(problem.line, problem.path) for problem in wrong.value.problems]
    assert (6, "ota.gate[0].msg_type") in told
    assert (7, "ota.gate[1]") in told
    assert (8, "ota.install.command") in told
