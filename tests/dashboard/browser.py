"""A headless Chromium that tells what went wrong on a page: console errors, refused resources, failed requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from tests.server import ADMIN_EMAIL, RunningServer
from tests.server import PASSWORD as ADMIN_PASSWORD

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Otherwise uPlot throws a RangeError.
    "--lang=en-US",
]

# Of tests that take the `browser` fixture.
SHARED_LOOP = pytest.mark.asyncio(loop_scope="module")

DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}

EMAIL, PASSWORD = "ada@example.org", "correct horse battery"


@dataclass
class Complaints:
    """What the browser complained about; violations of the content security policy are console errors too."""

    lines: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.lines.append(f"exception: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.lines.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


async def new_page(
    browser: Browser, complaints: Complaints, *, phone: bool = False, dark: bool = False, scale: float = 1
) -> Page:
    """A page of its own profile."""
    context = await browser.new_context(
        viewport=PHONE if phone else DESK,
        color_scheme="dark" if dark else "light",
        device_scale_factor=scale,
        locale="en-US",
        has_touch=phone,
    )
    page = await context.new_page()
    complaints.listen(page)
    return page


async def set_up(page: Page, base: str, token: str) -> None:
    """Create the first account, through the address that `rosfit serve` prints."""
    await page.goto(f"{base}/setup#token={token}")
    await page.get_by_label("E-mail").fill(EMAIL)
    await page.get_by_label("Name").fill("Ada Lovelace")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Create the account").click()
    await page.wait_for_url(f"{base}/")


async def sign_in(page: Page, base: str) -> None:
    await page.goto(f"{base}/sign-in")
    await page.get_by_label("E-mail").fill(EMAIL)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"{base}/")


async def signed_in(server: RunningServer, browser: Browser, complaints: Complaints, path: str, **look: bool) -> Page:
    """The admin's page at `path`."""
    page = await new_page(browser, complaints, **look)
    await page.goto(f"{server.url}/sign-in?next={path}")
    await page.get_by_label("E-mail").fill(ADMIN_EMAIL)
    await page.get_by_label("Password").fill(ADMIN_PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"{server.url}{path}")
    return page
