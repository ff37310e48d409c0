"""Updates in a real browser, with simulated robots: upload, roll out, see a wave fail and pause, roll back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.dashboard.browser import SHARED_LOOP, Complaints, signed_in
from tests.e2e.site import Site as Stores
from tests.ota.conftest import Site
from tests.ota.test_simulated_fleet import simulated
from tests.server import RunningServer, running_server, until

pytestmark = [pytest.mark.browser, SHARED_LOOP, pytest.mark.timeout(90)]

ROBOTS = 12
PICTURES = os.environ.get("ROSFIT_PICTURES")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as running:
        yield running


async def picture(page: Page, name: str) -> None:
    if PICTURES:
        await page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


async def upload(page: Page, file: Path, version: str) -> None:
    await page.get_by_role("button", name="Upload", exact=True).first.click()
    await page.get_by_label("File").set_input_files(file)
    await page.get_by_label("Name").fill("robot-app")
    await page.get_by_label("Version", exact=True).fill(version)
    await page.get_by_label("simulator").check()
    await picture(page, f"upload-{version}")
    await page.locator("#upload-form").get_by_role("button", name="Upload").click()
    await page.wait_for_url("**/updates/new?artifact=*")


async def roll_out(page: Page, waves: str) -> None:
    await page.get_by_label("By query").check()
    await page.get_by_label("Query", exact=True).fill("type:simulator")
    await page.get_by_label("Waves, in percent").fill(waves)
    await page.get_by_label("but only after").fill("1")
    await expect(page.locator(".look-sum strong")).to_have_text(str(ROBOTS))
    await picture(page, "form")
    await page.get_by_role("button", name="Start", exact=True).click()
    await page.wait_for_url("**/updates/dep_*")


async def test_upload_roll_out_see_a_wave_fail_and_pause_and_roll_back(
    server: RunningServer, browser: Browser, complaints: Complaints, tmp_path: Path
) -> None:
    file = tmp_path / "app.tar.gz"
    file.write_bytes(os.urandom(200_000))
    site, stores = Site(server), Stores(server)
    page = await signed_in(server, browser, complaints, "/updates")
    await expect(page.get_by_role("heading", name="Nothing to install yet")).to_be_visible()
    await picture(page, "empty")
    with simulated(server, ROBOTS, "--update-time", "0.5", "--seed", "6"):
        until(lambda: stores.one("SELECT count(*) FROM devices WHERE status = 'online'") == ROBOTS, 60)
        await upload(page, file, "1.0")
        robot = await page.context.new_page()
        await robot.goto(f"{server.url}/robots/{stores.one('SELECT min(device_id) FROM devices')}")
        await expect(robot.locator("#head-update")).to_be_hidden()
        await roll_out(page, "25, 100")
        await expect(page.locator(".deployment-state")).to_have_text("Finished", timeout=30_000)
        await expect(page.get_by_text("3 of 3 succeeded")).to_be_visible()
        await expect(robot.locator("#head-update dd")).to_have_text("robot-app 1.0")
        await robot.close()
    with simulated(server, ROBOTS, "--update-time", "0.5", "--update-failures", "0.5", "--seed", "6"):
        until(lambda: stores.one("SELECT count(*) FROM devices WHERE status = 'online'") == ROBOTS, 60)
        await page.get_by_role("link", name="Updates", exact=True).click()
        file.write_bytes(os.urandom(200_000))
        await upload(page, file, "2.0")
        await roll_out(page, "50, 100")
        await expect(page.locator(".deployment-state")).to_have_text("Paused", timeout=30_000)
        await expect(page.get_by_role("heading", name="Why robots failed")).to_be_visible()
        await picture(page, "paused")
        deployment = page.url.rpartition("/")[2]
        until(lambda: site.shown(deployment)["counts"].get("succeeded"))
        await page.get_by_role("button", name="Roll back…").click()
        await page.get_by_role("button", name="Roll back", exact=True).click()
        await expect(page.get_by_text("That is neither its name nor its number of robots.")).to_be_visible()
        await page.get_by_label("Type robot-app 2.0 to confirm").fill("robot-app 2.0")
        await picture(page, "confirm")
        await page.get_by_role("button", name="Roll back", exact=True).click()
        await expect(page.locator(".deployment-state")).to_have_text("Rolled back")
        await page.get_by_role("button", name="Log").first.click()
        await expect(page.locator(".step-log li").first).to_be_visible()
        await picture(page, "log")
        await page.get_by_role("button", name="Close").click()
        await page.get_by_role("link", name="Updates", exact=True).click()
        await expect(page.get_by_text("rollback", exact=True)).to_be_visible()
        await picture(page, "list")
    if PICTURES:
        await more_pictures(server, browser, deployment)
    # A 422 of the dialog is what the browser says of any refused form.
    assert [line for line in complaints.lines if "422" not in line] == []


async def more_pictures(server: RunningServer, browser: Browser, deployment: str) -> None:
    looks = {"phone": {"phone": True}, "dark": {"dark": True}, "phone-dark": {"phone": True, "dark": True}}
    for name, look in looks.items():
        for path in ("/updates", f"/updates/{deployment}", "/updates/new"):
            page = await signed_in(server, browser, Complaints(), path, **look)
            await picture(page, f"{path.replace('/', '_').split('dep_')[0]}-{name}")
