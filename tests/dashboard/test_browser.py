"""Everything at once: `rosfit serve`, a device on the broker with the credential of the dialog, a real browser."""

from __future__ import annotations

import asyncio
import html
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import aiomqtt
import httpx
import pytest
from PIL import Image
from playwright.async_api import Browser, Page, expect

from tests.dashboard.browser import DESK, PHONE, SHARED_LOOP, Complaints, chromium, new_page, set_up
from tests.dashboard.conftest import Running, start

pytestmark = [pytest.mark.browser, SHARED_LOOP]

OWN = {"Sec-Fetch-Site": "same-origin"}

# How much of the page has jumped since it was opened.
SHIFTED = """new Promise((resolve) => {
  let sum = 0;
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => (sum += entry.value))).observe(
    { type: "layout-shift", buffered: true });
  requestAnimationFrame(() => setTimeout(() => resolve(sum), 50));
})"""


@dataclass
class Place:
    """A running server with an account, whose session is `cookies`."""

    base: str
    mqtt_port: int
    cookies: list[Any]

    def add_robot(self, device_id: str, **form: str) -> str:
        """The token of a new device, as the dialog shows it."""
        cookies = {cookie["name"]: cookie["value"] for cookie in self.cookies}
        data = {"device_id": device_id, "type": "mqtt_device"} | form
        answer = httpx.post(f"{self.base}/add-robot", data=data, headers=OWN, cookies=cookies)
        return token_of(html.unescape(answer.text))

    async def page(self, browser: Browser, complaints: Complaints, **look: Any) -> Page:
        page = await new_page(browser, complaints, **look)
        await page.context.add_cookies(self.cookies)
        return page


def token_of(command: str) -> str:
    match = re.search(r"rfd_[\w-]+", command)
    assert match, command
    return match[0]


@pytest.fixture(scope="package")
def place(running: Running) -> Place:
    """The first account is made in the browser, at the address that `rosfit serve` prints."""

    async def first_account() -> list[Any]:
        complaints = Complaints()
        async with chromium() as browser:
            page = await new_page(browser, complaints)
            await set_up(page, running.base, running.setup_token)
            await expect(page.get_by_role("heading", name="No robots yet")).to_be_visible()
            assert complaints.lines == []
            return list(await page.context.cookies())

    return Place(running.base, running.settings.mqtt_port, asyncio.run(first_account()))


class Robot:
    def __init__(self, client: aiomqtt.Client, device_id: str) -> None:
        self._client = client
        self._device_id = device_id

    async def say(self, suffix: str, payload: Any, qos: int = 1) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload)
        await self._client.publish(f"rosfit/{self._device_id}/{suffix}", data, qos=qos)


@asynccontextmanager
async def connected(place: Place, device_id: str, token: str) -> AsyncIterator[Robot]:
    """A device on the broker. A credential is known there a moment after it was given out."""
    for attempt in range(50):
        client = aiomqtt.Client("127.0.0.1", place.mqtt_port, username=device_id, password=token, identifier=device_id)
        try:
            await client.__aenter__()
            break
        except aiomqtt.MqttError:
            if attempt == 49:
                raise
            await asyncio.sleep(0.1)
    try:
        robot = Robot(client, device_id)
        await robot.say("status", {"status": "online"})
        yield robot
    finally:
        await client.__aexit__(None, None, None)


