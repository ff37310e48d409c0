"""Sign-in through a provider: a real one in another process, and the same one lying in every way we could think of."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from rosfit.settings import SettingsError, load_settings
from tests.edges.oidc_provider import CLIENT_ID, CLIENT_SECRET
from tests.server import ADMIN_EMAIL, RunningServer, free_ports, running_server

SignIn = Callable[..., httpx.Response]

CALLBACK = "/sign-in/oidc/callback"


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """Its issuer."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tests.edges.oidc_provider", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture(scope="module")
def server(provider: str) -> Iterator[RunningServer]:
    settings = {
        "ROSFIT_OIDC_ISSUER": provider,
        "ROSFIT_OIDC_CLIENT_ID": CLIENT_ID,
        "ROSFIT_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "ROSFIT_OIDC_ROLE_MAP": "robot-admins=admin, ops=operator, cn=guests=viewer",
    }
    with running_server(**settings) as server:
        before_setup = browser(server).get("/sign-in/oidc")
        assert before_setup.headers["Location"] == "/setup", "the first account is a local one"
        assert server.admin
        yield server


def browser(server: RunningServer) -> httpx.Client:
    """Keeps cookies, and follows no redirect by itself."""
    return httpx.Client(base_url=server.url, headers={"Accept": "text/html"}, timeout=15)


@pytest.fixture
def person() -> dict[str, Any]:
    subject = secrets.token_hex(6)
    return {"sub": subject, "email": f"{subject}@corp.example", "name": "Mae Jemison", "groups": ["ops", "lunch"]}


@pytest.fixture
def sign_in(server: RunningServer, provider: str) -> SignIn:
    """From the button to RosFit's last word, which is given back; `client` holds the cookies."""

    def run(claims: dict[str, Any], trick: str = "", *, client: httpx.Client | None = None, then: str = "/") -> Any:
        client = client or browser(server)
        return client.get(to_provider(provider, client, claims, trick, then))

    return run


def to_provider(provider: str, client: httpx.Client, claims: dict[str, Any], trick: str = "", then: str = "/") -> str:
    """Up to where the provider sends the browser back."""
    httpx.post(f"{provider}/-/next", json={"claims": claims, "trick": trick})
    begun = client.get("/sign-in/oidc", params={"next": then})
    assert begun.status_code == 303, begun.text
    return httpx.get(begun.headers["Location"]).headers["Location"]


def users(server: RunningServer) -> dict[str, dict[str, Any]]:
    return {user["email"]: user for user in server.admin.got("/users", limit=200)["items"]}


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert code in answer.text
    assert "rosfit_session" not in answer.cookies


# ── by the book ──


def test_the_button_is_there_when_a_provider_is(server: RunningServer, provider: str) -> None:
    page = browser(server).get("/sign-in", params={"next": "/robots/a?b=1"})
    assert f"Sign in with {urlsplit(provider).netloc}" in page.text
    assert 'href="/sign-in/oidc?next=/robots/a%3Fb%3D1"' in page.text


def test_a_person_signs_in_and_is_made(server: RunningServer, sign_in: SignIn, person: dict[str, Any]) -> None:
    client = browser(server)
    answer = sign_in(person, client=client, then="/?status=online")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/?status=online")
    assert client.get("/").status_code == 200
    user = users(server)[person["email"]]
    assert (user["role"], user["name"]) == ("operator", "Mae Jemison")
    entry = server.admin.got("/audit", actor=user["id"])["items"][0]
    assert (entry["action"], entry["result"]) == ("auth.oidc", "ok")


def test_cookies_are_for_this_browser_only(server: RunningServer, sign_in: SignIn, person: dict[str, Any]) -> None:
    client = browser(server)
    begun = client.get("/sign-in/oidc").headers["Set-Cookie"]
    assert "HttpOnly" in begun
    assert "samesite=lax" in begun.lower()
    assert "Path=/sign-in/oidc" in begun
    sign_in(person, client=client)
    assert set(client.cookies) == {"rosfit_session"}, "what tied the attempt together is gone"


