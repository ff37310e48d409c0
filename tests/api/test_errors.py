"""Section 3: problem documents, the order of refusals, limits, and who is let in."""

import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from litestar.handlers import HTTPRouteHandler, WebsocketRouteHandler

from rosfit.app import make_app
from rosfit.infra.redis import open_store
from rosfit.settings import Settings
from tests.api.problems import SECURITY_HEADERS, assert_problem
from tests.server import running_server, until

PUBLIC = {
    "/healthz",
    "/readyz",
    "/version",
    "/.well-known/jwks.json",
    "/api/v1/auth/register",
    "/api/v1/auth/login",
    "/api/v1/auth/token",
    "/api/v1/auth/refresh",
    "/api/v1/auth/logout",
}

# Open to programs that bring a secret of their own kind: a signature, an enrolment token, the broker's token.
WITH_A_SECRET = ("/api/v1/hooks/", "/api/v1/mqtt/", "/api/v1/enrolment", "/api/v1/ota/files/")


def test_no_credential_is_401_with_a_challenge(server):
    answer = server.anonymous().get("/devices")
    assert_problem(answer, 401, "AUTH_REQUIRED")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "credential", ["Bearer", "Bearer x", "Bearer a.b.c", "Basic YTpi", "bearer \xe9", "Bearer " + "e" * 9000]
)
def test_a_bad_credential_is_401(server, credential):
    headers = {"Authorization": credential.encode("latin-1")}
    assert_problem(server.anonymous().get("/auth/me", headers=headers), 401)


def test_a_token_signed_by_another_key_is_401(server):
    from rosfit.accounts.models import User
    from rosfit.accounts.tokens import Signer, new_signing_key

    _, key = new_signing_key()
    forged = Signer([key]).sign(User("usr_x", "x@example.com", "x", "admin", ""), "fam_x")
    stranger = server.anonymous(headers={"Authorization": f"Bearer {forged}"})
    assert_problem(stranger.get("/devices"), 401, "AUTH_REQUIRED")


def test_an_unsigned_token_is_401(server, admin):
    import base64
    import json

    _, claims, _ = admin.token.split(".")
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).decode().rstrip("=")
    for signature in ("", "AAAA"):
        headers = {"Authorization": f"Bearer {head}.{claims}.{signature}"}
        assert_problem(server.anonymous().get("/devices", headers=headers), 401)


def test_refusals_come_in_order(server, admin, viewer, device_id):
    """401, then 403, then 404, then 400 or 422: who may not know learns nothing about ids or fields."""
    broken = {"content": b"{not json", "headers": {"Content-Type": "application/json"}}
    nobody = server.anonymous()
    for path in (f"/devices/{device_id}", "/devices/ghost"):
        assert_problem(nobody.patch(path, **broken), 401)
        assert_problem(viewer.patch(path, **broken), 403, "PERMISSION_DENIED")
    assert_problem(admin.patch("/devices/ghost", **broken), 404, "DEVICE_NOT_FOUND")
    assert_problem(admin.patch(f"/devices/{device_id}", **broken), 400)
    assert_problem(admin.patch(f"/devices/{device_id}", json={"tags": "x"}), 422)
    assert_problem(nobody.get("/telemetry/ghost", params={"limit": "x"}), 401)
    assert_problem(admin.get("/telemetry/ghost", params={"limit": "x"}), 404)
    assert_problem(admin.get(f"/telemetry/{device_id}", params={"limit": "x"}), 422)
    assert_problem(nobody.get("/dead-letters"), 401)
    assert_problem(viewer.get("/dead-letters", params={"limit": "x"}), 403)


@pytest.mark.parametrize("path", ["/nothing", "//nothing", "//api", "//api/v2/devices", "/devices/a/b/c/d"])
def test_unknown_paths_are_404(admin, path):
    assert_problem(admin.get(path), 404, "NOT_FOUND")


def test_a_wrong_method_is_405_and_names_the_right_ones(admin):
    answer = admin.put("/devices", json={})
    assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert {"GET", "POST"} <= {method.strip() for method in answer.headers["allow"].split(",")}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"name":"\xff"}', b"[1,", b'{"a":1}x', b"\x00"])
def test_a_body_that_is_not_json_is_400(admin, content):
    answer = admin.post("/devices", content=content, headers={"Content-Type": "application/json"})
    assert_problem(answer, 400)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"metadata":' * 5000 + b"1" + b"}" * 5000])
