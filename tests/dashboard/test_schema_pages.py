"""Schemas as pages, and what pages say of values that do not fit: shown, checked, saved, removed, and their cost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rosfit.accounts import audit as log
from rosfit.shadow import schemas, service
from rosfit.shadow.layers import Refresher
from tests.dashboard.conftest import Site
from tests.dashboard.test_layer_pages import make_group, set_layer
from tests.dashboard.test_pages import OWN, _queries, add_robot, queries
from tests.dashboard.test_shadow_pages import desire, look, shown

__all__ = ["queries"]

PLACE = "/schemas/mqtt_device"
SPEED = {"properties": {"speed": {"type": "number", "maximum": 2}}}


async def put_schema(site: Site, target: str, schema: Any) -> None:
    async with site.edge.open_work() as work:
        await schemas.put(work, await schemas.find_target(work, target), "default", schema, "usr_x")


async def held(site: Site) -> tuple[int, Any]:
    async with site.edge.open_work() as work:
        found = await schemas.get(work, await schemas.find_target(work, "mqtt_device"))
    return found.version, found.schema


def form(schema: Any, do: str = "save", version: int = 0) -> dict[str, str]:
    return {"do": do, "version": str(version), "schema": schema if isinstance(schema, str) else json.dumps(schema)}


async def test_the_list_says_what_has_a_schema_and_what_has_none(site: Site) -> None:
    await site.sign_in_as("viewer")
    await make_group(site, "hall")
    page = shown(await site.client.get("/schemas"))
    assert "No schemas yet" in page
    assert "Types without a schema ROS 2 robot micro-ROS MCU MQTT device Gateway Simulator" in page
    assert "Groups without a schema hall" in page
    await put_schema(site, "mqtt_device", {"properties": {key: {} for key in "abcdef"}})
    await put_schema(site, "hall", SPEED)
    page = shown(await site.client.get("/schemas"))
    assert "MQTT device Type a b c d and 2 more 1" in page
    assert "hall Group speed 1" in page
    assert "Groups without a schema" not in page
    assert "Schemas" in shown(await site.client.get("/layers"))


async def test_a_schema_says_whose_desired_values_do_not_fit(site: Site) -> None:
    await site.sign_in_as("viewer")
    assert "No schema yet" in shown(await site.client.get(PLACE))
    await add_robot(site, "bot", type="mqtt_device")
    await add_robot(site, "other", type="mqtt_device")
    await desire(site, {"speed": 9})
    await put_schema(site, "mqtt_device", SPEED)
    page = shown(await site.client.get(PLACE))
    assert "Robots 2 Version 1" in page
    assert "Desired values that do not fit bot speed: 9 is greater than the maximum of 2" in page
    page = await look(site)
    assert "What is desired does not fit. It does not fit the schema of devices of type mqtt_device: speed: 9" in page
    assert "has to fit the schema of MQTT device ." in page
    await put_schema(site, "mqtt_device", {})
    assert "What is desired of every robot fits." in shown(await site.client.get(PLACE))


async def test_a_schema_is_checked_on_robots_before_it_is_saved(site: Site) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot", type="mqtt_device")
    await desire(site, {"speed": 9})
    page = shown(await site.client.post(f"{PLACE}/edit", data=form(SPEED, "check")))
    assert "Desired values that would not fit bot speed: 9 is greater" in page
    assert await held(site) == (0, {})
    answer = await site.client.post(f"{PLACE}/edit", data=form(SPEED))
    assert (answer.status_code, answer.headers["location"]) == (303, PLACE)
    assert await held(site) == (1, SPEED)
    async with site.edge.open_work() as work:
        [entry] = (await log.find(work, {"action": "shadow_schema.put"}, None, 10)).items
    assert entry.target == "mqtt_device"


async def test_a_file_replaces_what_was_typed(site: Site) -> None:
    await site.sign_in_as("engineer")
    file = {"file": ("schema.json", json.dumps(SPEED).encode())}
    await site.client.post(f"{PLACE}/edit", data=form("{"), files=file)
    assert await held(site) == (1, SPEED)
    for content, why in ((b"\xff", "schema.json is no text"), (b" " * 70_000, "more than 65536 bytes")):
        answer = await site.client.post(f"{PLACE}/edit", data=form("{}"), files={"file": ("schema.json", content)})
        assert answer.status_code == 422
        assert why in shown(answer)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("", "This is not JSON"),
        ('{"a": [', "This is not JSON"),
        ("[]", "a schema is a JSON object"),
        ({"properties": {"nav": {"type": "nonsense"}}}, 'properties.nav.type: "nonsense" is not'),
        ({"properties": {"a": {"$ref": "#/nowhere"}}}, "#/nowhere leads nowhere"),
    ],
)
async def test_what_is_no_schema_is_refused_with_its_place(site: Site, schema: Any, why: str) -> None:
    await site.sign_in_as("engineer")
    answer = await site.client.post(f"{PLACE}/edit", data=form(schema))
    assert answer.status_code == 422
    assert why in shown(answer)
    assert await held(site) == (0, {})


async def test_what_somebody_else_saved_meanwhile_is_shown_first(site: Site) -> None:
    await site.sign_in_as("engineer")
    await put_schema(site, "mqtt_device", {"maxProperties": 7})
    answer = await site.client.post(f"{PLACE}/edit", data=form(SPEED))
    assert answer.status_code == 409
    assert '"maxProperties": 7' in shown(answer)
    assert await held(site) == (1, {"maxProperties": 7})
    await site.client.post(f"{PLACE}/edit", data=form(SPEED, version=1))
    assert await held(site) == (2, SPEED)


async def test_values_that_were_held_back_are_told_and_come_when_the_schema_goes(site: Site) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot", type="mqtt_device")
    place = await make_group(site, "hall")
    await set_layer(site, {"speed": 9, "log": "info"}, "hall")
    await put_schema(site, "mqtt_device", SPEED)
    assert (await site.client.get(f"/layers/{place}/refusals")).text.strip() == ""
    await site.client.post(f"/groups/{place}/members", data={"add": "bot"}, headers=OWN)
    await Refresher(site.edge.open_work).look()
    await Refresher(site.edge.open_work).refresh_batch()
    page = shown(await site.client.get(f"/layers/{place}/refusals"))
    assert "Values held back from 1 robot bot It does not fit the schema of devices of type mqtt_device: speed" in page
    assert "Fleet and group values held back. It does not fit the schema" in await look(site)
    answer = await site.client.post(f"{PLACE}/delete")
    assert (answer.status_code, answer.headers["location"]) == (303, "/schemas")
    await Refresher(site.edge.open_work).refresh_batch()
    assert "held back" not in await look(site)
    async with site.edge.open_work() as work:
        assert (await service.get(work, "bot")).state["desired"] == {"speed": 9, "log": "info"}


async def test_a_viewer_looks_and_changes_nothing(site: Site) -> None:
    await site.sign_in_as("viewer")
    assert "Write a schema" not in shown(await site.client.get(PLACE))
    assert (await site.client.get(f"{PLACE}/edit")).status_code == 403
    for step in ("edit", "delete"):
        assert (await site.client.post(f"{PLACE}/{step}")).status_code == 403
    assert (await site.client.get("/schemas/nobody")).status_code == 404


@pytest.mark.parametrize(("path", "count"), [("", 3), ("/mqtt_device", 5), ("/mqtt_device/edit", 2)])
async def test_a_page_about_schemas_costs_so_many_queries(
    site: Site, queries: list[str], path: str, count: int
) -> None:
    await site.sign_in_as("engineer")
    for device_id in ("bot", "other", "third"):
        await add_robot(site, device_id, type="mqtt_device")
    await put_schema(site, "mqtt_device", SPEED)
    _queries.set(queries)
    answer = await site.client.get(f"/schemas{path}")
    _queries.set(None)
    assert answer.status_code == 200
    assert len(queries) == count, "\n".join(queries)