def odometry(x: float, y: float, speed: float) -> dict[str, Any]:
    pose = {"position": {"x": x, "y": y, "z": 0.0}, "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}}
    return {"pose": {"pose": pose}, "twist": {"twist": {"linear": {"x": speed, "y": 0.0, "z": 0.0}}}}


def picture(color: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (64, 48), color).save(file, "JPEG")
    return file.getvalue()


async def test_from_the_dialog_to_a_live_page(place: Place, browser: Browser, complaints: Complaints) -> None:
    """Add a robot, connect it with what the dialog shows, see the list tick off and the values move."""
    page = await place.page(browser, complaints)
    await page.goto(place.base)
    await page.get_by_role("button", name="Add robot").first.click()
    await page.get_by_label("Id", exact=True).fill("dialog-bot")
    await page.get_by_label("Name", exact=False).last.fill("The Dialog Bot")
    await page.get_by_role("button", name="Register").click()
    token = token_of(await page.locator("#command").inner_text())
    steps = page.locator("#checklist > li")
    await expect(steps.nth(0)).to_have_attribute("data-state", "done")
    await expect(steps.nth(1)).to_have_attribute("data-state", "waiting")
    async with connected(place, "dialog-bot", token) as robot:
        await expect(steps.nth(1)).to_have_attribute("data-state", "done", timeout=15_000)
        await robot.say("telemetry/odom", odometry(1.0, 2.0, 0.25))
        await expect(steps.nth(2)).to_have_attribute("data-state", "done", timeout=15_000)
        await page.get_by_role("link", name="Open The Dialog Bot").click()
        await expect(page.locator("#head-status")).to_have_text("Online")
        await watch_values(page, robot)
        await watch_pictures_and_logs(page, robot)
        await watch_battery(page, robot)
        await download_odometry(page)
    assert complaints.lines == []


async def watch_values(page: Page, robot: Robot) -> None:
    """A card's number and the chart's newest value follow what the robot says, and the path appears."""
    card = page.get_by_role("article", name="odom")
    speed = card.get_by_role("button", name="twist.linear.x")
    await expect(speed).to_contain_text("0.250 m/s")
    await expect(page.locator(".series-key output")).to_have_text("0.250")
    await expect(page.locator("#path")).to_be_visible()
    for step in range(1, 5):
        await robot.say("telemetry/odom", odometry(1.0 + step, 2.0, 0.25 + step / 4))
        await expect(speed).to_contain_text(f"{0.25 + step / 4:.3f} m/s")
        await expect(page.locator("#path-note")).to_contain_text(f"x {1 + step:.2f}")
    await expect(page.locator(".series-key output")).not_to_have_text("0.250")


async def watch_pictures_and_logs(page: Page, robot: Robot) -> None:
    await robot.say("blob/image", picture("navy"), qos=0)
    image = page.get_by_role("img", name="Newest picture of image")
    await page.get_by_role("region", name="Camera image").scroll_into_view_if_needed()
    await expect(image).to_be_visible()
    first = await image.get_attribute("src")
    await robot.say("blob/image", picture("orange"), qos=0)
    await expect(image).not_to_have_attribute("src", first or "")
    await robot.say("log", {"level": "warn", "message": "the wheel slips", "logger": "drive"})
    await expect(page.locator("#log-lines")).to_contain_text("the wheel slips")


async def watch_battery(page: Page, robot: Robot) -> None:
    await robot.say("telemetry/status", {"battery": 17.0, "cpu": 40.0})
    await expect(page.locator("#head-battery")).to_contain_text("17 %")
    await expect(page.locator("#head-battery .battery")).to_have_attribute("data-level", "low")


async def download_odometry(page: Page) -> None:
    """The dialog closes, and the file has a column for each value."""
    dialog = page.get_by_role("dialog")
    await page.get_by_role("button", name="Download").click()
    await dialog.get_by_label("Stream").select_option("odom")
    async with page.expect_download() as begun:
        await dialog.get_by_role("button", name="Download").click()
    download = await begun.value
    assert download.suggested_filename == "dialog-bot.csv"
    head, *rows = (await asyncio.to_thread(Path(await download.path()).read_text)).splitlines()
    assert "twist.twist.linear.x" in head.split(",")
    assert len(rows) == 5
    await expect(dialog).to_be_hidden()


async def test_the_fleet_changes_without_being_loaded_again(
    place: Place, browser: Browser, complaints: Complaints
) -> None:
    token = place.add_robot("fleet-bot")
    page = await place.page(browser, complaints)
    await page.goto(f"{place.base}/?q=fleet-bot")
    await page.evaluate("document.body.dataset.same = 'yes'")
    row = page.locator("#row-fleet-bot")
    await expect(row.locator(".age")).to_have_text("never")
    async with connected(place, "fleet-bot", token) as robot:
        await expect(row.locator(".status")).to_have_text("Online")
        await expect(page.locator("#chip-online .count")).to_have_text("1")
        await robot.say("telemetry/status", {"battery": 63})
        await expect(row.locator(".battery")).to_contain_text("63 %")
        await expect(row.locator(".age")).to_have_text("now")
        await robot.say("status", {"status": "offline", "reason": "shutdown"})
        await expect(row.locator(".status")).to_have_text("Offline")
        await expect(page.locator("#chip-offline .count")).to_have_text("1")
    await expect(row.locator(".age")).not_to_have_text("now")
    assert await page.evaluate("document.body.dataset.same") == "yes"
    assert complaints.lines == []


@pytest.mark.full
async def test_filters_are_in_the_address_and_back_undoes_them(
    place: Place, browser: Browser, complaints: Complaints
) -> None:
    for device_id in ("lift-1", "lift-2", "cart-1"):
        place.add_robot(device_id)
    page = await place.page(browser, complaints)
    await page.goto(place.base)
    await page.get_by_role("searchbox").press_sequentially("lift", delay=20)
    await expect(page.locator("tr[data-device]")).to_have_count(2)
    await expect(page).to_have_url(f"{place.base}/?q=lift")
    await page.locator("#chip-online").click()
    await expect(page.get_by_role("heading", name="No robot matches")).to_be_visible()
    await expect(page).to_have_url(f"{place.base}/?status=online&q=lift")
    await page.go_back()
    await expect(page.locator("tr[data-device]")).to_have_count(2)
    await expect(page.get_by_role("searchbox")).to_have_value("lift")
    await page.locator("#row-lift-2").get_by_role("link").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="lift-2", exact=True)).to_be_visible()
    assert complaints.lines == []


