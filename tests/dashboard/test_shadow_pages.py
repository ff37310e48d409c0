"""The shadow of a robot as pages: what they show, change, refuse, record and cost."""

from __future__ import annotations

import html
import re
from typing import Any

import httpx
import msgspec
import pytest

from rosfit.shadow import service
from rosfit.shadow.models import Change, Shadow
from tests.dashboard.conftest import Site
from tests.dashboard.test_pages import HTMX, _queries, add_robot, queries

__all__ = ["queries"]


async def desire(site: Site, state: Any, *, name: str = "default", author: str = "usr_x", reason: str = "") -> Shadow:
    async with site.edge.open_work() as work:
        return await service.change_desired(work, "bot", name, Change(state, reason=reason or None), author)


async def report(site: Site, state: Any, *, name: str = "default") -> None:
    async with site.edge.open_work() as work:
        accepted, answer = await service.take_report(work, "bot", name, msgspec.json.encode({"state": state}))
    assert accepted, answer


def shown(answer: httpx.Response) -> str:
    """What a reader sees, on one line."""
    assert answer.status_code in {200, 409, 422}, answer.text
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


async def look(site: Site, path: str = "") -> str:
    return shown(await site.client.get(f"/robots/bot/shadow{path}"))


async def test_a_robot_without_a_shadow_says_how_to_report(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    page = await look(site)
    assert "This robot has no shadow yet" in page
    assert "rosfit/bot/shadow/reported" in page
    assert "rosfit/bot/shadow/name/wifi/reported" in await look(site, "?name=wifi")


async def test_each_state_of_a_shadow_has_its_words(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    await desire(site, {"nav": {"speed": 1.5, "mode": "brisk"}})
    assert "Never reported Pending for now" in await look(site)
    await report(site, {"nav": {"speed": 0.5}, "firmware": "2.4.1"})
    page = await look(site)
    assert "Pending for now 2 values still to be taken over by the robot" in page
    assert 'nav.mode "brisk" now · usr_x – "brisk" nav.speed 1.5 now · usr_x 0.5 now 1.5 firmware – "2.4.1"' in page
    await report(site, {"nav": {"speed": 1.5, "mode": "brisk"}})
    assert "In sync" in await look(site)
    await desire(site, None)
    assert "Nothing is desired" in await look(site)


async def test_who_set_a_value_is_named(site: Site) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot")
    async with site.edge.open_work() as work:
        rows = await (await work.connection.execute("SELECT user_id FROM users")).fetchall()
    await desire(site, {"speed": 1}, author=rows[0][0])
    assert "engineer@example.org" in await look(site)


async def test_named_shadows_are_apart(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    await desire(site, {"payload": 1})
    await desire(site, {"ssid": "hall"}, name="wifi")
    assert "ssid" not in await look(site)
    page = await look(site, "?name=wifi")
    assert '"hall"' in page
    assert "payload" not in page
    assert (await site.client.get("/robots/bot/shadow?name=no spaces")).status_code == 400


async def test_a_robot_out_of_reach_has_no_shadow_page(site: Site) -> None:
    await site.sign_in_as("viewer", only_tags=["dock"])
    await add_robot(site, "bot")
    for place in ("", "/events"):
        assert (await site.client.get(f"/robots/bot/shadow{place}")).status_code == 404


@pytest.mark.parametrize(("path", "headers", "count"), [("", {}, 6), ("", HTMX, 6), ("?name=wifi", {}, 5)])
async def test_a_page_about_a_shadow_costs_so_many_queries(
    site: Site, queries: list[str], path: str, headers: dict[str, str], count: int
) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot")
    await desire(site, {f"key-{number}": number for number in range(20)})
    _queries.set(queries)
    answer = await site.client.get(f"/robots/bot/shadow{path}", headers=headers)
    _queries.set(None)
    assert answer.status_code == 200
    assert len(queries) == count, "\n".join(queries)
