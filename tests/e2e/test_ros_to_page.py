"""From a ROS node to a person's eyes: everything between them is real."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import websockets
from playwright.async_api import Page, expect

from tests.dashboard.browser import Complaints, chromium, new_page
from tests.e2e.robot_side import cable_to, robot
from tests.e2e.site import Site
from tests.server import ADMIN_EMAIL, PASSWORD, until

ROBOT = "bot-01"

# Pixels of a line in its colour; axes and grid are grey.
INK = """() => {
  let ink = 0;
  for (const canvas of document.querySelectorAll("#chart-body canvas")) {
    // From a copy: reading the page's own canvas again and again makes the browser warn.
    const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
    const pen = copy.getContext("2d", { willReadFrequently: true });
    pen.drawImage(canvas, 0, 0);
    const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
    for (let at = 0; at < data.length; at += 4) {
      const parts = [data[at], data[at + 1], data[at + 2]];
      if (data[at + 3] > 128 && Math.max(...parts) - Math.min(...parts) > 60) ink += 1;
    }
  }
  return ink;
}"""


async def eventually(look: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool], within_s: float = 30) -> Any:
    async with asyncio.timeout(within_s):
        while not wanted(seen := await look()):
            await asyncio.sleep(0.1)
    return seen


async def sign_in(page: Page, base: str) -> None:
    await page.goto(f"{base}/sign-in")
    await page.get_by_label("E-mail").fill(ADMIN_EMAIL)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"{base}/")


@pytest.mark.browser
async def test_a_person_sees_the_robot_move(site, tmp_path):
    """Rows in PostgreSQL, messages on /ws, changing values and a growing chart, and not one complaint."""
    site.register(ROBOT)
    token = site.server.admin.device_token(ROBOT)
    with robot(tmp_path, ROBOT, site.server.mqtt_port, token):
        for stream in ("odom", "battery"):
            await asyncio.to_thread(until, lambda stream=stream: site.stored(stream) > 0, 40)
        await websocket_delivers(site)
        await page_shows(site)
    frame = site.server.admin.get(f"/devices/{ROBOT}/blobs/image/latest")
    assert (frame.status_code, frame.headers["content-type"]) == (200, "image/jpeg")
    assert site.status(ROBOT)[0] in {"online", "offline"}
    assert site.rows("SELECT reason, detail FROM dead_letters") == []


async def websocket_delivers(site: Site) -> None:
    async with websockets.connect(f"{site.server.websocket_url}?token={site.server.admin.token}") as socket:
        await socket.send(json.dumps({"type": "subscribe", "channel": f"telemetry:{ROBOT}:odom"}))
        async with asyncio.timeout(20):
            while (message := json.loads(await socket.recv()))["type"] != "telemetry":
                pass
    assert -6 < message["data"]["payload"]["pose"]["pose"]["position"]["x"] < 6


async def page_shows(site: Site) -> None:
    complaints = Complaints()
    async with chromium() as browser:
        page = await new_page(browser, complaints)
        await sign_in(page, site.server.url)
        await page.get_by_role("link", name=ROBOT).first.click()
        await expect(page.locator("#head-status")).to_contain_text("Online", ignore_case=True)
        value = page.locator("#chart-body output").first
        shown = await eventually(value.text_content, bool)
        await eventually(value.text_content, lambda text: text and text != shown)
        ink = await page.evaluate(INK)
        await eventually(lambda: page.evaluate(INK), lambda more: more > ink + 20)
        # Pictures are fetched while somebody can see them.
        camera = page.get_by_role("region", name="Camera image")
        await camera.scroll_into_view_if_needed()
        await expect(camera.get_by_role("img")).to_be_visible(timeout=30_000)
    assert complaints.lines == []


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.full)])
async def test_the_bridge_is_cut_off(site, tmp_path, seconds):
    """Every QoS 1 sample taken while the broker could not be reached arrives after, in order, each once."""
    site.register(ROBOT)
    token = site.server.admin.device_token(ROBOT)
    async with cable_to(site.server.mqtt_port) as cable:
        with robot(tmp_path, ROBOT, cable.port, token):
            await asyncio.to_thread(until, lambda: site.stored("odom") > 20, 40)
            cable.cut()
            await asyncio.sleep(seconds)
            before = site.stored("odom")
            cable.mend()
            # As many as were taken meanwhile, and some more.
            await asyncio.to_thread(until, lambda: site.stored("odom") > before + 20 * seconds + 40, 60)
        rows = site.rows("SELECT seq FROM telemetry WHERE stream = 'odom' ORDER BY received_at, seq")
        found = [seq for (seq,) in rows]
    assert found == list(range(found[0], found[0] + len(found)))
    assert found[0] == 1
