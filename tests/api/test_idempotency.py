"""`Idempotency-Key`: one effect and one answer, whoever asks twice and whenever."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.api.problems import assert_problem
from tests.server import until


def keyed(client, key, body, path="/devices"):
    return client.post(path, json=body, headers={"Idempotency-Key": key})


def test_the_same_key_and_body_give_the_first_answer_again(admin):
    key = secrets.token_hex(8)
    first, again = (keyed(admin, key, {"type": "simulator"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert first.headers["content-type"] == again.headers["content-type"]


def test_the_same_key_with_another_body_is_422(admin, server):
    key = secrets.token_hex(8)
    keyed(admin, key, {"type": "simulator"})
    assert_problem(keyed(admin, key, {"type": "gateway"}), 422, "IDEMPOTENCY_KEY_REUSED")
    assert keyed(server.user("engineer"), key, {"type": "gateway"}).status_code == 201, "keys are per credential"


def test_a_refused_request_leaves_its_key_free(admin, device_id, new_id):
    key = secrets.token_hex(8)
    assert keyed(admin, key, {"device_id": device_id}).status_code == 409
    assert keyed(admin, key, {"device_id": new_id()}).status_code == 201


def test_a_secret_that_is_shown_once_comes_again_only_with_the_key(server, admin, device_id):
    key = secrets.token_hex(8)
    first, again = (keyed(admin, key, {"device_id": device_id}, "/auth/devices/token").json() for _ in range(2))
    assert first == again
    with psycopg.connect(server.endpoints.database_url) as database:
        kept = database.execute("SELECT key, body FROM idempotency_keys WHERE body IS NOT NULL").fetchall()
    assert kept
    assert all(first["token"].encode() not in bytes(body) and key != kept_key for kept_key, body in kept)


def test_a_second_request_waits_for_the_first(server, admin, new_id):
    """While the first is at work (held by a lock here), the second neither fails nor acts; then both say the same."""
    key, body = secrets.token_hex(8), {"device_id": new_id()}
    with psycopg.connect(server.endpoints.database_url) as database, ThreadPoolExecutor(2) as pool:
        database.execute("LOCK TABLE device_vitals IN ACCESS EXCLUSIVE MODE")
        answers = [pool.submit(keyed, admin, key, body) for _ in range(2)]
        until(lambda: inserts_waiting(server) == 2)
        assert not any(answer.done() for answer in answers)
        database.rollback()
        first, second = (answer.result() for answer in answers)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()


def inserts_waiting(server):
    """Requests that wait: the first for the table, the second for the first one's key."""
    query = """SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
               AND (query LIKE 'INSERT INTO device_vitals%' OR query LIKE '%idempotency_keys%')"""
    with psycopg.connect(server.endpoints.database_url) as database:
        return database.execute(query).fetchone()[0]


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_bad_key_is_400(admin, key):
    assert_problem(keyed(admin, key, {"type": "simulator"}), 400, "IDEMPOTENCY_KEY_INVALID")
