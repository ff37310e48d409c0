"""What `bridge enrol` says when it cannot; with a server it is tried in the server's own tests."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from rosfit_bridge import enrol

TOKEN = "rfe_token"


@pytest.fixture
def server():
    """Takes every token, and keeps count of them; its answer is what `answers` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.asked.append(self.path)
            body = json.dumps(self.server.answer).encode()
            self.send_response(201)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    made = HTTPServer(("127.0.0.1", 0), Handler)
    made.asked, made.answer = [], {"device_id": "bot-01", "username": "bot-01", "token": "secret"}
    made.url = f"http://127.0.0.1:{made.server_port}"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(enrol.TOKEN_VARIABLE, TOKEN)

    def run(*words, folder=tmp_path):
        code = enrol.main([*words, "--folder", str(folder), "--config", str(tmp_path / "c.yaml")])
        return code, capsys.readouterr().err

    return run


def test_a_token_file_that_cannot_be_read(run, tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, why in (("none", "No such file or directory"), ("", "Is a directory"), ("binary", "not text")):
        file = str(tmp_path / name)
        code, said = run("--url", "http://127.0.0.1:1", "--token-file", file)
        assert (code, said) == (enrol.USAGE, f"--token-file {file}: {why}\n".replace(f"{tmp_path}/:", f"{tmp_path}:"))


def test_addresses_that_are_none(run):
    for url in ("ftp://x", "http://", "http://127.0.0.1:x", "http://[::1"):
        code, said = run("--url", url)
        assert (code, "is not an address" in said) == (enrol.FAILED, True)


def test_a_token_is_not_spent_when_its_fruit_could_not_be_kept(run, server, tmp_path):
    (tmp_path / "file").write_text("")
    code, said = run("--url", server.url, folder=tmp_path / "file" / "robot")
    assert code == enrol.FAILED
    assert "cannot be written" in said
    assert server.asked == []


def test_an_answer_of_something_else(run, server):
    server.answer = {"hello": "world"}
    code, said = run("--url", server.url)
    assert (code, "is it RosFit?" in said) == (enrol.FAILED, True)


def test_a_damaged_claim_begins_anew(run, server, tmp_path):
    (tmp_path / "enrolment.json").write_text('{"enrolment_id": ')
    assert run("--url", server.url) == (enrol.DONE, "")
    assert (tmp_path / "bot-01.token").read_text() == "secret\n"
