"""Pages over a real database: who gets in, what they see, what it costs, and what a template may use."""

from __future__ import annotations

import contextvars
import re
from dataclasses import fields
from datetime import timedelta
from typing import Any

import httpx
import jinja2
import jinja2.meta
import msgspec
import psycopg
import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from rosfit.accounts.models import Role
from rosfit.dashboard import (
    adding,
    audit,
    bulk,
    credentials,
    deployment_form,
    deployments,
    enrolment,
    errors,
    export,
    fleet,
    groups,
    keys,
    layers,
    people,
    robot,
    robot_update,
    schemas,
    shadow,
    shadow_editor,
    shadow_history,
    signing_in,
    tasks,
    updates,
)
from rosfit.dashboard.access import COOKIE, safe_next
from rosfit.dashboard.rendering import Page, make_environment
from rosfit.fleet import service as devices
from rosfit.fleet.models import NewDevice
from rosfit.infra.redis import FRAME_NAMES_LIMIT
from rosfit.kernel.clock import now
from rosfit.telemetry import repository as telemetry
from rosfit.telemetry.models import Frame, FrameInfo, NewLog, Sample
from tests.dashboard.conftest import BASE, Site

HTMX = {"HX-Request": "true"}
OWN = {"Sec-Fetch-Site": "same-origin"}


async def add_robot(site: Site, device_id: str, **values: Any) -> None:
    async with site.edge.open_work() as work:
        await devices.register(work, NewDevice(device_id=device_id, **values))


async def add_sample(site: Site, device_id: str, stream: str, payload: str) -> None:
    row = Sample(device_id, stream, now(), f"{stream}-1", None, now(), msgspec.Raw(payload.encode()))
    async with site.edge.open_work() as work:
        await telemetry.insert_samples(work.connection, [row])


# Who gets in


async def test_before_the_first_user_everything_leads_to_set_up(site: Site) -> None:
    for path in ("/", "/robots/bot-01", "/sign-in"):
        answer = await site.client.get(path)
        assert answer.headers["location"].startswith("/setup")


async def test_the_first_user_needs_the_token_and_is_signed_in(site: Site) -> None:
    token = site.edge.setup_token.ensure()
    form = {"email": "ada@example.org", "password": "correct horse", "name": "Ada", "token": "guess"}
    refused = await site.client.post("/setup", data=form, headers=OWN)
    assert refused.status_code == 403
    assert "set-up token is not right" in refused.text
    assert (await site.client.post("/setup", data=form | {"token": token}, headers=OWN)).headers["location"] == "/"
    assert "Ada" in (await site.client.get("/")).text
    assert site.edge.setup_token.value() is None
    again = await site.client.post("/setup", data=form | {"token": token, "email": "eve@example.org"}, headers=OWN)
    assert again.headers["location"] == "/sign-in"


async def test_a_setup_token_beyond_ascii_is_wrong_like_any_other(site: Site) -> None:
    site.edge.setup_token.ensure()
    form = {"email": "eve@example.org", "password": "correct horse", "token": "é"}
    assert (await site.client.post("/setup", data=form, headers=OWN)).status_code == 403
    assert (await site.client.get("/")).headers["location"].startswith("/setup")



async def test_set_up_names_the_fields_that_are_wrong(site: Site) -> None:
    answer = await site.client.post("/setup", data={"email": "ada", "password": "short"}, headers=OWN)
    assert answer.status_code == 422
    assert "Enter an e-mail address" in answer.text
    assert "Use 8 to 1024 characters" in answer.text


async def test_without_a_session_each_kind_of_request_is_sent_to_sign_in(site: Site) -> None:
    """A page is redirected and comes back, htmx is told where to go, a script gets 401."""
    await site.sign_in_as("viewer")
    site.client.cookies.clear()
    page = await site.client.get("/robots/bot-01?w=1h")
    assert page.headers["location"] == "/sign-in?next=/robots/bot-01%3Fw%3D1h"
    fragment = await site.client.get("/?q=a", headers=HTMX | {"HX-Current-URL": f"{BASE}/robots/x"})
    assert (fragment.status_code, fragment.headers["hx-redirect"]) == (401, "/sign-in?next=/robots/x")
    script = await site.client.get("/robots/x/series.json", headers={"Accept": "application/json"})
    assert (script.status_code, script.json()["code"]) == (401, "AUTH_REQUIRED")