def test_deep_nesting_is_refused_and_not_a_fault(admin, content):
    answer = admin.post("/devices", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert_problem(answer, answer.status_code)


@pytest.mark.parametrize("type_", ["text/plain", "application/x-www-form-urlencoded", "application/msgpack", "junk"])
def test_another_content_type_is_415(admin, type_):
    answer = admin.post("/devices", content=b'{"type":"simulator"}', headers={"Content-Type": type_})
    assert_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_merge_patch_is_taken_only_where_it_is_merged(admin, device_id):
    """A device's metadata are replaced, so that a null in them would not delete."""
    merge = {"Content-Type": "application/merge-patch+json"}
    body = b'{"metadata": {"a": null}}'
    assert_problem(admin.patch(f"/devices/{device_id}", content=body, headers=merge), 415)
    assert_problem(admin.put(f"/shadow/{device_id}/desired", content=b'{"state": {}}', headers=merge), 415)
    assert admin.patch(f"/shadow/{device_id}/desired", content=b"{}", headers=merge).status_code == 200


@pytest.mark.parametrize("type_", ["application/json; charset=utf-8", "application/json", "APPLICATION/JSON"])
def test_json_by_any_spelling_is_taken(admin, new_id, type_):
    body = f'{{"device_id":"{new_id()}"}}'.encode()
    assert admin.post("/devices", content=body, headers={"Content-Type": type_}).status_code == 201


def test_a_body_that_is_too_large_is_413(admin):
    answer = admin.post("/devices", json={"metadata": {"x": "y" * (11 * 1024 * 1024)}})
    assert "10485760" in str(assert_problem(answer, 413)["detail"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"device_id": "-x"}, "device_id"),
        ({"device_id": "a" * 65}, "device_id"),
        ({"device_id": "a\n"}, "device_id"),
        ({"device_id": "ä"}, "device_id"),
        ({"device_id": 5}, "device_id"),
        ({"type": "tank"}, "type"),
        ({"tags": ["ok", "no space"]}, "tags"),
        ({"tags": "x"}, "tags"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"x": "\0"}}, "metadata"),
        ({"name": ""}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_field_errors_name_the_field(admin, body, field):
    problem = assert_problem(admin.post("/devices", json=body), 422)
    assert problem["errors"][0]["field"].startswith(field)


def test_a_missing_field_is_named_by_itself(server, admin):
    """Also one of an object further in, which goes by its whole path."""
    problem = assert_problem(server.anonymous().post("/auth/login", json={"email": "a@b"}), 422)
    assert [error["field"] for error in problem["errors"]] == ["password"]
    window = {"artifact_id": "art_x", "target": {"tag": "x"}, "window": {"cron": "* * * * *"}}
    problem = assert_problem(admin.post("/ota/deployments", json=window), 422)
    assert [error["field"] for error in problem["errors"]] == ["window.duration_s"]


def test_a_field_called_like_something_injected_is_named_all_the_same(admin):
    body = {"email": "a@b", "password": "long enough", "setup_token": {}}
    problem = assert_problem(admin.post("/auth/register", json=body), 422)
    assert problem["errors"][0]["field"] == "setup_token"


def test_options_needs_a_credential_like_the_rest(server, admin):
    answer = admin.options("/devices")
    assert answer.status_code == 204
    assert "OPTIONS" in answer.headers["allow"]
    assert_problem(server.anonymous().options("/devices"), 401)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "limit=-1", "limit=1e3", "limit=99999999999999999999", "order=up", "from=yesterday",
        "to=2026-01-01", "from=2026-01-01T00:00:00", "from=nan", "from=1e999", "cursor=!!!", "cursor=AAAA",
        "stream=%00", "cursor=WzEsMiwzXQ",
    ],
)  # fmt: skip
def test_bad_query_parameters_are_refused(admin, device_id, query):
    answer = admin.get(f"/telemetry/{device_id}?{query}")
    assert answer.status_code in {400, 422}, answer.text
    assert_problem(answer, answer.status_code)


@pytest.mark.parametrize(
    "path",
    ["/devices?q=%00", "/devices?tag=%00", "/dead-letters?reason=%00", "/dead-letters?device_id=%00", "/devices/%00",
     "/devices/{id}/blobs/%00/latest", "/devices/{id}/logs?level=%00", "/telemetry/{id}/series?stream=%00&field=a",
     "/telemetry/{id}/series?stream=a&field=%00"],
)  # fmt: skip
def test_nul_is_refused_wherever_it_stands(admin, device_id, path):
    answer = admin.get(path.replace("{id}", device_id))
    assert answer.status_code in {400, 404, 422}, answer.text
    assert_problem(answer, answer.status_code)


