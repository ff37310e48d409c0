"""Failed sign-ins: counted per account and per address, the same for accounts that do not exist."""

from __future__ import annotations

import secrets
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from rosfit.accounts.throttle import ADDRESS, AT_ONCE
from tests.edges.conftest import PROXY_ADDRESS, ClientFrom
from tests.server import PASSWORD, Client

FREE = 5


@pytest.fixture
def email(admin: Client) -> str:
    email = f"grace-{secrets.token_hex(4)}@example.com"
    admin.made("/auth/register", {"email": email, "password": PASSWORD, "name": "", "role": "viewer"})
    return email


def log_in(client: Client, email: str, password: str = "wrong password") -> httpx.Response:
    return client.post("/auth/login", json={"email": email, "password": password})


def page_sign_in(client: Client, email: str, password: str = "wrong password") -> httpx.Response:
    return client.post("//sign-in", data={"email": email, "password": password})


def codes(answers: list[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]


def plain(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.json().items() if name != "request_id"}


def test_failures_make_the_account_wait_longer_and_longer(client_from: ClientFrom, email: str) -> None:
    """The fifth failure costs 1 s, the next one 2 s; meanwhile even the right password is not tried."""
    client = client_from()
    assert codes([log_in(client, email) for _ in range(FREE)]) == [401] * FREE
    refused = log_in(client, email, PASSWORD)
    assert refused.status_code == 429
    assert refused.json()["code"] == "RATE_LIMITED"
    assert refused.headers["Retry-After"] == "1"
    time.sleep(1.05)  # the wait is what is tested
    assert log_in(client, email).status_code == 401
    assert log_in(client, email).headers["Retry-After"] == "2"


def test_success_forgets_the_failures_of_the_account(client_from: ClientFrom, email: str) -> None:
    client = client_from()
    for _ in range(2):
        assert codes([log_in(client, email) for _ in range(FREE - 1)]) == [401] * (FREE - 1)
        assert log_in(client, email.upper(), PASSWORD).status_code == 200


def test_other_addresses_share_the_count_of_the_account(client_from: ClientFrom, email: str) -> None:
    """A guesser with many addresses gets no more tries."""
    assert codes([log_in(client_from(), email) for _ in range(FREE)]) == [401] * FREE
    assert log_in(client_from(), email).status_code == 429


def test_pages_and_api_share_the_count(client_from: ClientFrom, email: str) -> None:
    client = client_from()
    assert codes([page_sign_in(client, email) for _ in range(FREE)]) == [401] * FREE
    refused = page_sign_in(client, email, PASSWORD)
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "1"
    assert "Wait 1 s" in refused.text
    assert log_in(client, email, PASSWORD).status_code == 429


def test_accounts_that_do_not_exist_answer_the_same(admin: Client, client_from: ClientFrom, email: str) -> None:
    """Status, body and wait of each try are those of an account that exists. The audit log alone can tell."""
    nobody = f"nobody-{secrets.token_hex(4)}@example.com"
    tries = [(log_in(client_from(), email), log_in(client_from(), nobody)) for _ in range(FREE + 1)]
    assert [one.status_code for one, _ in tries] == [401] * FREE + [429]
    for known, unknown in tries:
        assert plain(known) == plain(unknown)
        assert known.headers.get("Retry-After") == unknown.headers.get("Retry-After")
    user_id = next(user["id"] for user in admin.got("/users", limit=200)["items"] if user["email"] == email)
    audited = [item["target"] for item in admin.got("/audit", action="auth.throttled", limit=200)["items"]]
    assert audited.count(user_id) == 1, "once, when the waiting begins"
    assert "unknown account" in audited, "and not by what was typed, which may be a password"


def test_accounts_that_do_not_exist_take_as_long(client_from: ClientFrom, admin: Client) -> None:
    """Argon2 runs for both: the medians are within a factor of two on a busy machine, not a factor of ten."""

    def took(email: str) -> float:
        client = client_from()
        began = time.perf_counter()
        assert log_in(client, email).status_code == 401
        return time.perf_counter() - began

    known = f"slow-{secrets.token_hex(4)}@example.com"
    admin.made("/auth/register", {"email": known, "password": PASSWORD, "name": "", "role": "viewer"})
    pairs = [(took(known), took(f"{secrets.token_hex(4)}@example.com")) for _ in range(FREE - 1)]
    ratio = statistics.median(one for one, _ in pairs) / statistics.median(two for _, two in pairs)
    assert 0.4 < ratio < 2.5


def test_a_burst_of_guesses_gets_no_more_tries(client_from: ClientFrom, email: str) -> None:
    """Twenty at once: five are tried, the others refused."""
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: log_in(client_from(), email), range(20)))
    assert sorted(codes(answers)) == [401] * FREE + [429] * 15