async def test_sign_in_and_out(site: Site) -> None:
    await site.sign_in_as("viewer")
    site.client.cookies.clear()
    form = {"email": "viewer@example.org", "password": "wrong horse", "next": "/robots/x"}
    assert (await site.client.post("/sign-in", data=form, headers=OWN)).status_code == 401
    right = await site.client.post("/sign-in", data=form | {"password": "correct horse"}, headers=OWN)
    assert right.headers["location"] == "/robots/x"
    cookie = right.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=lax", "Path=/"))
    session = site.client.cookies[COOKIE]
    assert (await site.client.get("/")).status_code == 200
    await site.client.post("/sign-out", headers=OWN)
    site.client.cookies.set(COOKIE, session)
    assert (await site.client.get("/")).status_code == 302


@pytest.mark.parametrize(
    ("then", "where"),
    [
        ("/robots/a?w=1h", "/robots/a?w=1h"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\tx", "/"),
        ("", "/"),
        (None, "/"),
    ],
)
def test_sign_in_leads_nowhere_else(then: str | None, where: str) -> None:
    assert safe_next(then) == where


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": BASE}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
async def test_other_sites_cannot_act_in_our_name(site: Site, headers: dict[str, str], status: int) -> None:
    await site.sign_in_as("engineer")
    answer = await site.client.post("/add-robot", data={"device_id": "b"}, headers=headers | HTMX)
    assert answer.status_code == status


@pytest.mark.parametrize(("role", "may"), [("viewer", False), ("operator", False), ("engineer", True), ("admin", True)])
async def test_only_who_may_add_robots_sees_how(site: Site, role: Role, may: bool) -> None:
    await site.sign_in_as(role)
    assert ("Add robot" in (await site.client.get("/")).text) is may
    answer = await site.client.get("/add-robot", headers=HTMX)
    assert answer.status_code == (200 if may else 403)
    assert ("<form" in answer.text) is may


def test_every_handler_names_its_right_or_is_public(pages: tuple[Litestar, dict[str, Any]]) -> None:
    """One with a right asks for the actor, which is where the right is judged."""
    for handler in handlers(pages[0]):
        if "right" in handler.opt:
            assert "actor" in handler.parsed_fn_signature.parameters, handler.handler_id
        else:
            assert handler.opt.get("public") is True, handler.handler_id


def handlers(app: Litestar) -> list[HTTPRouteHandler]:
    found = [handler for route in app.routes for handler in route.route_handlers]
    return [
        handler
        for handler in found
        if isinstance(handler, HTTPRouteHandler) and handler.fn.__name__ != "options_handler"
    ]


# What they see


async def test_the_fleet_filters_and_pages(site: Site) -> None:
    await site.sign_in_as("viewer")
    for number in range(53):
        await add_robot(site, f"bot-{number:03}", tags=["even" if number % 2 == 0 else "odd"])
    await add_robot(site, "lift", name="The Lift", type="mqtt_device")
    first = await site.client.get("/")
    assert first.text.count("<tr id=") == 50
    following = link(first.text, "next")
    second = await site.client.get(following)
    assert second.text.count("<tr id=") == 4
    assert link(second.text, "prev") == "/"
    assert (await site.client.get("/?q=the%20li")).text.count("<tr id=") == 1
    assert (await site.client.get("/?type=mqtt_device")).text.count("<tr id=") == 1
    assert (await site.client.get("/?tag=even")).text.count("<tr id=") == 27
    assert "No robot matches" in (await site.client.get("/?status=online")).text


def link(html: str, rel: str) -> str:
    return html.split(f'rel="{rel}" href="')[1].split('"', maxsplit=1)[0].replace("&amp;", "&")


def test_the_way_back_goes_through_every_page() -> None:
    """Previous is right from any depth, and far away from the start it stays short."""
    question = fleet.Question(q="bot")
    trail = [question]
    for number in range(60):
        question = question_from(question.next_url(f"cursor{number}"))
        trail.append(question)
    for earlier in reversed(trail[20:-1]):
        question = question_from(question.previous_url())
        assert question.cursor == earlier.cursor
    while (back := question.previous_url()) is not None:
        question = question_from(back)
    assert question == fleet.Question(q="bot")


def question_from(url: str | None) -> fleet.Question:
    assert url is not None
    return fleet.Question(**dict(httpx.QueryParams(url.partition("?")[2])))


async def test_typing_replaces_the_address_and_a_chip_makes_a_new_one(site: Site) -> None:
    await site.sign_in_as("viewer")
    typed = await site.client.get("/?q=a&type=", headers=HTMX | {"HX-Source": "form#filters"})
    assert typed.headers["hx-replace-url"] == "/?q=a"
    assert "<html" not in typed.text
    clicked = await site.client.get("/?status=online", headers=HTMX | {"HX-Source": "a#chip-online"})
    assert clicked.headers["hx-push-url"] == "/?status=online"
    refreshed = await site.client.get("/", headers=HTMX | {"HX-Source": "div#refresh"})
    assert not {"hx-push-url", "hx-replace-url"} & set(refreshed.headers)


async def test_a_robot_s_samples_cannot_end_the_script_that_holds_them(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot", name="</script><script>alert(1)</script>")
    await add_sample(site, "bot", "odom", '{"text":"</script><img src=x onerror=alert(2)>"}')
    html = (await site.client.get("/robots/bot")).text
    assert "<script>alert(1)" not in html
    assert "<img src=x" not in html
    state = html.split('id="robot-state">')[1].split("</script>")[0]
    assert msgspec.json.decode(state)["samples"][0]["payload"]["text"].startswith("</script>")


async def test_series_come_in_buckets_with_gaps(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    start = now() - timedelta(seconds=100)
    rows = [
        Sample("bot", "odom", start + timedelta(seconds=at), f"m{at}", None, now(), msgspec.Raw(b'{"v":{"x":%d}}' % at))
        for at in (0, 1, 90)
    ]
    async with site.edge.open_work() as work:
        await telemetry.insert_samples(work.connection, rows)
    query = {"stream": "odom", "field": ["v.x", "v.none"], "from": start.isoformat(), "points": "400"}
    answer = (await site.client.get("/robots/bot/series.json", params=query)).json()
    values = answer["series"][0]["values"]
    assert [value for value in values if value is not None] == [0, 1, 90]
    assert None in values
    assert set(answer["series"][1]["values"]) == {None}


@pytest.mark.parametrize("query", ["points=0", "points=1e9", "from=yesterday", "field=", "stream=a"])
async def test_a_series_that_cannot_be_is_refused(site: Site, query: str) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    answer = await site.client.get(f"/robots/bot/series.json?{query}", headers={"Accept": "application/json"})
    if query == "field=":
        assert answer.status_code == 200
    else:
        assert answer.status_code in {400, 422}
        assert answer.json()["detail"]


async def test_what_a_device_sends_is_never_run_as_a_page(site: Site) -> None:
    """A picture is shown; anything else, even one that calls itself HTML, is a file."""
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    async with site.edge.open_work() as work:
        for name, kind in (("image", "image/jpeg"), ("page", "text/html"), ("drawing", "image/svg+xml")):
            await telemetry.upsert_frame(work.connection, "bot", name, Frame(now(), kind, b"<script>"))
    shown = {name: await site.client.get(f"/robots/bot/frame/{name}") for name in ("image", "page", "drawing")}
    assert shown["image"].headers["content-type"] == "image/jpeg"
    for name in ("page", "drawing"):
        assert shown[name].headers["content-type"] == "application/octet-stream"
        assert shown[name].headers["content-disposition"] == "attachment"
    assert (await site.client.get("/robots/bot/frame/none")).status_code == 404


async def test_a_silent_robot_s_last_pictures_are_known(site: Site) -> None:
    """Those that came with QoS 1 from the database, others from the hot store, whose word is newer."""
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    old, new = Frame(now() - timedelta(hours=1), "image/png", b"12"), Frame(now(), "image/jpeg", b"1234")
    async with site.edge.open_work() as work:
        for name in ("front", "rear"):
            await telemetry.upsert_frame(work.connection, "bot", name, old)
    for name in ("front", "top"):
        await site.hot.put_frame("bot", name, b"", msgspec.json.encode(FrameInfo.of(name, new)))
    page = (await site.client.get("/robots/bot")).text
    frames = msgspec.json.decode(page.split('id="robot-state">')[1].split("</script>")[0])["frames"]
    assert [(one["name"], one["content_type"], one["size"]) for one in frames] == [
        ("front", "image/jpeg", 4),
        ("rear", "image/png", 2),
        ("top", "image/jpeg", 4),
    ]
    for number in range(FRAME_NAMES_LIMIT + 1):
        await site.hot.put_frame("bot", f"made-up-{number}", b"", msgspec.json.encode(FrameInfo.of("x", new)))
    assert len(await site.hot.frames("bot")) < FRAME_NAMES_LIMIT


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xff\xd8\xff\xe0jpeg", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n...", "image/png"),
        (b"<svg>", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
async def test_a_picture_without_a_type_is_known_by_its_beginning(site: Site, data: bytes, kind: str) -> None:
    """MQTT 3.1.1 has no content type."""
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    async with site.edge.open_work() as work:
        await telemetry.upsert_frame(work.connection, "bot", "image", Frame(now(), "application/octet-stream", data))
    answer = await site.client.get("/robots/bot/frame/image")
    assert answer.headers["content-type"] == kind


async def test_older_log_lines_come_by_cursor(site: Site) -> None:
    await site.sign_in_as("viewer")
    await add_robot(site, "bot")
    lines = [
        NewLog("bot", now(), f"m{n:03}", "info", f"line {n}", "node", msgspec.Raw(b"{}"), now()) for n in range(150)
    ]
    async with site.edge.open_work() as work:
        await telemetry.insert_logs(work.connection, lines)
    first = (await site.client.get("/robots/bot/logs.json")).json()
    rest = (await site.client.get("/robots/bot/logs.json", params={"cursor": first["next_cursor"]})).json()
    assert [len(first["items"]), len(rest["items"]), rest["next_cursor"]] == [100, 50, None]


# Adding a robot


async def test_adding_a_robot_shows_a_command_with_its_credential(site: Site) -> None:
    await site.sign_in_as("engineer")
    form = {"device_id": "bot-01", "name": "Bot", "type": "ros2_robot"}
    answer = await site.client.post("/add-robot", data=form, headers=HTMX | OWN)
    assert "rfd_" in answer.text
    assert "Registered as bot-01" in answer.text
    taken = await site.client.post("/add-robot", data=form, headers=HTMX | OWN)
    assert (taken.status_code, "This id is taken" in taken.text) == (422, True)
    again = await site.client.post("/robots/bot-01/credential", headers=HTMX | OWN)
    assert "rfd_" in again.text


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({"device_id": "a b", "type": "ros2_robot"}, "Use up to 64 letters"),
        ({"device_id": "a", "type": "toaster"}, "Choose one of the list"),
        ({"device_id": "a", "name": "x" * 201, "type": "ros2_robot"}, "Use at most 200"),
    ],
)
async def test_a_form_that_is_wrong_says_where(site: Site, form: dict[str, str], why: str) -> None:
    await site.sign_in_as("engineer")
    answer = await site.client.post("/add-robot", data=form, headers=HTMX | OWN)
    assert answer.status_code == 422
    assert why in answer.text


async def test_the_checklist_follows_a_robot(site: Site) -> None:
    await site.sign_in_as("engineer")
    await add_robot(site, "bot")
    path = "/robots/bot/checklist"
    long_ago = (now() - timedelta(minutes=1)).isoformat()
    assert 'data-state="failed"' in (await site.client.get(path, params={"since": long_ago})).text
    assert 'data-state="failed"' not in (await site.client.get(path, params={"since": now().isoformat()})).text
    await add_sample(site, "bot", "odom", "{}")
    done = (await site.client.get(path)).text
    assert done.count('data-state="done"') == 3
    assert "hx-trigger" not in done


# Errors


async def test_errors_come_in_the_form_that_was_asked_for(site: Site) -> None:
    await site.sign_in_as("viewer")
    page = await site.client.get("/robots/nobody")
    assert (page.status_code, "<html" in page.text, "DEVICE_NOT_FOUND" in page.text) == (404, True, True)
    assert 'href="/groups"' in page.text, "the way on"
    fragment = await site.client.get("/robots/nobody/checklist", headers=HTMX)
    assert (fragment.status_code, "<html" in fragment.text, 'role="alert"' in fragment.text) == (404, False, True)
    script = await site.client.get("/robots/nobody/logs.json", headers={"Accept": "application/json"})
    assert (script.status_code, script.json()["code"]) == (404, "DEVICE_NOT_FOUND")


# What it costs

_queries: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("queries", default=None)


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that the requests of this test run."""
    execute = psycopg.AsyncCursor.execute
    found: list[str] = []

    async def counted(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        # An empty statement is the pool making sure of its connection.
        if query and (seen := _queries.get()) is not None:
            seen.append(str(query))
        return await execute(self, query, *arguments, **options)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", counted)
    return found


@pytest.mark.parametrize(
    ("path", "headers", "count"),
    [
        ("/sign-in", {}, 1),
        ("/", {}, 7),
        ("/", HTMX, 5),
        # The first look at a robot rebuilds its newest values: streams and samples.
        ("/robots/bot", {}, 8),
        ("/robots/bot/update", HTMX, 4),
        ("/robots/bot/series.json?stream=odom&field=x&field=y", {}, 4),
        ("/robots/bot/logs.json", {}, 3),
        ("/robots/bot/export", HTMX, 5),
        ("/robots/bot/checklist", HTMX, 4),
        ("/add-robot", HTMX, 1),
    ],
)
async def test_a_page_costs_so_many_queries(
    site: Site, queries: list[str], path: str, headers: dict[str, str], count: int
) -> None:
    """However many robots and streams there are."""
    await site.sign_in_as("engineer")
    for device_id in ("bot", "other", "third"):
        await add_robot(site, device_id, tags=["a", device_id])
        await add_sample(site, device_id, "odom", '{"x":1,"y":2}')
        await add_sample(site, device_id, "status", '{"battery":50}')
    _queries.set(queries)
    answer = await site.client.get(path, headers=headers)
    _queries.set(None)
    assert answer.status_code == 200
    assert len(queries) == count, "\n".join(queries)


# What a template may use

PAGES = [
    page
    for module in (
        adding,
        audit,
        bulk,
        credentials,
        deployment_form,
        deployments,
        enrolment,
        errors,
        export,
        fleet,
        groups,
        keys,
        layers,
        people,
        robot,
        robot_update,
        schemas,
        shadow,
        shadow_editor,
        shadow_history,
        signing_in,
        tasks,
        updates,
    )
    for page in vars(module).values()
    if isinstance(page, type) and issubclass(page, Page) and page is not Page
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.__name__)
def test_a_template_uses_exactly_what_its_page_declares(page: type[Page]) -> None:
    environment = make_environment()
    declared = {field.name for field in fields(page)}
    assert variables(environment, page.template) - set(environment.globals) == declared


def variables(environment: jinja2.Environment, name: str) -> set[str]:
    """What a template, those it extends and those it includes leave to their context."""
    assert environment.loader is not None
    tree = environment.parse(environment.loader.get_source(environment, name)[0])
    found = jinja2.meta.find_undeclared_variables(tree)
    for other in jinja2.meta.find_referenced_templates(tree):
        if other is not None:
            found |= variables(environment, other)
    return found - {"forms", "icons", "parts", "shadows", "update"}


def test_swaps_use_words_that_htmx_knows() -> None:
    """Others it passes over in silence: a list then stays scrolled to where its end was."""
    environment = make_environment()
    assert environment.loader is not None
    for name in environment.list_templates():
        source = environment.loader.get_source(environment, name)[0]
        for swap in re.findall(r'hx-swap="([^"]+)"', source):
            _, *words = swap.split()
            assert all(re.fullmatch(r"(show|scroll)(:(top|bottom)|Target:\S+)", word) for word in words), name


def test_no_template_holds_script_or_style_of_its_own() -> None:
    """The content security policy refuses them, which shows only in a browser's console."""
    environment = make_environment()
    for name in environment.list_templates():
        assert environment.loader is not None
        source = environment.loader.get_source(environment, name)[0]
        assert " style=" not in source
        assert "hx-on" not in source
        assert "<style" not in source
        assert not [
            part for part in source.split("<script")[1:] if not part.startswith((" src=", ' type="application/json"'))
        ]
