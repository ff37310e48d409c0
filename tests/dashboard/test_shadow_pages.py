"""The shadow of a robot as pages: what they show, change, refuse, record and cost."""

from __future__ import annotations

import html
import re
from typing import Any

import httpx
import msgspec
import pytest

from rosfit.accounts import audit as log
from rosfit.shadow import reports, service
from rosfit.shadow.models import Change, Shadow
from tests.dashboard.conftest import Site
from tests.dashboard.test_pages import HTMX, OWN, _queries, add_robot, queries

__all__ = ["queries"]


async def desire(site: Site, state: Any, *, name: str = "default", author: str = "usr_x", reason: str = "") -> Shadow:
    async with site.edge.open_work() as work:
        return await service.change_desired(work, "bot", name, Change(state, reason=reason or None), author)


async def report(site: Site, state: Any, *, name: str = "default") -> None:
    async with site.edge.open_work() as work:
        said = reports.Incoming("bot", name, msgspec.json.encode({"state": state}))
        [outcome] = await reports.take(work, [said])
    assert isinstance(outcome, reports.Outcome), outcome
    assert outcome.accepted, outcome.answer


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
    page = await look(site)
    assert "In sync" in page
    assert re.search(r"Last change took \d+(\.\d)? m?s ", page)
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


async def edit(site: Site, do: str, base: Any, draft: Any, **typed: str) -> httpx.Response:
    def text(value: Any) -> str:
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()

    form = {"base": text(base), "draft": text(draft), "view": "form", "do": do} | typed
    return await site.client.post("/robots/bot/shadow/edit", data=form, headers=HTMX | OWN)


@pytest.fixture
async def desired(site: Site) -> dict[str, Any]:
    """What is desired of the robot that an engineer edits."""
    await site.sign_in_as("engineer")
    await add_robot(site, "bot")
    state = {"nav": {"speed": 0.5, "mode": "careful"}, "lidar": True, "tags": ["a"]}
    await desire(site, state)
    return state


async def current(site: Site) -> Shadow:
    async with site.edge.open_work() as work:
        return await service.get(work, "bot")


async def test_an_edit_is_looked_at_and_then_saved(site: Site, desired: dict[str, Any]) -> None:
    typed = {"leaf:/nav/speed": "1.5", "leaf:/lidar": "false", "leaf:/tags": '["a", "b"]'}
    preview = await edit(site, "preview", desired, desired, **typed)
    assert "3 changes" in shown(preview)
    assert "nav.speed 0.5 1.5" in shown(preview)
    assert (await current(site)).version == 1
    wanted = {"nav": {"speed": 1.5, "mode": "careful"}, "lidar": False, "tags": ["a", "b"]}
    previewed = msgspec.json.encode(wanted).decode()
    saved = await edit(site, "save", desired, desired, **typed, previewed=previewed, reason="night shift")
    assert "Saved as version 2" in shown(saved)
    async with site.edge.open_work() as work:
        version = await service.get_version(work, "bot", "default", 2)
        assert (version.desired, version.reason) == (wanted, "night shift")
        assert [entry.target for entry in (await log.find(work, {"action": "shadow"}, None, 5)).items] == ["bot"]


async def test_who_was_signed_out_meanwhile_keeps_what_was_typed(site: Site, desired: dict[str, Any]) -> None:
    site.client.cookies.clear()
    form = {"do": "preview", "base": "{}", "draft": "{}"}
    answer = await site.client.post(
        "/robots/bot/shadow/edit", data=form, headers=HTMX | {"HX-Target": "section#shadow-editor"}
    )
    assert (answer.status_code, "HX-Redirect" in answer.headers) == (401, False)
    assert "You are signed out" in answer.text
    answer = await site.client.post("/robots/bot/shadow/edit", data=form, headers=HTMX)
    assert answer.headers["HX-Redirect"].startswith("/sign-in")


async def test_only_what_was_looked_at_is_saved(site: Site, desired: dict[str, Any]) -> None:
    typed = {"leaf:/nav/speed": "1.5", "previewed": msgspec.json.encode(desired | {"lidar": False}).decode()}
    assert "1 change Key" in shown(await edit(site, "save", desired, desired, **typed))
    assert (await current(site)).version == 1


