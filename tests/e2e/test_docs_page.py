"""The interactive documentation, as a browser without the internet shows it."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.dashboard.browser import Complaints, chromium, new_page
from tests.e2e.test_ros_to_page import sign_in


@pytest.mark.full
@pytest.mark.browser
async def test_the_docs_page_is_whole_offline(site):
    """Every operation is listed and opens, one can be tried out, and nothing is asked for from elsewhere."""
    complaints = Complaints()
    asked: list[str] = []
    async with chromium() as browser:
        page = await new_page(browser, complaints)
        page.on("request", lambda request: asked.append(request.url))
        await sign_in(page, site.server.url)
        await page.goto(f"{site.server.url}/docs")
        await page.get_by_role("button", name="Authorize").first.click()
        await page.locator(".modal-ux input").first.fill(site.server.admin.token)
        await page.locator(".modal-ux button", has_text="Authorize").first.click()
        await page.locator(".modal-ux button", has_text="Close").first.click()
        operation = page.locator(".opblock", has_text="/api/v1/devices").first
        await operation.click()
        await page.get_by_role("button", name="Try it out").click()
        await page.get_by_role("button", name="Execute").click()
        await expect(page.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")
        listed = await page.locator(".opblock").count()
    document = site.server.admin.got("/openapi.json")
    assert listed == sum(len(methods) for methods in document["paths"].values())
    assert [url for url in asked if not url.startswith((site.server.url, "data:", "blob:"))] == []
    assert complaints.lines == []
