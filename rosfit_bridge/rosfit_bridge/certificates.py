"""The robot's certificate: asked for with a password, renewed with the present one. Keys are made by `openssl`."""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import threading
from pathlib import Path

from rosfit_bridge import tls
from rosfit_bridge.config import Config
from rosfit_bridge.server_api import Server, ServerError

log = logging.getLogger("rosfit_bridge")

# Certificates last 90 days: a robot that is switched off for a month still renews in time.
RENEW_BEFORE_S = 30 * 86_400
CHECK_EVERY_S = 6 * 3600.0
RETRY_AFTER_S = 300.0


class OpensslError(Exception):
    """`openssl` is missing or failed."""


def new_key(path: Path) -> None:
    """EC P-256, readable by its owner only."""
    write_private(path, openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout"))


def signing_request(key: Path, device_id: str) -> str:
    return openssl("req", "-new", "-key", str(key), "-subj", f"/CN={device_id}").decode()


def runs_out_within(certificate: Path, seconds: float) -> bool:
    checked = _run(["x509", "-checkend", str(int(seconds)), "-noout", "-in", str(certificate)])
    return checked.returncode != 0


def renew(server: Server, certificate: Path, key: Path, device_id: str) -> None:
    """A new certificate for the same key, in one step: a robot is never left with halves that do not fit."""
    csr = signing_request(key, device_id)
    signature = openssl("dgst", "-sha256", "-sign", str(key), stdin=csr.encode())
    body = {"csr": csr, "certificate": certificate.read_text(), "signature": base64.b64encode(signature).decode()}
    _, answer = server.post("/enrolment/renew", body)
    write_private(certificate, answer["certificate"].encode())
    log.info("the certificate was renewed and is valid to %s", answer["expires_at"])


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    """Its output. Raises OpensslError."""
    done = _run([*arguments], stdin)
    if done.returncode != 0:
        raise OpensslError(f"openssl {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout


def _run(arguments: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = ["openssl", *arguments]
    try:
        return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OpensslError(f"openssl cannot be run ({error}); install it: apt-get install openssl") from error


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` in one step by a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


class Renewal:
    """Renews in the background while the bridge runs; the next connection uses the new certificate."""

    def __init__(self, server: Server, certificate: Path, key: Path, device_id: str) -> None:
        self._arguments = (server, certificate, key, device_id)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="certificate", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def _keep(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            pause = self.turn()

    def turn(self) -> float:
        """Renew if it is time; seconds until the next look."""
        try:
            if runs_out_within(self._arguments[1], RENEW_BEFORE_S):
                renew(*self._arguments)
        except (ServerError, OpensslError, OSError, KeyError) as error:
            log.warning("the certificate could not be renewed: %s", error)
            return RETRY_AFTER_S
        return CHECK_EVERY_S


def renewal_of(config: Config) -> Renewal | None:
    """What renews the configured certificate; None without one, or without `rosfit.url`."""
    wanted, url = config.connection.tls, config.rosfit.url
    if url is None or wanted.client_cert is None or wanted.client_key is None:
        return None
    context = tls.context(wanted) if url.startswith("https") else None
    return Renewal(Server(url, context), wanted.client_cert, wanted.client_key, config.rosfit.device_id)
