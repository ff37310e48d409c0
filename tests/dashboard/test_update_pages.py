"""Updates as pages, without a browser: what they show, refuse, record and cost."""

from __future__ import annotations

import html
import re
from typing import Any

import httpx
import msgspec

from rosfit.fleet.targets import Target
from rosfit.ota import artifacts, progress, repository, service
from rosfit.ota.models import Artifact, NewArtifact, NewDeployment, Stored
from tests.dashboard.conftest import Site
from tests.dashboard.test_pages import add_robot, queries

__all__ = ["queries"]

MAKER = "usr_00000000000000000000000000000000"


async def add_artifact(site: Site, version: str = "1.0.0", **about: Any) -> Artifact:
    """Without its bytes, which no page looks at."""
    new = NewArtifact("app", version, ["ros2_robot"], **about)
    stored = Stored(f"artifacts/{version}", 1_400_000, f"{version:0>64}".replace(".", "0"), "app.tar.gz")
    async with site.edge.open_work() as work:
        await repository.note_unclaimed(work.connection, stored.object_key, 60)
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
        await repository.claim_devices(work.connection, deployment_id, [device_id])
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