def test_many_people_sign_in_at_once(client_from: ClientFrom, email: str) -> None:
    """Right passwords are not held up by each other."""
    with ThreadPoolExecutor(FREE + 3) as pool:
        answers = list(pool.map(lambda _: log_in(client_from(), email, PASSWORD), range(FREE + 3)))
    assert codes(answers) == [200] * (FREE + 3)


def test_an_address_that_guesses_at_many_accounts_is_slowed_down(client_from: ClientFrom, email: str) -> None:
    """And cannot say that it is another one: only a trusted proxy is believed."""
    stranger = client_from()
    answers = [guess_from(stranger, f"203.0.113.{number}") for number in range(21)]
    assert codes(answers) == [401] * 20 + [429]
    assert log_in(client_from(), email, PASSWORD).status_code == 200, "another address is not held up"


def test_a_burst_at_many_accounts_gets_few_more_tries(client_from: ClientFrom) -> None:
    """Nor the database connections that others need: at most `AT_ONCE` passwords are looked at together."""
    clients = [client_from("127.201.7.7") for _ in range(60)]
    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(lambda client: log_in(client, f"{secrets.token_hex(8)}@example.com"), clients))
    assert set(codes(answers)) == {401, 429}
    assert codes(answers).count(401) <= ADDRESS.free + AT_ONCE


def test_people_behind_a_trusted_proxy_have_addresses_of_their_own(client_from: ClientFrom) -> None:
    proxy, network = client_from(PROXY_ADDRESS), f"198.51.{secrets.randbelow(200)}"
    assert codes([guess_from(proxy, f"{network}.{number}") for number in range(21)]) == [401] * 21


def test_an_ipv6_network_counts_as_one_address(client_from: ClientFrom) -> None:
    proxy, network = client_from(PROXY_ADDRESS), f"2001:db8:{secrets.token_hex(2)}:1"
    answers = [guess_from(proxy, f"{network}::{number:x}") for number in range(21)]
    assert codes(answers) == [401] * 20 + [429]


def guess_from(client: Client, claimed: str) -> httpx.Response:
    """One failure at an account of its own; of an API client, since checking a password takes its time."""
    form = {"grant_type": "client_credentials", "client_id": secrets.token_hex(6), "client_secret": "guess"}
    return client.post("/auth/token", data=form, headers={"X-Forwarded-For": claimed})


def test_api_clients_are_held_up_as_well(admin: Client, client_from: ClientFrom) -> None:
    """`/auth/token` counts its failures, and a good secret clears them."""
    key = admin.made("/api-keys", {"name": "throttled", "scopes": ["devices:read"]})
    client = client_from()

    def ask(secret: str) -> httpx.Response:
        form = {"grant_type": "client_credentials", "client_id": key["id"], "client_secret": secret}
        return client.post("/auth/token", data=form)

    assert codes([ask("guess") for _ in range(FREE - 1)] + [ask(key["secret"])]) == [401] * (FREE - 1) + [200]
    assert codes([ask("guess") for _ in range(FREE)] + [ask(key["secret"])]) == [401] * FREE + [429]