@pytest.mark.parametrize(
    ("field", "text", "why"),
    [
        ("leaf:/nav/speed", "fast", "Write a number such as 0.5"),
        ("leaf:/nav/speed", "true", "Write a number such as 0.5"),
        ("leaf:/lidar", "1", "Choose true or false"),
        ("leaf:/tags", "a, b", "Write a JSON list"),
        ("leaf:/tags", "[null]", "an array contains null"),
        ("add_key", "nav..speed", "Write a key such as"),
        ("add_key", "nav", "nav is there already"),
    ],
)
async def test_what_cannot_be_says_where_and_keeps_what_was_typed(
    site: Site, desired: dict[str, Any], field: str, text: str, why: str
) -> None:
    answer = await edit(site, "preview", desired, desired, **{field: text, "leaf:/nav/mode": "brisk"})
    assert answer.status_code == 422
    assert why in shown(answer)
    assert html.escape(text, quote=True).replace("&quot;", "&#34;") in answer.text
    assert 'value="brisk"' in answer.text


async def test_json_and_form_show_the_same_edits(site: Site, desired: dict[str, Any]) -> None:
    as_json = await edit(site, "json", desired, desired, **{"leaf:/nav/speed": "2"})
    assert '"speed": 2' in html.unescape(as_json.text)
    as_form = await edit(site, "form", desired, '{"nav": {"speed": 3}, "big": 12345678901234567890}', view="json")
    assert 'name="leaf:/nav/speed" value="3"' in as_form.text
    assert 'name="leaf:/big" value="12345678901234567890"' in as_form.text
    wrong = await edit(site, "form", desired, '{"nav": ', view="json")
    assert wrong.status_code == 422
    assert "This is not JSON" in shown(wrong)
    assert '{"nav": </textarea>' in html.unescape(wrong.text)


@pytest.mark.parametrize("depth", [11, 300, 450, 900, 100_000])
async def test_json_that_is_too_deep_is_refused_with_its_depth(site: Site, desired: dict[str, Any], depth: int) -> None:
    answer = await edit(site, "preview", desired, '{"a":' * depth + "1" + "}" * depth, view="json")
    assert answer.status_code == 422
    assert f"{depth} levels deep; at most 10" in shown(answer) or "This is not JSON" in shown(answer)


async def test_keys_are_added_and_removed(site: Site, desired: dict[str, Any]) -> None:
    added = await edit(site, "add", desired, desired, add_key="nav.retries", add_kind="number", add_value="3")
    assert 'name="leaf:/nav/retries" value="3"' in added.text
    removed = await edit(site, "remove:/nav", desired, desired)
    assert "leaf:/nav" not in removed.text
    assert "nav.speed 0.5 removed" in shown(await edit(site, "preview", desired, {"lidar": True, "tags": ["a"]}))


async def test_other_people_s_changes_are_met_and_nothing_is_lost(site: Site, desired: dict[str, Any]) -> None:
    mine = desired | {"nav": {"speed": 1.5, "mode": "brisk"}}
    await desire(site, {"nav": {"speed": 0.1}, "tags": []})
    theirs = (await current(site)).state["desired"]
    conflict = await edit(site, "save", desired, mine, previewed=msgspec.json.encode(mine).decode())
    assert conflict.status_code == 409
    assert "nav.speed 0.5 1.5 0.1" in shown(conflict)
    assert (await current(site)).version == 2
    choice = {"theirs": msgspec.json.encode(theirs).decode(), "take:/nav/speed": "theirs"}
    merged = await edit(site, "merge", desired, mine, **choice)
    assert "1 change Key Before After nav.mode" in shown(merged)
    choice["take:/nav/speed"] = "yours"
    assert "nav.speed 0.1 1.5" in shown(await edit(site, "merge", desired, mine, **choice))


async def test_a_report_meanwhile_is_no_conflict(site: Site, desired: dict[str, Any]) -> None:
    await report(site, {"lidar": True})
    assert "1 change" in shown(await edit(site, "preview", desired, desired | {"lidar": False}))


async def test_who_only_reads_cannot_edit(site: Site) -> None:
    await site.sign_in_as("operator")
    await add_robot(site, "bot")
    assert "Edit desired" not in await look(site)
    assert (await site.client.get("/robots/bot/shadow/edit")).status_code == 403
    assert (await edit(site, "save", {}, {"a": 1}, previewed='{"a":1}')).status_code == 403
    assert (await current(site)).version == 0


