"""Artifacts, an HTTP server that has its moods, and the update agent in a process that can be killed."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bridge_rig import PACKAGE, clean_env, wait_until
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEY = Ed25519PrivateKey.generate()
ROBOT = Path(__file__).with_name("ota_robot.py")
FINAL = ("succeeded", "failed", "rejected", "rolled_back")


def public_key_file(folder: Path, key: Ed25519PrivateKey = KEY) -> Path:
    path = folder / "update-key.pem"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def release(version: str, *, healthy: bool = True, ballast: int = 200_000) -> dict[str, bytes]:
    """Files of one version: each says which version it belongs to, so that a mixture would show."""
    files = {f"part{number}.txt": f"{version} {number}\n".encode() * 50 for number in range(20)}
    return {**files, "healthy": b"yes" if healthy else b"no", "ballast": os.urandom(ballast)}


@dataclass
class FileServer:
    """Serves bytes by path, with ranges. `pace_s` is slept after each 16 KiB; `cut_after` ends one answer early."""

    files: dict[str, bytes] = field(default_factory=dict)
    pace_s: float = 0.0
    cut_after: int | None = None
    status: int | None = None
    with_etag: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rig = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                rig.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.requests.append((handler.path, asked))
        if self.status is not None:
            handler.send_response(self.status)
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        content = self.files[handler.path]
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        start = 0
        if asked and handler.headers.get("If-Range") == etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.with_etag:
            handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        return self._pour(handler, content[start:])

    def _pour(self, handler: BaseHTTPRequestHandler, content: bytes) -> None:
        for at in range(0, len(content), 16_384):
            if self.cut_after is not None and at >= self.cut_after:
                self.cut_after = None
                return handler.connection.close()
            try:
                handler.wfile.write(content[at : at + 16_384])
            except OSError:
                return None
            time.sleep(self.pace_s)
        return None


def trigger(
    server: FileServer,
    content: bytes,
    *,
    deployment_id: str = "dep_1",
    artifact_id: str = "art_1",
    name: str = "robot-app",
    version: str = "2.0.0",
    key: Ed25519PrivateKey | None = KEY,
    deadline_s: float = 120.0,
    **artifact: Any,
) -> dict[str, Any]:
    """`ota/trigger` for `content`, which the server has from now on."""
    server.files[f"/{artifact_id}"] = content
    digest = hashlib.sha256(content)
    described = {
        "artifact_id": artifact_id,
        "name": name,
        "version": version,
        "url": f"{server.url}/{artifact_id}",
        "size": len(content),
        "sha256": digest.hexdigest(),
        "signature": base64.b64encode(key.sign(digest.digest())).decode() if key else None,
        "key_id": "k1",
        **artifact,
    }
    deadline = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + deadline_s))
    return {"deployment_id": deployment_id, "artifact": described, "deadline": deadline}


class AgentProcess:
    """`ota_robot.py`: the agent with the wire replaced by two files, so that it can be killed at any moment."""

    def __init__(self, folder: Path, ota: str = "") -> None:
        self.folder = folder
        self.updates = folder / "updates"
        self.config = folder / "bridge.yaml"
        key = public_key_file(folder)
        self.config.write_text(
            "rosfit: {device_id: bot-01}\nconnection: {host: localhost}\n"
            f"ota:\n  enabled: true\n  folder: {self.updates}\n  public_keys: [{key}]\n{ota}"
        )
        self.triggers, self.told = folder / "triggers.jsonl", folder / "reports.jsonl"
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> AgentProcess:
        env = {**clean_env(), "PYTHONPATH": str(PACKAGE)}
        command = [sys.executable, str(ROBOT), str(self.config), str(self.triggers), str(self.told)]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=env)
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(15)

    def send(self, message: dict[str, Any]) -> None:
        with self.triggers.open("a") as file:
            file.write(json.dumps(message) + "\n")

    @property
    def reports(self) -> list[dict[str, Any]]:
        """Topic suffix and payload of each, in order; a line that a killed agent left unfinished does not count."""
        if not self.told.exists():
            return []
        lines = self.told.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def outcomes(self, deployment_id: str = "dep_1") -> list[dict[str, Any]]:
        told = [one["payload"] for one in self.reports if one["suffix"] == "ota/result"]
        return [one for one in told if one["deployment_id"] == deployment_id]

    def final(self, deployment_id: str = "dep_1", timeout_s: float = 40.0) -> dict[str, Any]:
        return wait_until(lambda: self.outcomes(deployment_id), timeout_s, f"{deployment_id}; {self.log.read_text()}")[
            -1
        ]

    def steps(self, deployment_id: str = "dep_1") -> list[str]:
        told = [one["payload"] for one in self.reports if one["suffix"] == "ota/progress"]
        return list(dict.fromkeys(one["status"] for one in told if one["deployment_id"] == deployment_id))

    @property
    def current(self) -> Path:
        return self.updates / "current"

    def holds(self, files: dict[str, bytes]) -> bool:
        """Whether exactly these files are what counts now."""
        found = {p.name: p.read_bytes() for p in self.current.iterdir() if not p.name.startswith(".rosfit")}
        return found == files
