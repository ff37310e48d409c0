"""The form of a deployment without a browser: whom it means, what it says of its rules, and what it refuses."""

from __future__ import annotations

import httpx
import pytest

from rosfit.dashboard.deployment_form import EMPTY, in_words, new_deployment
from rosfit.kernel.errors import InvalidError
from rosfit.ota import artifact_rows, artifacts
from rosfit.ota.models import NewArtifact, Stored
from tests.dashboard.conftest import Site
from tests.dashboard.test_access_pages import shown
from tests.dashboard.test_pages import HTMX, OWN, add_robot


@pytest.fixture
async def artifact_id(site: Site) -> str:
    """An artifact, and an engineer who may roll it out to three robots, one of them of another type."""
    await site.sign_in_as("engineer")
    await add_robot(site, "dock-1", tags=["dock"])
    await add_robot(site, "hall-1", tags=["hall"])
    await add_robot(site, "mcu-1", type="micro_ros_mcu", tags=["dock"])
    async with site.edge.open_work() as work:
        await artifact_rows.note_unclaimed(work.connection, "obj", 60)
        new = NewArtifact("robot-app", "2.0", ["ros2_robot"])
        artifact, _ = await artifacts.create(work, new, Stored("obj", 8, "ab" * 32, "app.tar"), "usr_1")
    return artifact.artifact_id


async def preview(site: Site, artifact_id: str, **typed: str) -> httpx.Response:
    form = EMPTY | {"artifact_id": artifact_id} | typed
    return await site.client.post("/updates/preview", data=form, headers=HTMX | OWN)


@pytest.mark.parametrize(
    ("typed", "count"),
    [
        ({"by": "query", "query": "tag:hall,dock"}, 2),
        ({"by": "tag", "tag": "dock"}, 1),
        ({"by": "device_ids", "device_ids": "dock-1, hall-1\nnobody"}, 2),
        ({"by": "something else", "query": "dock"}, 1),
    ],
)
async def test_each_way_to_name_robots(site: Site, artifact_id: str, typed: dict[str, str], count: int) -> None:
    page = shown(await preview(site, artifact_id, **typed))
    assert page.startswith(f" {count} robot")
    assert f"Would wait {count} offline" in page


async def test_who_is_left_out_is_named_with_the_reason(site: Site, artifact_id: str) -> None:
    page = shown(await preview(site, artifact_id, by="device_ids", device_ids="dock-1 mcu-1 nobody"))
    assert "1 not of a type or version that this can replace mcu-1" in page
    assert "1 not registered nobody" in page


def test_the_rules_are_said_in_words() -> None:
    typed = {"cron": "0 22 * * 1-5", "requires_approval": "yes", "rate_per_minute": "5", "min_sample": "1"}
    assert list(in_words(new_deployment(EMPTY | {"artifact_id": "art_1"} | typed))) == [
        "A wave gives way to the next one once 95 % of all its robots have been updated, or all of them have ended",
        "When more than 5 % of all robots of a wave have failed, and 1 robot or more ended, "
        "it pauses until somebody decides",
        "At most 20 robots update at the same time, and 5 a minute",
        "A robot that has not ended 60 minutes after it was told has failed",
        "One whose battery is below 20 % waits",
        "Robots begin within 4 h of '0 22 * * 1-5', each in its own timezone, or in UTC where it has none",
        "Nothing begins before a second person has approved it",
    ]


@pytest.mark.parametrize(
    ("field", "typed", "why"),
    [
        ("waves", "10, half, 100", "Write the waves in percent"),
        ("success_threshold", "101", "the share that has to succeed"),
        ("failure_threshold", "", "the share that may fail"),
        ("min_sample", "0", "have to end first"),
        ("max_in_progress", "many", "at the same time"),
        ("rate_per_minute", "0.5", "robots a minute"),
        ("deadline_minutes", "soon", "minutes that a robot has"),
        ("deadline_minutes", "nan", "minutes that a robot has"),
        ("min_battery", "-1", "battery in percent"),
        ("device_ids", "a/b", "Write the robots' ids"),
    ],
)
def test_what_cannot_be_says_what_is_expected(field: str, typed: str, why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        new_deployment(EMPTY | {"by": "device_ids" if field == "device_ids" else "query", field: typed})


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ({"waves": "nan, 100"}, "percentages above 0"),
        ({"waves": "50, 10, 100"}, "each is larger"),
        ({"query": "battery<"}, "battery"),
        ({"query": ""}, "names no device"),
        ({"cron": "at night"}, "five fields"),
        ({"cron": "0 22 * * *", "timezone": "Berlin"}, "Europe/Berlin"),
        ({"by": "group", "group": "gone"}, "gone"),
    ],
)
async def test_the_preview_says_why_there_is_none(
    site: Site, artifact_id: str, typed: dict[str, str], why: str
) -> None:
    answer = await preview(site, artifact_id, **typed)
    assert (answer.status_code, why in shown(answer)) == (200, True), shown(answer)


async def test_artifacts_say_what_needs_them_and_why_they_stay(site: Site, artifact_id: str) -> None:
    form = EMPTY | {"artifact_id": artifact_id, "query": "dock", "then": "draft"}
    made = await site.client.post("/updates", data=form, headers=HTMX | OWN)
    deployment = made.headers["hx-redirect"].rpartition("/")[2]
    assert f'href="/updates/{deployment}" title' in (await site.client.get("/updates")).text
    refused = await site.client.post(f"/updates/artifacts/{artifact_id}/delete", headers=OWN)
    assert (refused.status_code, f"{deployment} need it: abort them first" in refused.text) == (409, True)