def test_a_cursor_of_another_list_is_400(admin, device_id, new_id):
    from datetime import UTC, datetime

    from rosfit.kernel.paging import encode_cursor

    admin.device(new_id())
    cursor = admin.got("/devices", limit=1)["next_cursor"]
    for path in (f"/telemetry/{device_id}", "/dead-letters", f"/devices/{device_id}/logs"):
        assert_problem(admin.get(path, params={"cursor": cursor}), 400, "INVALID_CURSOR")
    for forged in (encode_cursor(2**70), encode_cursor("a\0"), encode_cursor(datetime.now(UTC), "a\0", "b")):
        for path in ("/devices", f"/telemetry/{device_id}", "/dead-letters"):
            answer = admin.get(path, params={"cursor": forged})
            assert answer.status_code in {200, 400, 422}, answer.text


def test_the_rate_limit_counts_per_credential():
    """The 101st request of a second is 429 with Retry-After; another credential is not touched by it."""
    with running_server() as server:
        admin, other = server.admin, server.user("viewer")
        with ThreadPoolExecutor(8) as pool:
            started = time.monotonic()
            answers = list(pool.map(lambda _: admin.get("/auth/me"), range(400)))
            seconds = time.monotonic() - started
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused, f"400 requests in {seconds:.1f} s and none refused"
        taken = len(answers) - len(refused)
        assert taken <= 100 * (int(seconds) + 2)
        problem = assert_problem(refused[0], 429, "RATE_LIMITED")
        assert "100" in problem["detail"]
        assert int(refused[0].headers["retry-after"]) >= 1
        assert other.get("/auth/me").status_code == 200


async def asked_within_a_second(stores, count):
    """How long each of the requests of one credential, dealt to the replicas in turn, has to wait."""
    while True:
        second, key = int(time.time()), f"key_{secrets.token_hex(4)}"
        waits = [await stores[number % len(stores)].count_request(key, 100) for number in range(count)]
        if int(time.time()) == second:
            return waits


async def test_replicas_count_together(server):
    """Each takes a share of the limit at a time; together they let through no more than the limit, and little less."""
    async with open_store(server.endpoints.redis_url) as one, open_store(server.endpoints.redis_url) as other:
        waits = await asked_within_a_second((one, other), 300)
        assert 90 <= waits.count(0.0) <= 100
        assert all(0 <= wait <= 1 for wait in waits)
        assert (await asked_within_a_second((one,), 120)).count(0.0) == 100


def test_security_headers_are_on_every_answer(server, admin):
    for answer in (admin.get("/auth/me"), admin.get("//healthz"), admin.get("//nothing"), admin.put("/devices")):
        for header in SECURITY_HEADERS:
            assert header in answer.headers, f"{header} is missing on {answer.url}"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


def test_head_is_get_without_its_body(server, admin):
    """Load balancers and `curl -I` ask so."""
    for path in ("//healthz", "/devices?limit=1", "//static/icon.svg"):
        asked, got = admin.head(path), admin.get(path)
        assert (asked.status_code, asked.content) == (200, b""), path
        assert asked.headers["content-type"] == got.headers["content-type"]
        assert asked.headers["content-length"] == got.headers["content-length"]
    assert server.anonymous().head("/devices").status_code == 401
    assert admin.head("/users/nobody").status_code == 405


def test_a_name_does_not_end_with_a_line(admin, device_id):
    """In a pattern of Python's `$` also stands before a last newline."""
    assert_problem(admin.post("/groups", json={"name": "dock\n"}), 422)
    assert_problem(admin.post(f"/commands/{device_id}", json={"command": "go\n", "queue": True}), 422)
    assert_problem(admin.get(f"/shadow/{device_id}", params={"name": "map\n"}), 400)


def test_a_harmless_request_id_is_kept_and_another_replaced(admin):
    assert admin.get("/auth/me", headers={"X-Request-Id": "abc-123"}).headers["x-request-id"] == "abc-123"
    for nasty in ("a b", "x" * 65, "<script>"):
        assert admin.get("/auth/me", headers={"X-Request-Id": nasty}).headers["x-request-id"] != nasty


