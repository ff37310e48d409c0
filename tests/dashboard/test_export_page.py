"""A robot's samples as a file, asked for on its page."""

from __future__ import annotations

import csv
import io

import pytest

from tests.dashboard.conftest import Site
from tests.dashboard.test_pages import HTMX, add_robot, add_sample


async def test_the_dialog_offers_the_streams_there_are(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    await add_robot(site, "quiet")
    assert "has sent no telemetry yet" in (await site.client.get("/robots/quiet/export", headers=HTMX)).text
    await add_sample(site, "bot", "odom", '{"x":1}')
    dialog = (await site.client.get("/robots/bot/export", headers=HTMX)).text
    assert "<option>odom</option>" in dialog
    assert (await site.client.get("/robots/none/export", headers=HTMX)).status_code == 404


async def test_each_value_of_the_newest_sample_is_a_column(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    await add_sample(site, "bot", "odom", '{"pose":{"x":1.5,"a.b":2},"ranges":[1,2]}')
    await add_sample(site, "bot", "status", '{"cpu":3}')
    asked = {"stream": "odom", "period": "hour", "format": "csv", "columns": "yes"}
    answer = await site.client.get("/robots/bot/export/file", params=asked)
    assert answer.headers["content-disposition"] == 'attachment; filename="bot.csv"'
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["pose.x"], row["ranges"]) == ("1.5", "[1,2]")
    assert list(row)[5:] == ["pose.x", "ranges"]
    # Of every stream there is no such thing as its columns.
    answer = await site.client.get("/robots/bot/export/file", params=asked | {"stream": ""})
    assert [row["stream"] for row in csv.DictReader(io.StringIO(answer.text))] == ["odom", "status"]


@pytest.mark.parametrize("asked", [{"format": "xlsx"}, {"period": "ever"}])
async def test_what_the_dialog_does_not_offer_is_refused(site: Site, asked: dict[str, str]) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    assert (await site.client.get("/robots/bot/export/file", params=asked)).status_code == 400
    assert (await site.client.get("/robots/none/export/file")).status_code == 404


async def test_nobody_gets_a_robot_out_of_reach(site: Site) -> None:
    await site.sign_in_as("viewer", only_tags=["red"])
    await add_robot(site, "bot", tags=["blue"])
    for path in ("/robots/bot/export", "/robots/bot/export/file"):
        assert (await site.client.get(path)).status_code == 404
