"""A new signing key, beside a running server: it signs, the old one still verifies, and nobody restarts anything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from joserfc import jws

from tests.server import ADMIN_EMAIL, RunningServer, running_server, until

Rosfit = Callable[..., Any]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """One of its own, since everybody is signed out here."""
    with running_server() as server:
        assert server.admin.get("/auth/me").status_code == 200
        yield server


@pytest.fixture
def rosfit(server: RunningServer) -> Rosfit:
    """Runs `rosfit keys …` beside the server; its JSON."""

    def run(*arguments: str) -> Any:
        command = [sys.executable, "-m", "rosfit.cli", "keys", *arguments, "--data-dir", str(server.data_dir), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def published(server: RunningServer) -> list[str]:
    keys = server.anonymous().got("//.well-known/jwks.json")["keys"]
    assert all("d" not in key for key in keys), "a private key is published"
    return [key["kid"] for key in keys]


def signed_by(token: str | None) -> str:
    assert token
    return str(jws.extract_compact(token.encode()).headers()["kid"])


def test_a_rotated_key_signs_and_the_old_one_verifies(server: RunningServer, rosfit: Rosfit) -> None:
    before = server.signed_in(ADMIN_EMAIL)
    old = signed_by(before.token)
    new = rosfit("rotate")["id"]
    until(lambda: published(server) == [new, old], within_s=5)
    assert before.get("/auth/me").status_code == 200
    assert signed_by(server.signed_in(ADMIN_EMAIL).token) == new
    assert [(key["id"], key["verifies_until"] is None) for key in rosfit("list")] == [
        (new, True),
        (old, False),
    ]


def test_a_stolen_key_is_refused_at_once(server: RunningServer, rosfit: Rosfit) -> None:
    before = server.signed_in(ADMIN_EMAIL)
    new = rosfit("rotate", "--at-once")["id"]
    until(lambda: published(server) == [new], within_s=5)
    assert before.get("/auth/me").status_code == 401
    assert server.signed_in(ADMIN_EMAIL).get("/auth/me").status_code == 200


def test_the_rotation_is_in_the_audit_log(server: RunningServer, rosfit: Rosfit) -> None:
    new = rosfit("rotate")["id"]
    entry = server.signed_in(ADMIN_EMAIL).got("/audit", action="signing_key.rotate")["items"][0]
    assert entry["target"] == new