async def test_without_scripts_the_whole_page_comes(site: Site, desired: dict[str, Any]) -> None:
    page = await site.client.get("/robots/bot/shadow/edit")
    assert "Edit desired" in shown(page)
    text = msgspec.json.encode(desired | {"lidar": False}).decode()
    form = {
        "base": msgspec.json.encode(desired).decode(),
        "draft": text,
        "previewed": text,
        "view": "json",
        "do": "save",
    }
    saved = await site.client.post("/robots/bot/shadow/edit", data=form, headers=OWN)
    assert (saved.status_code, saved.headers["location"]) == (303, "/robots/bot/shadow")
    assert (await site.client.post("/robots/bot/shadow/edit", data=form)).status_code == 409
    elsewhere = await site.client.post("/robots/bot/shadow/edit", data=form, headers={"Sec-Fetch-Site": "cross-site"})
    assert elsewhere.status_code == 403


async def test_the_history_says_who_changed_what_and_why(site: Site, desired: dict[str, Any]) -> None:
    await desire(site, {"nav": {"speed": 1.5}}, reason="night shift")
    await report(site, {"lidar": False})
    page = await look(site, "/history")
    assert "3 Reported lidar: – → false device bot" in page
    assert "2 Desired · night shift nav.speed: 0.5 → 1.5 usr_x" in page
    compared = await look(site, "/history?older=3&newer=1")
    assert "From version 1 to 3" in compared
    assert "nav.speed 0.5 1.5 Reported Key Before After lidar – false" in compared
    for wrong, status in (("older=1&newer=9", 404), ("older=x&newer=1", 400), ("cursor=x", 400)):
        assert (await site.client.get(f"/robots/bot/shadow/history?{wrong}")).status_code == status


async def test_going_back_is_a_new_version(site: Site, desired: dict[str, Any]) -> None:
    await desire(site, {"nav": None})
    answer = await site.client.post("/robots/bot/shadow/revert", data={"version": "1"}, headers=OWN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/robots/bot/shadow/history")
    shadow = await current(site)
    assert (shadow.version, shadow.state["desired"]) == (3, desired)
    assert "restored from version 1" in await look(site, "/history")


async def test_who_only_reads_sees_the_history_and_cannot_go_back(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    assert "No versions yet" in await look(site, "/history")
    await desire(site, {"a": 1})
    await desire(site, {"a": 2})
    assert "Go back to version 1" not in (await site.client.get("/robots/bot/shadow/history")).text
    answer = await site.client.post("/robots/bot/shadow/revert", data={"version": "1"}, headers=OWN)
    assert answer.status_code == 403


async def test_the_fleet_says_which_robots_are_not_as_desired(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")

    async def drift() -> str:
        rows = shown(await site.client.get("/", headers=HTMX))
        return rows.split(" Last heard ")[1].removeprefix("Provisioning bot ROS 2 robot – ").split(" never")[0]

    assert await drift() == "–"
    await desire(site, {"speed": 1})
    assert await drift() == "Never reported"
    await report(site, {"speed": 2})
    assert await drift() == "Pending now"
    await desire(site, {"ssid": "hall"}, name="wifi")
    await report(site, {"speed": 1})
    assert await drift() == "Pending now"
    await report(site, {"ssid": "hall"}, name="wifi")
    assert await drift() == "In sync"


async def test_the_fleet_page_leads_to_the_robots_that_are_not_as_desired(site: Site) -> None:
    await site.sign_in_as("viewer")
    for name in ("bot", "other"):
        await add_robot(site, name)
    await desire(site, {"speed": 1})
    found = await site.client.get(drift_link(await site.client.get("/?q=o&tag=")))
    assert ["row-bot" in found.text, "row-other" in found.text] == [True, False]
    assert drift_link(found) == "/?q=o"


def drift_link(answer: httpx.Response) -> str:
    link = re.search(r'id="chip-drift"[^>]* href="([^"]*)"', answer.text)
    assert link is not None
    return html.unescape(link[1])


@pytest.mark.parametrize(
    ("path", "headers", "count"),
    [("", {}, 9), ("", HTMX, 9), ("?name=wifi", {}, 8), ("/edit", HTMX, 4), ("/history", {}, 7)],
)
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