def test_query_strings_are_never_logged(server, admin, device_id):
    secret = "s3cret-in-the-query"
    admin.get(f"/devices?q={secret}")
    admin.get(f"//nothing?token={secret}")
    admin.get(f"/telemetry/{device_id}?from={secret}")
    request_id = admin.get("/auth/me").headers["x-request-id"]
    until(lambda: request_id in server.log_text())  # a request is logged once it is answered
    assert secret not in server.log_text()


def _handlers():
    app = make_app(_Nothing())
    for route in app.routes:
        handlers = getattr(route, "route_handlers", None) or [route.route_handler]
        for handler in handlers:
            yield route.path_format, handler


class _Nothing:
    """Stands where the edge would: routes are only walked here."""

    settings = Settings()

    def __getattr__(self, name):
        return None


def test_every_route_names_its_right():
    """A route with neither a right nor `public` was forgotten."""
    forgotten = [
        f"{path} {handler}"
        for path, handler in _handlers()
        if isinstance(handler, HTTPRouteHandler | WebsocketRouteHandler)
        and "right" not in handler.opt
        and not handler.opt.get("public")
        and set(getattr(handler, "http_methods", {"WS"})) != {"OPTIONS"}
    ]
    assert forgotten == []


def test_only_the_public_list_answers_without_a_credential(server):
    """Every route of the app is asked without one: 401, or a page's way to the sign-in."""
    nobody = server.anonymous(follow_redirects=False)
    for path, handler in _handlers():
        methods = set(getattr(handler, "http_methods", set())) - {"OPTIONS"}
        concrete = re.sub(r"{[^}]*}", "x", path)
        for method in methods:
            if path in PUBLIC or handler.opt.get("public") or handler.opt.get("is_static"):
                continue
            answer = nobody.request(method, f"/{concrete}")
            assert answer.status_code == 401 or answer.headers.get("location", "").startswith("/sign-in"), (
                f"{method} {path} answers {answer.status_code}"
            )


def test_nothing_of_the_api_is_public_but_the_list():
    found = {path for path, handler in _handlers() if handler.opt.get("public") and path.startswith("/api/")}
    found = {path for path in found if not path.startswith(WITH_A_SECRET)}
    assert found == {path for path in PUBLIC if path.startswith("/api/")}


def test_what_wants_a_secret_of_its_own_refuses_without(server):
    nobody = server.anonymous()
    for path, handler in _handlers():
        if path.startswith(WITH_A_SECRET) and handler.opt.get("public"):
            concrete = re.sub(r"{[^}]*}", "x", path).removeprefix("/api/v1")
            for method in set(handler.http_methods) - {"OPTIONS"}:
                answer = nobody.request(method, concrete, json={})
                assert 400 <= answer.status_code < 500 or b"deny" in answer.content, f"{method} {path}: {answer.text}"


def test_the_type_of_the_metrics_can_be_parsed(admin):
    """Prometheus 3 refuses a scrape whose Content-Type names a parameter twice."""
    told = admin.get("//metrics").headers["content-type"]
    assert re.fullmatch(r"text/plain; version=[\d.]+; charset=utf-8", told), told


@pytest.mark.parametrize("path", ["//metrics", "//docs", "/openapi.json"])
def test_metrics_and_docs_need_a_credential(server, admin, path):
    assert server.anonymous(follow_redirects=False).get(path).status_code in {302, 303, 307, 401}
    assert admin.get(path).status_code == 200


@pytest.mark.parametrize("path", ["//healthz", "//readyz", "//version", "//.well-known/jwks.json"])
def test_health_needs_none(server, path):
    assert server.anonymous().get(path).status_code == 200


def test_jwks_holds_no_private_key(server):
    keys = server.anonymous().get("//.well-known/jwks.json").json()["keys"]
    assert keys
    assert all("d" not in key and key["kid"] for key in keys)


def test_readyz_names_each_dependency(server):
    checks = server.anonymous().get("//readyz").json()["checks"]
    assert checks == {"database": "ok", "redis": "ok", "broker": "ok", "objects": "ok"}


def test_a_missing_parameter_is_named(admin):
    admin.device("has-series")
    problem = assert_problem(admin.get("/telemetry/has-series/series", params={"stream": "s"}), 422)
    assert problem["errors"] == [{"field": "field", "message": "this query parameter is required"}]
