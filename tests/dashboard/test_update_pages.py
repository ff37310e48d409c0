"""Updates as pages, without a browser: what they show, refuse, record and cost."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import httpx
import msgspec
import pytest

from rosfit.accounts import audit as log
from rosfit.fleet.targets import Target
from rosfit.ota import artifact_rows, artifacts, device_rows, progress, service
from rosfit.ota.models import Artifact, NewArtifact, NewDeployment, Stored
from tests.dashboard.conftest import Site
from tests.dashboard.test_pages import HTMX, OWN, _queries, add_robot, queries

__all__ = ["queries"]

MAKER = "usr_00000000000000000000000000000000"


async def add_artifact(site: Site, version: str = "1.0.0", **about: Any) -> Artifact:
    """Without its bytes, which no page looks at."""
    new = NewArtifact("app", version, ["ros2_robot"], **about)
    stored = Stored(f"artifacts/{version}", 1_400_000, f"{version:0>64}".replace(".", "0"), "app.tar.gz")
    async with site.edge.open_work() as work:
        await artifact_rows.note_unclaimed(work.connection, stored.object_key, 60)
        artifact, _ = await artifacts.create(work, new, stored, MAKER)
    return artifact


async def deploy(site: Site, artifact: Artifact, *devices: str, begin: bool = True, **rules: Any) -> str:
    new = NewDeployment(artifact_id=artifact.artifact_id, target=Target(device_ids=list(devices)), **rules)
    async with site.edge.open_work() as work:
        deployment_id = await service.create(work, new, MAKER)
        if begin:
            await service.start(work, deployment_id, MAKER, site.edge.update_notice)
    return deployment_id


async def report(site: Site, deployment_id: str, device_id: str, status: str, **more: Any) -> None:
    """What a robot says that has its trigger."""
    said = msgspec.json.encode({"deployment_id": deployment_id, "status": status, **more})
    async with site.edge.open_work() as work:
        await device_rows.claim_devices(work.connection, deployment_id, [device_id])
        await progress.take_report(work, device_id, said, site.edge.update_notice)


def shown(answer: httpx.Response, status: int = 200) -> str:
    """What a reader sees, on one line."""
    assert answer.status_code == status, answer.text
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


async def look(site: Site, path: str) -> str:
    return shown(await site.client.get(path))


async def test_a_robot_says_what_it_runs_and_how_far_its_update_is(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    assert "Software" not in (await site.client.get("/robots/bot/update")).text.split("hidden>")[0]
    first = await deploy(site, await add_artifact(site), "bot")
    assert await look(site, "/robots/bot/update") == "Software Update to 1.0.0 waits"
    await report(site, first, "bot", "downloading", percent=41.6)
    answer = await site.client.get("/robots/bot/update")
    assert shown(answer) == "Software Downloading 42 %"
    assert f'href="/updates/{first}"' in answer.text
    await report(site, first, "bot", "installing")
    assert await look(site, "/robots/bot/update") == "Software Installing"
    await report(site, first, "bot", "succeeded")
    assert await look(site, "/robots/bot/update") == "Software app 1.0.0"
    assert "Software app 1.0.0" in await look(site, "/robots/bot")
    second = await deploy(site, await add_artifact(site, "2.0.0"), "bot")
    await report(site, second, "bot", "rejected", error="not now")
    assert await look(site, "/robots/bot/update") == "Software app 1.0.0"


async def test_who_is_limited_to_other_robots_sees_nothing_of_its_update(site: Site) -> None:
    await add_robot(site, "bot")
    await site.sign_in_as("viewer", only_tags=["mine"])
    assert (await site.client.get("/robots/bot/update")).status_code == 404


BUTTONS = ("Start", "Approve", "Resume", "Pause", "Retry failed", "Roll back…", "Abort…")


async def buttons(site: Site, deployment_id: str) -> list[str]:
    answer = await site.client.get(f"/updates/{deployment_id}")
    found = re.findall(r"<button[^>]*>([^<]*)</button>", answer.text)
    return [word for word in BUTTONS if word in found]


async def act(site: Site, deployment_id: str, action: str, **form: str) -> httpx.Response:
    return await site.client.post(f"/updates/{deployment_id}/{action}", data=form, headers=HTMX | OWN)


async def test_buttons_are_those_that_status_and_right_allow(site: Site) -> None:
    await add_robot(site, "bot")
    draft = await deploy(site, await add_artifact(site), "bot", begin=False)
    await site.sign_in_as("viewer")
    assert await buttons(site, draft) == []
    assert (await act(site, draft, "start")).status_code == 403
    await site.sign_in_as("engineer")
    assert await buttons(site, draft) == ["Start", "Abort…"]
    assert "If it began now 1 robot would be updated, 0 of them could begin at once" in await look(
        site, f"/updates/{draft}"
    )
    assert "Wave 1 of 1" in shown(await act(site, draft, "start"))
    assert await buttons(site, draft) == ["Pause", "Abort…"]
    assert "Paused" in shown(await act(site, draft, "pause"))
    assert await buttons(site, draft) == ["Resume", "Abort…"]
    await report(site, draft, "bot", "failed", error={"code": "NO_SPACE", "message": "disk full"})
    assert await buttons(site, draft) == ["Resume", "Retry failed", "Abort…"]
    refused = shown(await act(site, draft, "start"))
    assert f"{draft} is paused; start takes one that is draft" in refused
    async with site.edge.open_work() as work:
        recorded = [entry.action for entry in (await log.find(work, {"target": draft}, None, 9)).items]
    assert recorded == ["deployment.stopped", "deployment.pause", "deployment.start"]


async def test_somebody_else_has_to_approve(site: Site) -> None:
    await add_robot(site, "bot")
    artifact = await add_artifact(site)
    await site.sign_in_as("engineer")
    form = {"artifact_id": artifact.artifact_id, "by": "query", "query": "bot", "waves": "100"}
    form |= {"success_threshold": "100", "failure_threshold": "10", "min_sample": "1", "on_failure": "pause"}
    form |= {"max_in_progress": "5", "deadline_minutes": "60", "min_battery": "20", "requires_approval": "yes"}
    made = await site.client.post("/updates", data=form, headers=HTMX | OWN)
    deployment = made.headers["HX-Redirect"].rpartition("/")[2]
    assert await buttons(site, deployment) == ["Abort…"]
    assert "Somebody else has to approve it" in await look(site, f"/updates/{deployment}")
    assert "Whoever made or started it" in shown(await act(site, deployment, "approve"))
    await site.sign_in_as("admin")
    assert await buttons(site, deployment) == ["Approve", "Abort…"]
    approved = shown(await act(site, deployment, "approve"))
    assert "Begun now by engineer@example.org" in approved
    assert "Approved now by admin@example.org" in approved


async def test_what_cannot_be_taken_back_for_many_robots_is_confirmed_by_typing(site: Site) -> None:
    await site.sign_in_as("engineer")
    robots = [f"bot-{number:02d}" for number in range(11)]
    for robot in robots:
        await add_robot(site, robot)
    deployment = await deploy(site, await add_artifact(site), *robots)
    dialog = shown(await site.client.get(f"/updates/{deployment}/confirm/abort", headers=HTMX))
    assert "Type app 1.0.0 to confirm" in dialog
    for typed in ({}, {"typed": "app"}):
        assert (await act(site, deployment, "abort", **typed)).status_code == 422
    assert "Wave 1 of 1" in await look(site, f"/updates/{deployment}")
    assert "Aborted" in shown(await act(site, deployment, "abort", typed="app 1.0.0"))
    few = await deploy(site, await add_artifact(site, "2.0.0"), *robots[:10])
    assert "Type" not in shown(await site.client.get(f"/updates/{few}/confirm/abort", headers=HTMX))
    assert "Aborted" in shown(await act(site, few, "abort"))


async def test_a_deployment_says_how_each_robot_is_and_why(site: Site) -> None:
    await site.sign_in_as("viewer")
    for robot in ("bot-1", "bot-2", "bot-3", "bot-4"):
        await add_robot(site, robot)
    deployment = await deploy(
        site, await add_artifact(site), "bot-1", "bot-2", "bot-3", "bot-4", waves=[50, 100], failure_threshold=60
    )
    await report(site, deployment, "bot-1", "downloading", percent=30, detail="waits for its dock")
    await report(site, deployment, "bot-2", "failed", error={"code": "NO_SPACE", "message": "disk full"})
    page = await look(site, f"/updates/{deployment}")
    assert "0 of 2 succeeded, 1 failed (50 %)" in page
    assert "1 NO_SPACE disk full failed bot-2" in page
    assert "Downloading 30 % waits for its dock" in page
    assert "Waiting its wave has not begun" in page
    only = await look(site, f"/updates/{deployment}?status=failed")
    assert "bot-2 Wave 1 Failed disk full" in only
    assert "waits for its dock" not in only
    await report(site, deployment, "bot-2", "succeeded")
    steps = shown(await site.client.get(f"/updates/{deployment}/devices/bot-2", headers=HTMX))
    assert "Failed NO_SPACE disk full" in steps
    assert "Updated changed nothing: its update had ended." in steps


async def test_a_roll_back_leads_to_where_robots_go_back(site: Site) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot")
    for version in ("1.0.0", "2.0.0"):
        deployment = await deploy(site, await add_artifact(site, version), "bot")
        await report(site, deployment, "bot", "succeeded")
    page = shown(await act(site, deployment, "rollback"))
    assert "Robots go back to app 1.0.0 : running, 0 of 1 updated." in page


async def send_file(site: Site, data: bytes, **fields: str) -> httpx.Response:
    form = {"name": "app", "version": "1.0.0", "device_types": "ros2_robot,simulator"} | fields
    headers = {"Accept": "application/json"} | OWN
    file = {"file": ("app.tar.gz", data)}
    return await site.client.post("/updates/artifacts", data=form, files=file, headers=headers)


async def test_deployments_are_filtered_by_status(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    for version, begin in (("1.0.0", False), ("2.0.0", True)):
        await deploy(site, await add_artifact(site, version), "bot", begin=begin)
    page = await look(site, "/updates?status=draft")
    assert "app 1.0.0 1 robot Draft" in page
    assert "app 2.0.0 1 robot" not in page
    assert "No deployment has this status." in await look(site, "/updates?status=aborted")
    assert "app 2.0.0 1 robot" in await look(site, "/updates?status=nonsense")
    again = re.search(r'id="updates-board"[^>]*hx-get="([^"]+)"', (await site.client.get("/updates?status=draft")).text)
    assert again is not None
    assert again[1] == "/updates?status=draft"


async def test_a_version_leads_to_its_robots_whatever_its_name(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    await add_robot(site, "other")
    name = 'app "x" & co'
    async with site.edge.open_work() as work:
        firmware = json.dumps({"name": name, "version": "1"})
        await work.connection.execute("UPDATE devices SET firmware = %s WHERE device_id = 'bot'", [firmware])
    page = (await site.client.get("/updates")).text
    [link] = re.findall(r'href="(/\?q=[^"]+)"', page)
    assert "1 of 1 robot" in await look(site, html.unescape(link))


async def test_an_upload_leads_on_or_says_what_is_wrong(site: Site) -> None:
    await site.sign_in_as("engineer")
    sent = await send_file(site, b"first")
    assert (sent.status_code, sent.json()["location"][:26]) == (200, "/updates/new?artifact=art_")
    assert (await send_file(site, b"first")).json() == sent.json()
    for status, word, data, fields in (
        (409, "choose a new version", b"other", {}),
        (400, "The file is empty", b"", {"version": "2"}),
        (422, "Version: begin with a letter or digit", b"x", {"version": "not a version"}),
        (422, "Choose at least one type", b"x", {"version": "2", "device_types": ""}),
        (422, "No trusted key", b"x", {"version": "2", "signature": "AA==", "key_id": "nobody"}),
    ):
        answer = await send_file(site, data, **fields)
        assert answer.status_code == status, answer.text
        assert word in answer.json()["problem"]
    async with site.edge.open_work() as work:
        [artifact] = (await artifacts.find(work, None, None, None, 9)).items
        [entry] = (await log.find(work, {"target": artifact.artifact_id}, None, 9)).items
        swept = await work.connection.execute("SELECT count(*) FROM unclaimed_objects WHERE discard_at > now()")
        assert await swept.fetchone() == (0,), "what was refused is to be kept no longer"
    assert (artifact.size, entry.action) == (5, "artifact.upload")


@pytest.mark.parametrize(
    ("path", "headers", "count"),
    [("/updates", {}, 6), ("/updates", HTMX, 6), ("/updates/new", {}, 6), ("/updates/DEPLOYMENT", {}, 7)],
)
async def test_a_page_about_updates_costs_so_many_queries(
    site: Site, queries: list[str], path: str, headers: dict[str, str], count: int
) -> None:
    """However many deployments and robots there are."""
    await site.sign_in_as("engineer")
    robots = [f"bot-{number}" for number in range(6)]
    for robot in robots:
        await add_robot(site, robot)
    first, second = [await add_artifact(site, version) for version in ("1.0.0", "2.0.0")]
    await deploy(site, first, *robots[:3])
    deployment = await deploy(site, second, *robots)
    await report(site, deployment, "bot-1", "failed", error="no")
    _queries.set(queries)
    answer = await site.client.get(path.replace("DEPLOYMENT", deployment), headers=headers)
    _queries.set(None)
    assert answer.status_code == 200
    assert len(queries) == count, "\n".join(queries)
