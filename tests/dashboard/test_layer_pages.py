"""The fleet's and groups' values as pages: what they show, change, refuse, record and cost."""

from __future__ import annotations

from typing import Any

import pytest

from rosfit.accounts import audit as log
from rosfit.fleet import groups
from rosfit.fleet.groups import NewGroup
from rosfit.shadow import layers
from rosfit.shadow.layers import LayerChange, Refresher
from rosfit.shadow.models import Change
from tests.dashboard.conftest import Site
from tests.dashboard.test_pages import HTMX, _queries, add_robot, queries
from tests.dashboard.test_shadow_pages import desire, look, shown

__all__ = ["queries"]


async def set_layer(site: Site, state: Any, group: str = "fleet", *, priority: int = 0) -> None:
    """And carried to the robots."""
    async with site.edge.open_work() as work:
        place = await layers.find_group(work, group)
        await layers.change(work, place, "default", LayerChange(Change(state), priority), "usr_x")
    await Refresher(site.edge.open_work).refresh_batch()


async def make_group(site: Site, name: str, *device_ids: str) -> str:
    async with site.edge.open_work() as work:
        return (await groups.create(work, NewGroup(name, device_ids=list(device_ids)))).group_id


def step(do: str, base: str, draft: str, **more: str) -> dict[str, str]:
    return {"do": do, "view": "json", "base": base, "draft": draft} | more


async def test_the_list_says_what_is_set_and_where_nothing_is(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    await make_group(site, "hall", "bot")
    page = shown(await site.client.get("/layers"))
    assert "Whole fleet Every robot none yet" in page
    assert "Groups without values hall" in page
    await set_layer(site, {"nav": {"speed": 1}})
    await set_layer(site, {"nav": {"speed": 2}}, "hall", priority=5)
    page = shown(await site.client.get("/layers"))
    assert "nav.speed 1 1 –" in page
    assert "hall Group nav.speed 2 1 5" in page
    assert "Groups without values" not in page


async def test_a_robots_shadow_says_from_which_layer_each_value_comes(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    await make_group(site, "hall", "bot")
    await set_layer(site, {"speed": 1, "log": "info"})
    await set_layer(site, {"speed": 2}, "hall")
    await desire(site, {"own": True})
    page = await look(site)
    assert 'log "info" now · usr_x · fleet values' in page
    assert "speed 2 now · usr_x · group hall" in page
    assert "own true now · usr_x –" in page


async def test_values_are_looked_at_on_robots_before_they_are_saved(site: Site) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot")
    await add_robot(site, "other")
    place = await make_group(site, "hall", "bot", "other")
    await desire(site, {"speed": 3})
    form = step("preview", "{}", '{"speed": 3}', priority="7")
    page = shown(await site.client.post(f"/layers/{place}/edit", data=form))
    assert "1 of 2 robots would change" in page
    assert "other 1 change Key Before After speed – 3" in page
    answer = await site.client.post(
        f"/layers/{place}/edit", data=form | {"do": "save", "previewed": '{"speed":3}'}, headers=HTMX
    )
    assert "Saved as version 1. 1 robot is told what differs." in shown(answer)
    assert answer.headers["HX-Trigger"] == "shadow-changed"
    async with site.edge.open_work() as work:
        [layer] = await layers.listing(work)
        entries = await log.find(work, {"action": "shadow_layer.change"}, None, 10)
    assert (layer.desired, layer.priority, layer.devices) == ({"speed": 3}, 7, 2)
    assert len(entries.items) == 1


async def test_another_priority_is_a_change_of_its_own(site: Site) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot")
    for name in ("low", "high"):
        place = await make_group(site, name, "bot")
        await set_layer(site, {"speed": name}, name, priority=int(name == "high"))
    form = step("preview", '{"speed":"high"}', '{"speed":"high"}', priority="-1")
    page = shown(await site.client.post(f"/layers/{place}/edit", data=form))
    assert "Another priority" in page
    assert "1 of 1 robot would change" in page
    assert 'speed "high" "low"' in page


async def test_what_is_saved_was_previewed_and_what_changed_meanwhile_is_met(site: Site) -> None:
    await site.sign_in_as("engineer")
    form = step("save", "{}", '{"a": 1}', previewed='{"a":2}')
    assert "No robot has these values yet" in shown(await site.client.post("/layers/fleet/edit", data=form))
    await set_layer(site, {"a": 5})
    answer = await site.client.post("/layers/fleet/edit", data=form)
    assert answer.status_code == 409
    assert "Somebody else changed this meanwhile" in shown(answer)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"draft": '{"a": ['}, "This is not JSON"),
        ({"priority": "high"}, "a priority is a whole number"),
        ({"draft": '{"a": "' + "x" * 40_000 + '"}'}, "at most 32768"),
    ],
)
async def test_what_cannot_be_is_refused_in_words(site: Site, more: dict[str, str], problem: str) -> None:
    await site.sign_in_as("engineer")
    place = await make_group(site, "hall")
    form = step("preview", "{}", '{"a": 1}') | more
    answer = await site.client.post(f"/layers/{place}/edit", data=form)
    assert answer.status_code == 422
    assert problem in shown(answer)


async def test_a_value_of_a_layer_cannot_be_removed_from_one_robot(site: Site) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot")
    await set_layer(site, {"speed": 1, "log": "info"})
    form = step("preview", '{"speed":1,"log":"info"}', '{"speed": 1}')
    page = shown(await site.client.post("/robots/bot/shadow/edit", data=form))
    assert "Nothing is different from what is desired already" in page
    assert "log comes from the fleet's or a group's values and stays" in page


async def test_values_are_removed_as_a_whole(site: Site) -> None:
    await site.sign_in_as("engineer")
    await set_layer(site, {"a": 1})
    answer = await site.client.post("/layers/fleet/delete")
    assert (answer.status_code, answer.headers["location"]) == (303, "/layers")
    async with site.edge.open_work() as work:
        assert await layers.listing(work) == []


async def test_a_viewer_looks_and_changes_nothing(site: Site) -> None:
    await site.sign_in_as("viewer")
    page = shown(await site.client.get("/layers/fleet"))
    assert "No values yet" in page
    assert "Edit values" not in page
    assert (await site.client.get("/layers/fleet/edit")).status_code == 403
    for path in ("/layers/fleet/edit", "/layers/fleet/delete"):
        assert (await site.client.post(path)).status_code == 403
    assert (await site.client.get("/layers/nobody")).status_code == 404


@pytest.mark.parametrize(("path", "count"), [("/layers", 3), ("/layers/fleet", 3), ("/layers/fleet/edit", 4)])
async def test_a_page_about_layers_costs_so_many_queries(
    site: Site, queries: list[str], path: str, count: int
) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot")
    await set_layer(site, {f"key-{number}": number for number in range(20)})
    _queries.set(queries)
    answer = await site.client.get(path)
    _queries.set(None)
    assert answer.status_code == 200
    assert len(queries) == count, "\n".join(queries)
