"""What every refusal must look like."""

import re

import httpx

SECURITY_HEADERS = ("content-security-policy", "x-content-type-options", "referrer-policy")


def assert_problem(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, object]:
    """`application/problem+json` with every member of the contract; returns the body."""
    assert answer.status_code == status, f"{answer.request.method} {answer.request.url}: {answer.text}"
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() >= {"type", "title", "status", "detail", "code", "request_id"}
    assert problem["status"] == status
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*", problem["code"])
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    for header in SECURITY_HEADERS:
        assert header in answer.headers
    if code is not None:
        assert problem["code"] == code
    for error in problem.get("errors", []):
        assert error.keys() == {"field", "message"}
        assert error["message"]
    return problem
