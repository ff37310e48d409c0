"""Everybody against everything: who may not is told so before anything else is looked at, and nobody slips through.

Routes and the rights they name are walked in the application; what each role may do is written in `cast` once more.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable

import httpx
import pytest

from rosfit.accounts.rights import Right
from tests.accounts.cast import ADMIN, KEYS, PEOPLE, VIEWER, Cast, Somebody
from tests.accounts.routes import Route, private_routes, public_forms
from tests.server import Client, RunningServer

ROUTES = private_routes()
REST = [route for route in ROUTES if not route.is_page]
PAGES = [route for route in ROUTES if route.is_page]

# They change nothing, whatever their method says.
LOOKING = {("POST", "/api/v1/groups/preview")}


NONSENSE = {"nonsense": True}

# What else those get who may: a form is wanted here, and nothing at all there.
OTHERWISE = {("POST", "/api/v1/ota/artifacts"): 415, ("POST", "/api/v1/ota/keys/rotate"): 201}


def test_what_the_roles_may_is_all_there_is() -> None:
    assert {right.value for right in Right} == ADMIN


def test_whatever_changes_something_needs_more_than_a_viewer_has() -> None:
    open_to_viewers = {
        (route.method, route.template)
        for route in ROUTES
        if route.changes and (route.right is None or route.right.value in VIEWER)
    }
    assert open_to_viewers == LOOKING


def test_what_reads_only_needs_no_right_to_change_unless_it_shows_secrets_or_forms() -> None:
    readers = {route.template for route in REST if not route.changes and route.right and "write" in route.right.value}
    places = ("users", "api-keys", "hook-sources", "dead-letters", "enrolment-tokens")
    assert all(template.split("/")[3] in places for template in readers), readers


def asked(somebody: Somebody, route: Route) -> tuple[int, str]:
    """Status and body. A device in the path is one beyond the reach of those who are limited; answers that go on
    for ever are not read.
    """
    device = "blue-1" if somebody.limited else "none-such"
    url = somebody.client.origin + route.path(device_id=device)
    body = {"json": NONSENSE} if route.has_body else {}
    with somebody.client.stream(route.method, url, **body) as answer:
        read = answer.status_code >= 400
        return answer.status_code, answer.read().decode() if read else ""


def told_apart(somebody: Somebody, routes: list[Route], fits: Callable[[Route, int, str], bool]) -> list[str]:
    """The routes whose answer does not fit, and what they answered."""
    answers = [(route, *asked(somebody, route)) for route in routes]
    return [
        f"{somebody.name}: {route.method} {route.template} answers {status} {body[-300:]}"
        for route, status, body in answers
        if not fits(route, status, body)
    ]


@pytest.mark.parametrize("name", [*PEOPLE, *KEYS])
def test_rest(cast: Cast, name: str) -> None:
    """403 without the right, whatever the path and the body are; then 404 for what is not in reach; then the rest."""
    somebody = cast.get(name)

    def fits(route: Route, status: int, body: str) -> bool:
        if not somebody.may(route):
            return status == 403 and json.loads(body)["code"] == "PERMISSION_DENIED"
        is_nobody = name.startswith("key") and route.template.endswith("/auth/me")
        if "{" in route.template or is_nobody:
            return status == 404
        expected = OTHERWISE.get((route.method, route.template))
        return status == expected if expected else status in ({400, 422} if route.has_body else {200})

    assert told_apart(somebody, REST, fits) == []


def no_credentials(server: RunningServer) -> dict[str, dict[str, str]]:
    """Headers of those whom nobody knows, by what they try."""
    device_token = server.admin.device_token("red-1")
    revoked = server.admin.made("/api-keys", {"name": "gone", "scopes": ["devices:read"]})
    server.admin.delete(f"/api-keys/{revoked['id']}")
    bearers = {
        "a device's token": device_token,
        "a key that never was": "rfk_" + secrets.token_urlsafe(32),
        "a revoked key": revoked["secret"],
        "a word": "admin",
    }
    basic = httpx.BasicAuth("red-1", device_token)._auth_header
    others = {"nothing": {}, "Basic": {"Authorization": basic}, "a Bearer of nothing": {"Authorization": "Bearer"}}
    return others | {name: {"Authorization": f"Bearer {token}"} for name, token in bearers.items()}


def test_rest_without_a_credential_that_holds(server: RunningServer) -> None:
    for name, headers in no_credentials(server).items():
        nobody = Somebody(name, frozenset(), False, server.anonymous(headers=headers))
        assert told_apart(nobody, REST, lambda _route, status, _body: status == 401) == []


def test_the_session_of_a_page_is_no_credential_for_the_api(cast: Cast) -> None:
    """So that no form of another site can use the API in somebody's name."""
    client = cast.server.anonymous(headers={"Cookie": f"rosfit_session={cast.get('admin').session}"})
    readable = {"/docs", "/api/v1/openapi.json"}
    nobody = Somebody("a cookie", frozenset(), False, client)
    assert told_apart(nobody, REST, lambda route, status, _: (status == 200) == (route.template in readable)) == []
    assert told_apart(nobody, REST, lambda route, status, _: status in {200, 401}) == []


# ── pages ──


def page_client(cast: Cast, session: str | None, **headers: str) -> Client:
    cookie = {"Cookie": f"rosfit_session={session}"} if session else {}
    return cast.server.anonymous(headers={"Accept": "text/html"} | cookie | headers)


@pytest.mark.parametrize("name", PEOPLE)
def test_pages(cast: Cast, name: str) -> None:
    person = cast.get(name)
    visitor = person._replace(client=page_client(cast, person.session))

    def fits(route: Route, status: int, _: str) -> bool:
        if not person.may(route):
            return status == 403
        if "{" in route.template:
            return status in ({404, 422} if route.changes else {404})
        if person.limited and (route.method, route.template) == ("POST", "/add-robot"):
            return status in {200, 403, 422}  # a robot that would be out of their own reach
        return status in ({200, 303, 422} if route.changes else {200})

    assert told_apart(visitor, PAGES, fits) == []


@pytest.mark.parametrize("what", ["nothing", "an admin's token", "an old session"])
def test_pages_without_a_session(cast: Cast, what: str) -> None:
    admin = cast.get("admin").client
    client = {
        "nothing": lambda: page_client(cast, None),
        "an admin's token": lambda: page_client(cast, None, Authorization=f"Bearer {admin.token}"),
        "an old session": lambda: page_client(cast, secrets.token_urlsafe(32)),
    }[what]()
    for route in PAGES:
        answer = client.request(route.method, f"/{route.path()}")
        assert answer.headers.get("location", "").startswith("/sign-in"), f"{route.method} {route.template}"


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}]
)
def test_no_form_is_taken_from_another_site(cast: Cast, headers: dict[str, str]) -> None:
    client = page_client(cast, cast.get("admin").session, **headers)
    forms = [route.path() for route in PAGES if route.changes] + public_forms()
    assert {"/sign-in", "/sign-out", "/setup"} < set(forms)
    for path in forms:
        answer = client.post(f"/{path}")
        assert answer.status_code == 403, path
        assert "CROSS_SITE_REQUEST" in answer.text