@pytest.mark.full
async def test_charts_keep_their_choice_and_zoom(place: Place, browser: Browser, complaints: Complaints) -> None:
    token = place.add_robot("chart-bot")
    page = await place.page(browser, complaints)
    async with connected(place, "chart-bot", token) as robot:
        for number in range(20):
            await robot.say("telemetry/motors", {"left": {"rpm": number * 10}, "right": {"rpm": number}})
        await page.goto(f"{place.base}/robots/chart-bot?f=motors:left.rpm&w=1h")
        await expect(page.locator(".series-key")).to_have_count(1)
        await page.get_by_role("article", name="motors").get_by_role("button", name="right.rpm").click()
        await expect(page.locator(".series-key")).to_have_count(2)
        await expect(page).to_have_url(re.compile(r"f=motors:left\.rpm&f=motors:right\.rpm&w=1h"))
        await zoom(page)
        await expect(page.get_by_role("button", name="Zoom out")).to_be_visible()
        await page.locator(".u-over").first.dblclick()
        await expect(page.get_by_role("button", name="Zoom out")).to_be_hidden()
        await page.get_by_role("button", name="Fields").click()
        await page.get_by_placeholder("Search fields").fill("left")
        await page.get_by_role("menuitemcheckbox", name="left.rpm").click()
        await expect(page.locator(".series-key")).to_have_count(1)
    assert complaints.lines == []


async def zoom(page: Page) -> None:
    await page.locator(".u-over").first.scroll_into_view_if_needed()
    box = await page.locator(".u-over").first.bounding_box()
    assert box
    await page.mouse.move(box["x"] + 50, box["y"] + 20)
    await page.mouse.down()
    await page.mouse.move(box["x"] + 250, box["y"] + 30, steps=4)
    await page.mouse.up()


async def test_what_a_robot_sends_is_text_and_never_markup(
    place: Place, browser: Browser, complaints: Complaints
) -> None:
    evil = '<img src=x onerror="window.taken=true">'
    token = place.add_robot("evil-bot", name=evil)
    page = await place.page(browser, complaints)
    await page.goto(place.base)
    async with connected(place, "evil-bot", token) as robot:
        await page.goto(f"{place.base}/robots/evil-bot")
        await robot.say(f"telemetry/{evil.replace('/', '')}", {evil: 1, "text": evil, "list": [evil]})
        await robot.say("log", {"level": evil, "message": evil, "logger": evil, "fields": {evil: evil}})
        await robot.say("telemetry/diagnostics", {"status": [{"level": 2, "name": evil, "message": evil}]})
        await expect(page.locator("#log-lines")).to_contain_text(evil)
        await expect(page.locator("#diagnostic-list")).to_contain_text(evil)
        await expect(page.locator("#cards")).to_contain_text(evil)
    assert await page.evaluate("window.taken") is None
    assert complaints.lines == []


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_pages_fit_their_screen(
    place: Place, browser: Browser, complaints: Complaints, phone: bool, dark: bool
) -> None:
    """Nothing sticks out sideways or jumps, and the console stays empty."""
    token = place.add_robot(f"screen-bot-{phone}-{dark}".lower(), name="A robot with a rather long name " * 4)
    device_id = f"screen-bot-{phone}-{dark}".lower()
    page = await place.page(browser, complaints, phone=phone, dark=dark)
    async with connected(place, device_id, token) as robot:
        long_name = "a_name_that_goes_on_" * 6
        await robot.say("telemetry/odom", odometry(1, 2, 0.5))
        await robot.say(f"telemetry/{long_name}", {long_name: {long_name: 12345.678}, "text": "word " * 100})
        await robot.say("log", {"message": "x" * 400, "logger": long_name})
        for path in ("/", f"/robots/{device_id}"):
            await page.goto(place.base + path)
            await expect(page.locator("main")).to_contain_text("A robot with a rather long name")
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= (PHONE if phone else DESK)["width"], path
            # What people call good is below 0.1.
            assert await page.evaluate(SHIFTED) < 0.05, path
    assert complaints.lines == []


async def test_the_theme_is_kept(place: Place, browser: Browser, complaints: Complaints) -> None:
    page = await place.page(browser, complaints)
    await page.goto(place.base)
    light = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await page.get_by_role("button", name="Account of").click()
    await page.get_by_role("radio", name="Dark").check()
    await page.goto(place.base)
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert complaints.lines == []


