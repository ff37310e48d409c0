"""Secrets of a whole day, looked for where they must not be: in git, in logs, in command lines, in the database."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql
from websockets.sync.client import connect

from tests.server import Client, Robot, RunningServer, running_server, until

HOOK_TOKEN = f"hook-{secrets.token_hex(16)}"
ROOT = Path(__file__).parents[2]


class CommandLines(threading.Thread):
    """Every command line of the machine, looked at again and again while it runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            self.seen |= set(self._look())

    @staticmethod
    def _look() -> Iterator[bytes]:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                yield (process / "cmdline").read_bytes()
            except OSError:
                continue


class Day:
    """What people, programs and robots do in a day; `canaries` are the secrets that came up, by name."""

    def __init__(self, server: RunningServer, oidc_secret: str) -> None:
        self.server = server
        self.canaries = {"the provider's secret": oidc_secret}

        self.refusals: list[str] = []

    def live(self) -> None:
        admin = self.people()
        self.programs(admin)
        self.robots(admin)
        self.enrolment(admin)
        self.webhooks(admin)
        self.mistakes()

    def note(self, name: str, secret: str) -> str:
        self.canaries[name] = secret
        return secret

    def people(self) -> Client:
        password = self.note("a password", f"pass-{secrets.token_hex(12)}")
        self.command(["user", "create", "ada@example.com", "--role", "admin", "--password-file", "-"], password)
        client = self.server.anonymous()
        wrong = self.note("a mistyped password", f"wrong-{secrets.token_hex(12)}")
        client.post("/auth/login", json={"email": "ada@example.com", "password": wrong})
        client.post("/auth/login", json={"email": wrong, "password": "in the other field"})
        tokens = client.made("/auth/login", {"email": "ada@example.com", "password": password}, 200)
        self.note("a refresh token", tokens["refresh_token"])
        renewed = client.made("/auth/refresh", {"refresh_token": tokens["refresh_token"]}, 200)
        access = self.note("an access token", renewed["access_token"])
        page = httpx.post(f"{self.server.url}/sign-in", data={"email": "ada@example.com", "password": password})
        self.note("a session", page.cookies["rosfit_session"])
        with connect(f"{self.server.websocket_url}?token={access}") as ws:
            assert json.loads(ws.recv(10))["type"] == "auth_result"
        return Client(self.server.url, access)

    def programs(self, admin: Client) -> None:
        once = {"Idempotency-Key": secrets.token_hex(8)}
        key = admin.post("/api-keys", json={"name": "wms", "scopes": ["devices:read"]}, headers=once).json()
        self.note("an API key", key["secret"])
        assert Client(self.server.url, key["secret"]).get("/devices").status_code == 200
        form = {"grant_type": "client_credentials", "client_id": key["id"], "client_secret": key["secret"]}
        self.note("a program's token", self.server.anonymous().post("/auth/token", data=form).json()["access_token"])

    def robots(self, admin: Client) -> None:
        device_id = f"bot-{secrets.token_hex(4)}"
        admin.device(device_id)
        token = self.note("a device token", admin.device_token(device_id))
        with Robot(self.server.mqtt_port, device_id, token) as robot:
            robot.sample("odom", {"x": 1})

    def enrolment(self, admin: Client) -> None:
        token = self.note("an enrolment token", admin.made("/enrolment-tokens", {"name": "rack"})["token"])
        name = {"device_id": f"new-{secrets.token_hex(4)}"}
        enrolled = self.server.anonymous().made("/enrolment", {"token": token, **name})
        self.note("an enrolled robot's token", enrolled["token"])
        jwt = admin.made(f"/devices/{name['device_id']}/credentials", {"kind": "jwt"})
        self.note("a robot's JWT", jwt["token"])
        asked = self.server.anonymous().post(
            f"/mqtt/rabbitmq/user/{HOOK_TOKEN}", data={"username": jwt["username"], "password": jwt["token"]}
        )
        assert asked.text == "allow"
        with Robot(self.server.mqtt_port, name["device_id"], enrolled["token"]) as robot:
            robot.publish("telemetry/odom", b"not JSON")
            until(lambda: admin.got("/dead-letters", device_id=name["device_id"])["items"])

    def mistakes(self) -> None:
        """Each secret, a little wrong or in a place where it does not belong; what is answered is kept."""
        client = self.server.anonymous()
        for secret in list(self.canaries.values()):
            bearer = {"Authorization": f"Bearer {secret}x"}
            answers = [
                client.get("/devices", headers=bearer),
                client.post("/devices", json={"device_id": secret}, headers=bearer),
                client.post("/auth/refresh", json={"refresh_token": f"{secret}x"}),
                client.post("/auth/login", json={"email": f"{secret}@example.com", "password": secret}),
                client.post("/auth/register", json={"setup_token": secret}),
                client.post("/auth/token", data={"grant_type": "client_credentials", "client_secret": secret}),
                client.post("/enrolment", json={"token": f"{secret}x", "device_id": "bot"}),
                client.post("/hooks/wms", content=b"{}", headers={"X-RosFit-Signature": secret}),
                client.post("/mqtt/auth", json={"username": "bot"}, headers={"X-RosFit-Token": secret + "x"}),
                client.post("//sign-in", data={"email": "ada@example.com", "password": f"{secret}x"}),
                client.get("/devices", params={"cursor": secret}, headers=bearer),
            ]
            assert all(answer.status_code >= 400 for answer in answers), [one.status_code for one in answers]
            self.refusals += [f"{answer.text} {answer.headers}" for answer in answers]

    def webhooks(self, admin: Client) -> None:
        secret = self.note("a webhook's secret", admin.made("/hook-sources", {"source": "wms"})["secret"])
        body, at = b"{}", str(int(time.time()))
        signature = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        headers = {"X-RosFit-Timestamp": at, "X-RosFit-Signature": f"sha256={signature}"}
        assert self.server.anonymous().post("/hooks/wms", content=body, headers=headers).status_code == 202

    def command(self, arguments: list[str], stdin: str) -> None:
        where = ["--data-dir", str(self.server.data_dir)]
        run = [sys.executable, "-m", "rosfit.cli", *arguments, *where]
        subprocess.run(run, input=stdin, text=True, check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def day() -> Iterator[tuple[Day, set[bytes]]]:
    lines = CommandLines()
    lines.start()
    oidc_secret = f"oidc-{secrets.token_hex(12)}"
    settings = {
        "ROSFIT_OIDC_ISSUER": "https://login.invalid",
        "ROSFIT_OIDC_CLIENT_ID": "rosfit",
        "ROSFIT_OIDC_CLIENT_SECRET": oidc_secret,
        "ROSFIT_OIDC_ROLE_MAP": "ops=operator",
        "ROSFIT_LOG_LEVEL": "debug",
        "ROSFIT_MQTT_HOOK_TOKEN": HOOK_TOKEN,
    }
    with running_server(**settings) as server:
        day = Day(server, oidc_secret)
        setup_token = (server.data_dir / "setup-token").read_text()
        day.note("the broker's hook token", HOOK_TOKEN)
        day.note("RosFit's own broker password", (server.data_dir / "state/broker-password").read_text().strip())
        day.live()
        lines.over.set()
        lines.join()
        assert not any(setup_token.encode() in line for line in lines.seen)
        yield day, lines.seen


def found_in(day: Day, text: str) -> list[str]:
    return [name for name, secret in day.canaries.items() if secret in text]


def test_the_day_had_secrets(day: tuple[Day, set[bytes]]) -> None:
    assert len(day[0].canaries) == 15
    assert all(len(secret) >= 20 for secret in day[0].canaries.values())


def test_none_is_in_a_log(day: tuple[Day, set[bytes]]) -> None:
    """RosFit's own at its most talkative, and those of the servers that it starts."""
    server = day[0].server
    logs = [server.log, *(server.data_dir / "log").iterdir()]
    assert len(logs) >= 4
    for log in logs:
        assert not found_in(day[0], log.read_text(errors="replace")), log.name


def test_none_is_in_a_refusal(day: tuple[Day, set[bytes]]) -> None:
    """Neither what was sent nor what is right."""
    assert len(day[0].refusals) > 100
    for refusal in day[0].refusals:
        assert not found_in(day[0], refusal), refusal


def test_dead_letters_have_none(day: tuple[Day, set[bytes]]) -> None:
    letters = Client(day[0].server.url, day[0].canaries["an access token"]).get("/dead-letters").text
    assert "not JSON" in letters or "bm90IEpTT04" in letters
    assert not found_in(day[0], letters)


def test_none_is_in_a_command_line(day: tuple[Day, set[bytes]]) -> None:
    everything = b"\n".join(day[1]).decode(errors="replace")
    assert "rosfit.cli" in everything
    assert not found_in(day[0], everything)


def test_none_is_in_git(day: tuple[Day, set[bytes]]) -> None:
    patterns = [part for secret in day[0].canaries.values() for part in ("-e", secret)]
    done = subprocess.run(
        ["git", "grep", "--no-index", "--exclude-standard", "-l", "-F", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr


def test_the_database_has_hashes(day: tuple[Day, set[bytes]]) -> None:
    """But for the webhook's secret, without which no signature can be checked."""
    with psycopg.connect(day[0].server.endpoints.database_url) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        rows = [
            connection.execute(sql.SQL("SELECT string_agg(t::text, ' ') FROM {} AS t").format(sql.Identifier(table)))
            for (table,) in tables
        ]
        text = " ".join(str(row.fetchone()) for row in rows)
    assert found_in(day[0], text) == ["a webhook's secret"]


def test_the_audit_log_has_none(day: tuple[Day, set[bytes]]) -> None:
    access = Client(day[0].server.url, day[0].canaries["an access token"])
    export = access.get("/audit/export").text
    assert "hook_source.create" in export
    assert not found_in(day[0], export)
