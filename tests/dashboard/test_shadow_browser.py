"""A shadow in a real browser, with a server and a device: live, edited, in conflict, and gone back on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from tests.commands.test_commands import Device
from tests.dashboard.browser import SHARED_LOOP, Complaints, signed_in
from tests.server import RunningServer, running_server

pytestmark = [pytest.mark.browser, SHARED_LOOP, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as running:
        yield running


def desire(server: RunningServer, device_id: str, state: object) -> None:
    server.admin.patch(f"/shadow/{device_id}/desired", json={"state": state}).raise_for_status()


async def test_from_the_first_wish_to_in_sync_without_reloading(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with Device(server, "first", row="shadow/delta") as device:
        page = await signed_in(server, browser, complaints, "/robots/first")
        await page.get_by_role("link", name="Shadow").click()
        await expect(page.get_by_role("heading", name="This robot has no shadow yet")).to_be_visible()
        await page.get_by_role("link", name="Edit desired").click()
        await page.get_by_label("Key", exact=True).fill("nav.speed")
        await page.get_by_label("Value", exact=True).fill("1.5")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="1 change")).to_be_visible()
        await page.get_by_label("Reason").fill("first wish")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Saved as version 1")).to_be_visible()
        await expect(page.get_by_role("heading", name="Never reported")).to_be_visible()
        device.say("shadow/reported", {"state": {"nav": {"speed": 0.5}}})
        await expect(page.get_by_role("heading", name="Pending for")).to_be_visible()
        device.say("shadow/reported", {"state": {"nav": {"speed": 1.5}}})
        await expect(page.get_by_role("heading", name="In sync")).to_be_visible()
        await page.get_by_role("link", name="History").click()
        await expect(page.get_by_text("first wish")).to_be_visible()
    assert complaints.lines == []


@pytest.mark.full
async def test_edits_survive_switching_and_somebody_else(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    server.admin.device("second")
    desire(server, "second", {"speed": 1, "mode": "slow"})
    page = await signed_in(server, browser, complaints, "/robots/second/shadow")
    await page.get_by_role("link", name="Edit desired").click()
    await page.get_by_role("textbox", name="speed number").fill("2")
    await page.get_by_role("button", name="JSON").click()
    await expect(page.get_by_label("Desired as JSON")).to_have_value('{\n  "mode": "slow",\n  "speed": 2\n}')
    await page.get_by_role("button", name="Form").click()
    await expect(page.get_by_role("textbox", name="speed number")).to_have_value("2")
    notice = page.get_by_text("Somebody else changed what is desired meanwhile")
    await expect(notice).to_be_hidden()
    desire(server, "second", {"speed": 3, "lidar": True})
    await expect(notice).to_be_visible()
    await page.get_by_role("button", name="Preview").click()
    await expect(page.get_by_role("heading", name="Somebody else changed this meanwhile")).to_be_visible()
    await expect(page.locator("#review")).to_be_focused()
    await page.get_by_role("button", name="Bring together").click()
    await expect(page.get_by_role("heading", name="1 change")).to_be_visible()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Saved as version 3")).to_be_visible()
    assert server.admin.got("/shadow/second")["state"]["desired"] == {"speed": 2, "mode": "slow", "lidar": True}
    # The browser itself says so of every answer that is a conflict.
    assert [line for line in complaints.lines if "409 (Conflict)" not in line] == []


async def test_going_back_asks_first(server: RunningServer, browser: Browser, complaints: Complaints) -> None:
    server.admin.device("third")
    for speed in (1, 2):
        desire(server, "third", {"speed": speed})
    page = await signed_in(server, browser, complaints, "/robots/third/shadow/history")
    await page.get_by_role("button", name="Compare").click()
    await expect(page.get_by_role("heading", name="From version 1 to 2")).to_be_visible()
    await page.get_by_role("button", name="Go back to version 1").click()
    await page.get_by_role("button", name="Go back", exact=True).last.click()
    await expect(page.get_by_text("restored from version 1")).to_be_visible()
    assert server.admin.got("/shadow/third")["state"]["desired"] == {"speed": 1}
    assert complaints.lines == []


async def test_the_fleet_follows_a_shadow(server: RunningServer, browser: Browser, complaints: Complaints) -> None:
    with Device(server, "fourth", row="shadow/delta") as device:
        device.say("shadow/reported", {"state": {"speed": 1}})
        page = await signed_in(server, browser, complaints, "/")
        row = page.locator("#row-fourth")
        desire(server, "fourth", {"speed": 2})
        await expect(row.locator(".cell-drift")).to_contain_text("Pending")
        # Being heard of is another age than that of the wish.
        since = await row.locator(".cell-drift .age").get_attribute("data-age")
        heard = await row.locator(".cell-age .age").get_attribute("data-age")
        device.say("telemetry/odom", {"x": 1})
        await expect(row.locator(".cell-age .age")).not_to_have_attribute("data-age", str(heard))
        await expect(row.locator(".cell-drift .age")).to_have_attribute("data-age", str(since))
        device.say("shadow/reported", {"state": {"speed": 2}})
        await expect(row.get_by_role("link", name="In sync")).to_be_visible()
    assert complaints.lines == []


@pytest.mark.full
async def test_the_fleets_values_reach_a_robots_page(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    server.admin.device("fifth")
    page = await signed_in(server, browser, complaints, "/groups")
    await page.get_by_role("link", name="Fleet values").click()
    await page.get_by_role("link", name="Whole fleet").click()
    await page.get_by_role("link", name="Edit values").click()
    await page.get_by_label("Key", exact=True).fill("nav.speed")
    await page.get_by_label("Value", exact=True).fill("0.75")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="robots would change")).to_be_visible()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Saved as version 1.")).to_be_visible()
    await expect(page.get_by_role("rowheader", name="nav.speed")).to_be_visible()
    await page.goto(f"{server.url}/robots/fifth/shadow")
    await expect(page.get_by_role("link", name="fleet values")).to_be_visible()
    server.admin.delete("/shadow-layers/fleet").raise_for_status()
    await expect(page.get_by_text("Nothing is desired")).to_be_visible()
    assert complaints.lines == []