@pytest.mark.full
async def test_a_page_comes_back_after_the_server_was_away(
    place: Place, running: Running, browser: Browser, complaints: Complaints
) -> None:
    """An open page does not hold up the end, says that it is alone, and catches up by itself."""
    token = place.add_robot("patient-bot")
    page = await place.page(browser, complaints)
    await page.goto(f"{place.base}/robots/patient-bot")
    running.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(running.process.wait, 10) == 0
    await expect(page.locator("#offline-note")).to_be_visible(timeout=10_000)
    running.process = await asyncio.to_thread(start, running.settings)
    await expect(page.locator("#offline-note")).to_be_hidden(timeout=20_000)
    async with connected(place, "patient-bot", token) as robot:
        await robot.say("telemetry/odom", odometry(3, 4, 0.125))
        await expect(page.get_by_role("article", name="odom")).to_contain_text("0.125")
    assert [line for line in complaints.lines if "Content Security Policy" in line or "exception" in line] == []


async def test_what_cannot_be_undone_is_asked_about_first(
    place: Place, browser: Browser, complaints: Complaints
) -> None:
    """By keyboard alone: a key is made, its secret shown once, kept after Cancel and gone after Revoke."""
    page = await place.page(browser, complaints)
    await page.goto(f"{place.base}/keys/new")
    await page.get_by_label("Name").fill("Throwaway")
    await page.keyboard.press("Enter")
    await expect(page.locator("#secret")).to_contain_text("rf")
    secret = await page.locator("#secret").inner_text()
    await page.get_by_role("link", name="I have kept it").click()
    revoke = page.get_by_role("button", name="Revoke Throwaway")
    dialog = page.get_by_role("dialog", name="Revoke the key “Throwaway”?")
    await revoke.press("Enter")
    await expect(dialog).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    assert httpx.get(f"{place.base}/api/v1/devices", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    await revoke.press("Enter")
    await dialog.get_by_role("button", name="Revoke").press("Enter")
    await expect(revoke).to_have_count(0)
    assert complaints.lines == []


@pytest.mark.full
async def test_a_query_shows_what_it_finds_while_it_is_written(
    place: Place, browser: Browser, complaints: Complaints
) -> None:
    for device_id in ("query-1", "query-2"):
        place.add_robot(device_id)
    page = await place.page(browser, complaints)
    await page.goto(f"{place.base}/groups/new?kind=query")
    await page.get_by_label("Name").fill("Queried")
    await page.get_by_label("Query").press_sequentially("id:query-1,query-2", delay=5)
    await expect(page.locator("#look")).to_contain_text("2 robots now")
    await page.get_by_label("Query").fill("wheels>4")
    await expect(page.locator("#look")).to_contain_text("'wheels' is no field")
    await page.get_by_label("Query").fill("id:query-1")
    await expect(page.locator("#look")).to_contain_text("1 robot now")
    await page.get_by_role("button", name="Save query").click()
    await page.get_by_role("link", name="Show in fleet").click()
    await expect(page.locator("tr[data-device]")).to_have_count(1)
    await page.get_by_role("searchbox").fill("wheels>4")
    await expect(page.get_by_role("alert")).to_contain_text("'wheels' is no field")
    await page.get_by_role("searchbox").fill("id:query-1")
    await expect(page.locator("tr[data-device]")).to_have_count(1)
    assert complaints.lines == []


@pytest.mark.full
@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
async def test_pages_about_access_fit_their_screen(
    place: Place, browser: Browser, complaints: Complaints, phone: bool
) -> None:
    """Also with names as long as they may be, and with what is shown once."""
    device_id = f"access-bot-{phone}".lower()
    place.add_robot(device_id, name="A robot with a rather long name " * 4)
    page = await place.page(browser, complaints, phone=phone)
    width = (PHONE if phone else DESK)["width"]

    async def fits() -> None:
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, page.url
        inner = "[...document.querySelectorAll('.panel')].every((one) => one.scrollWidth <= one.clientWidth + 1)"
        assert await page.evaluate(inner), page.url

    for path, button in (("/enrolment/new", "Make the token"), ("/keys/new", "Make the key")):
        await page.goto(place.base + path)
        await fits()
        await page.get_by_label("Name").fill("x" * 90)
        await page.get_by_role("button", name=button).click()
        await expect(page.locator("pre").first).to_be_visible()
        await fits()
    await page.goto(f"{place.base}/robots/{device_id}/credentials")
    await page.get_by_role("button", name="New credential").click()
    await expect(page.locator("#token")).to_be_visible()
    await fits()
    about_values = ("layers", "schemas", "schemas/gateway/edit")
    lists = ("people", "people/new", "keys", "groups", "enrolment", "audit", f"robots/{device_id}/credentials")
    for path in (*lists, *about_values):
        await page.goto(f"{place.base}/{path}")
        await fits()
    assert complaints.lines == []