def test_the_subject_counts_and_not_the_address(server: RunningServer, sign_in: SignIn, person: dict[str, Any]) -> None:
    """The same person later, with another address, name and group, is the same user."""
    sign_in(person)
    before = users(server)[person["email"]]
    email = f"new-{person['email']}"
    sign_in(person | {"email": email, "name": "Dr. Jemison", "groups": ["cn=guests"]})
    after = users(server)[email]
    assert (after["id"], after["role"], after["name"]) == (before["id"], "viewer", "Dr. Jemison")
    assert person["email"] not in users(server)


@pytest.mark.parametrize(
    ("groups", "role"),
    [(["ops", "robot-admins"], "admin"), ("ops", "operator"), (["cn=guests", "ops"], "operator")],
)
def test_the_highest_role_of_the_groups_counts(
    server: RunningServer, sign_in: SignIn, person: dict[str, Any], groups: Any, role: str
) -> None:
    assert sign_in(person | {"groups": groups}).status_code == 303
    assert users(server)[person["email"]]["role"] == role


def test_groups_may_be_in_the_user_info(server: RunningServer, sign_in: SignIn, person: dict[str, Any]) -> None:
    assert sign_in(person, "groups in user info").status_code == 303
    assert users(server)[person["email"]]["role"] == "operator"


def test_a_key_that_is_new_is_asked_for(provider: str, sign_in: SignIn, person: dict[str, Any]) -> None:
    """The provider rotates its key, to another algorithm: the next sign-in works without a restart."""
    assert sign_in(person).status_code == 303
    httpx.post(f"{provider}/-/rotate")
    assert sign_in(person).status_code == 303


# ── who may not ──


def test_nobody_without_a_mapped_group_gets_in(server: RunningServer, sign_in: SignIn, person: dict[str, Any]) -> None:
    answer = sign_in(person | {"groups": ["lunch", "Ops"]})
    refused(answer, 403, "OIDC_NO_ROLE")
    assert "Ops, lunch" in answer.text
    assert person["email"] not in users(server)
    assert server.admin.got("/audit", action="auth.oidc")["items"][0]["result"] == "OIDC_NO_ROLE"


def test_who_loses_the_group_is_signed_out(server: RunningServer, sign_in: SignIn, person: dict[str, Any]) -> None:
    client = browser(server)
    sign_in(person, client=client)
    assert client.get("/").status_code == 200
    refused(sign_in(person | {"groups": []}), 403, "OIDC_NO_ROLE")
    assert client.get("/").headers["Location"] == "/sign-in"


def test_an_admin_can_disable_such_a_user(server: RunningServer, sign_in: SignIn, person: dict[str, Any]) -> None:
    sign_in(person)
    user_id = users(server)[person["email"]]["id"]
    assert server.admin.patch(f"/users/{user_id}", json={"disabled": True}).status_code == 200
    refused(sign_in(person), 403, "OIDC_ACCOUNT_DISABLED")


def test_a_local_account_is_never_touched(server: RunningServer, sign_in: SignIn, person: dict[str, Any]) -> None:
    """Whoever the provider says that somebody is: no take-over by address, no demotion, no change."""
    before = users(server)[ADMIN_EMAIL]
    refused(sign_in(person | {"email": ADMIN_EMAIL.upper(), "groups": ["ops"]}), 409, "OIDC_EMAIL_TAKEN")
    sign_in(person)
    assert sign_in(person | {"email": ADMIN_EMAIL}).status_code == 303
    assert users(server)[ADMIN_EMAIL] == before
    assert server.signed_in(ADMIN_EMAIL).got("/auth/me")["role"] == "admin"


def test_an_admin_of_the_provider_does_not_replace_the_last_local_one(
    server: RunningServer, sign_in: SignIn, person: dict[str, Any]
) -> None:
    sign_in(person | {"groups": ["robot-admins"]})
    admin_id = users(server)[ADMIN_EMAIL]["id"]
    assert server.admin.delete(f"/users/{admin_id}").status_code == 409


def test_such_a_user_has_no_password(server: RunningServer, sign_in: SignIn, person: dict[str, Any]) -> None:
    sign_in(person)
    for password in ("", "!", "x" * 12):
        answer = server.anonymous().post("/auth/login", json={"email": person["email"], "password": password})
        assert answer.status_code == 401


# ── a provider that lies ──


