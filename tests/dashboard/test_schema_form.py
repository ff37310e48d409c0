"""A form that is built from schemas: kinds, choices, notes, and what is not there yet."""

from __future__ import annotations

import re
from typing import Any

from rosfit.dashboard.schema_form import Hint, hints_of
from rosfit.dashboard.shadow_form import Field, Group, members_of, read_fields
from rosfit.shadow import schemas
from tests.dashboard.conftest import Site
from tests.dashboard.test_layer_pages import make_group
from tests.dashboard.test_pages import add_robot
from tests.dashboard.test_shadow_pages import desire, look, shown

SCHEMA: dict[str, Any] = {
    "$defs": {"mode": {"enum": ["slow", "fast", 3], "description": "How it drives"}},
    "properties": {
        "nav": {
            "properties": {
                "speed": {"type": "number", "minimum": 0, "maximum": 2, "default": 1},
                "mode": {"$ref": "#/$defs/mode"},
            }
        },
        "lidar": {"type": "boolean"},
        "anything": True,
    },
}
HINTS = hints_of([SCHEMA, {"properties": {"lidar": {"type": "string"}, "name": {"type": "string"}}}])


def test_schemas_tell_kind_choices_range_and_default() -> None:
    assert dict(HINTS) == {
        ("nav", "speed"): Hint("number", "At least 0, at most 2, the robot's default is 1"),
        ("nav", "mode"): Hint("choice", "How it drives", ("slow", "fast", 3)),
        ("lidar",): Hint("boolean"),
        ("name",): Hint("text"),
    }


def test_what_a_schema_knows_has_a_field_in_its_order_also_where_it_is_not_there() -> None:
    nav, lidar, name, own = members_of({"own": 1, "lidar": True}, {}, {}, HINTS)
    assert isinstance(nav, Group)
    assert [(one.label, one.absent) for one in nav.members] == [("speed", True), ("mode", True)]
    assert (nav.absent, lidar.absent, name.absent, own.absent) == (True, False, True, False)
    [_, mode] = nav.members
    assert isinstance(mode, Field)
    assert mode.choices == (('"slow"', "slow"), ('"fast"', "fast"), ("3", "3"))


def test_a_value_beside_the_choices_stays_one() -> None:
    nav = members_of({"nav": {"mode": "odd"}}, {}, {}, HINTS)[0]
    assert isinstance(nav, Group)
    mode = nav.members[1]
    assert isinstance(mode, Field)
    assert (mode.text, mode.choices[-1]) == ('"odd"', ('"odd"', "odd"))


def test_only_what_was_typed_becomes_desired() -> None:
    typed = {"leaf:/nav/speed": "1.5", "leaf:/nav/mode": "3", "leaf:/lidar": "", "leaf:/name": ""}
    assert read_fields({}, typed, HINTS) == ({"nav": {"speed": 1.5, "mode": 3}}, {})
    assert read_fields({"nav": 5}, typed, HINTS) == ({"nav": 5}, {})
    assert read_fields({}, {"leaf:/nav/speed": "brisk"}, HINTS)[1] == {"/nav/speed": "Write a number such as 0.5"}


async def test_the_editor_of_a_groups_values_shows_its_schema(site: Site) -> None:
    await site.sign_in_as("engineer")
    place = await make_group(site, "hall")
    async with site.edge.open_work() as work:
        await schemas.put(work, await schemas.find_target(work, "hall"), "default", SCHEMA, "usr_x")
    page = shown(await site.client.get(f"/layers/{place}/edit"))
    assert "speed number At least 0, at most 2, the robot's default is 1" in page
    form = {"do": "preview", "view": "form", "base": "{}", "draft": "{}", "leaf:/nav/mode": '"fast"'}
    assert 'nav.mode – "fast"' in shown(await site.client.post(f"/layers/{place}/edit", data=form))


async def test_the_editor_shows_the_schema_and_says_what_does_not_fit(site: Site) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot")
    await desire(site, {"own": 1})
    async with site.edge.open_work() as work:
        row = await (await work.connection.execute("SELECT type FROM devices")).fetchone()
        await schemas.put(work, await schemas.find_target(work, str(row and row[0])), "default", SCHEMA, "usr_x")
    page = await look(site, "/edit")
    assert "speed number At least 0, at most 2, the robot's default is 1" in page
    assert "mode choice not set slow fast 3 How it drives" in page
    form = {"do": "preview", "view": "form", "base": '{"own":1}', "draft": '{"own":1}', "leaf:/nav/speed": "3"}
    answer = await site.client.post("/robots/bot/shadow/edit", data=form)
    assert answer.status_code == 422
    assert "nav.speed: 3 is greater than the maximum of 2" in shown(answer)
    assert re.search(r'name="leaf:/nav/speed" value="3"[^>]*aria-invalid="true"', answer.text)
    answer = await site.client.post("/robots/bot/shadow/edit", data=form | {"leaf:/nav/speed": "2"})
    assert "nav.speed – 2" in shown(answer)