@pytest.mark.parametrize(
    "trick",
    [
        "wrong nonce",
        "no nonce",
        "wrong issuer",
        "wrong audience",
        "many audiences",
        "other party",
        "expired",
        "from tomorrow",
        "alg none",
        "signed with the public key",
        "signed with the client's secret",
        "signed by somebody else",
        "changed",
        "no id token",
    ],
)
def test_a_token_that_does_not_fit_is_refused(
    server: RunningServer, sign_in: SignIn, person: dict[str, Any], trick: str
) -> None:
    refused(sign_in(person, trick), 403, "OIDC_TOKEN_INVALID")
    assert person["email"] not in users(server)


def test_a_token_without_a_key_id_is_checked_with_every_key(sign_in: SignIn, person: dict[str, Any]) -> None:
    assert sign_in(person, "no key id").status_code == 303


def test_user_info_of_somebody_else_is_refused(sign_in: SignIn, person: dict[str, Any]) -> None:
    del person["groups"]
    refused(sign_in(person, "user info of another"), 403, "OIDC_TOKEN_INVALID")


@pytest.mark.parametrize("trick", ["denied", "mixed up"])
def test_a_refusal_and_an_answer_of_another_provider(sign_in: SignIn, person: dict[str, Any], trick: str) -> None:
    refused(sign_in(person, trick), 403, "OIDC_REFUSED")


def test_a_person_without_an_address_is_told_so(sign_in: SignIn, person: dict[str, Any]) -> None:
    del person["email"]
    refused(sign_in(person), 403, "OIDC_EMAIL_MISSING")


# ── somebody in between ──


def test_a_code_counts_once(server: RunningServer, provider: str, person: dict[str, Any]) -> None:
    client = browser(server)
    back = to_provider(provider, client, person)
    cookie = client.cookies["rosfit_oidc"]
    assert client.get(back).status_code == 303
    again = httpx.get(back, headers={"Cookie": f"rosfit_oidc={cookie}", "Accept": "text/html"})
    refused(again, 403, "OIDC_REFUSED")


def test_an_answer_begun_in_another_browser_is_refused(
    server: RunningServer, provider: str, person: dict[str, Any]
) -> None:
    """Else an attacker could sign a victim in as the attacker."""
    back = to_provider(provider, browser(server), person)
    victim = browser(server)
    refused(victim.get(back), 400, "OIDC_FLOW_INVALID")
    victim.get("/sign-in/oidc")
    refused(victim.get(back), 400, "OIDC_FLOW_INVALID")


def test_a_changed_state_or_cookie_is_refused(server: RunningServer, provider: str, person: dict[str, Any]) -> None:
    client = browser(server)
    back = to_provider(provider, client, person)
    state = parse_qs(urlsplit(back).query)["state"][0]
    refused(client.get(back.replace(state, "x" * len(state))), 400, "OIDC_FLOW_INVALID")
    assert json.dumps(person) not in client.cookies["rosfit_oidc"]
    cookie = client.cookies["rosfit_oidc"][:-6] + "AAAAA="
    refused(
        httpx.get(back, headers={"Cookie": f"rosfit_oidc={cookie}", "Accept": "text/html"}), 400, "OIDC_FLOW_INVALID"
    )


@pytest.mark.parametrize("then", ["https://evil.example/", "//evil.example/", "/\\evil.example"])
def test_the_way_on_stays_on_this_site(sign_in: SignIn, person: dict[str, Any], then: str) -> None:
    assert sign_in(person, then=then).headers["Location"] == "/"


def test_no_secret_is_in_the_log(server: RunningServer, sign_in: SignIn, person: dict[str, Any]) -> None:
    sign_in(person)
    log = server.log_text()
    assert CLIENT_SECRET not in log
    assert "code=" not in log


# ── settings ──


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ISSUER": "http://login.example.com"}, "oidc_issuer"),
        ({"ISSUER": "https://login.example.com"}, "needs oidc_client_id"),
        ({"ISSUER": "https://login.example.com", "CLIENT_ID": "rosfit"}, "needs oidc_role_map"),
        ({"ROLE_MAP": "ops=king"}, "oidc_role_map"),
        ({"ROLE_MAP": "ops"}, "oidc_role_map"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], says: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"ROSFIT_OIDC_{name}", value)
    with pytest.raises(SettingsError, match=says):
        load_settings()


def test_the_secret_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROSFIT_OIDC_CLIENT_SECRET", CLIENT_SECRET)
    assert load_settings().masked("oidc_client_secret") == "***"
