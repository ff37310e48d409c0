"""`bridge enrol`: register this robot with an enrolment token, and leave what the bridge needs to connect."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from rosfit_bridge import tls
from rosfit_bridge.certificates import OpensslError, new_key, openssl, signing_request, write_private
from rosfit_bridge.config import Tls
from rosfit_bridge.server_api import Server, ServerError, address

DONE, FAILED, USAGE = 0, 1, 2
TOKEN_VARIABLE = "ROSFIT_ENROLMENT_TOKEN"  # noqa: S105  a name
_HOW_TO_GIVE_IT = f"--token-file FILE (- is standard input) or the variable {TOKEN_VARIABLE}"
ASK_EVERY_S = 3.0
_FIRST_TOPIC = (
    "    - {ros_topic: /odom, mqtt_suffix: telemetry/odom, msg_type: nav_msgs/Odometry, qos: 1, throttle_hz: 10}"
)


def main(argv: list[str]) -> int:
    options = _options(argv)
    try:
        token = _token(options.token_file)
    except (OSError, UnicodeDecodeError) as error:
        print(f"--token-file {options.token_file}: {getattr(error, 'strerror', None) or 'not text'}", file=sys.stderr)
        return USAGE
    if not token:
        print(
            f"no enrolment token: give --token-file FILE (- is standard input) or set {TOKEN_VARIABLE}", file=sys.stderr
        )
        return USAGE
    try:
        # Before the token is spent: what it brings has to go somewhere.
        for folder in (options.folder, options.config.parent):
            _check_writable(folder)
        if options.certificate:
            openssl("version")
        server = Server(options.url, _context(options))
        credential = enrol(server, token, options.device_id, options.folder)
        written = _write(options, server, credential)
    except (ServerError, OpensslError, OSError) as error:
        print(f"rosfit-bridge enrol: {error}", file=sys.stderr)
        return FAILED
    except KeyError as missing:
        print(f"rosfit-bridge enrol: {options.url} answers without {missing}; is it RosFit?", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("rosfit-bridge enrol: interrupted; the same call goes on where this one was left", file=sys.stderr)
        return FAILED
    print(f"{credential['device_id']} is enrolled; " + ", ".join(str(path) for path in written))
    return DONE


def enrol(server: Server, token: str, device_id: str | None, folder: Path) -> dict:
    """The credential. Waits while somebody must approve; a claim that is kept goes on where it was left."""
    claim_file = folder / "enrolment.json"
    waiting = _kept(claim_file)
    if waiting is None:
        body = {"token": token} if device_id is None else {"token": token, "device_id": device_id}
        status, waiting = server.post("/enrolment", body)
        if status == 201:
            return waiting
        write_private(claim_file, json.dumps(waiting).encode())
        print(f"{waiting['device_id']} waits for approval as {waiting['enrolment_id']}", file=sys.stderr, flush=True)
    return _claim(server, waiting, claim_file)


def _kept(claim_file: Path) -> dict | None:
    """The claim of an earlier call; None without one, or when the file is damaged."""
    try:
        kept = json.loads(claim_file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return kept if isinstance(kept, dict) and {"enrolment_id", "claim", "device_id"} <= kept.keys() else None


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder} cannot be written: {error.strerror}") from error


def _claim(server: Server, waiting: dict, claim_file: Path) -> dict:
    while True:
        try:
            status, answer = server.post(f"/enrolment/{waiting['enrolment_id']}/claim", {"claim": waiting["claim"]})
        except ServerError as error:
            if error.status in (403, 404, 409):
                claim_file.unlink()  # decided: the next call begins anew
            raise
        if status == 201:
            claim_file.unlink()
            return answer
        time.sleep(ASK_EVERY_S)


def _write(options: argparse.Namespace, server: Server, credential: dict) -> list[Path]:
    device_id, folder = credential["device_id"], options.folder
    written = [folder / f"{device_id}.token"]
    write_private(written[0], (credential["token"] + "\n").encode())
    if options.certificate:
        written += _certify(server, credential, folder)
    if not options.config.exists():
        options.config.write_text(_config(options, device_id), encoding="utf-8")
        written.append(options.config)
    return written


def _certify(server: Server, credential: dict, folder: Path) -> list[Path]:
    key, certificate = folder / f"{credential['device_id']}.key", folder / f"{credential['device_id']}.pem"
    new_key(key)
    login = (credential["username"], credential["token"])
    _, answer = server.post("/enrolment/renew", {"csr": signing_request(key, credential["device_id"])}, login)
    write_private(certificate, answer["certificate"].encode())
    return [certificate, key]


def _config(options: argparse.Namespace, device_id: str) -> str:
    """A first configuration; JSON strings are YAML strings."""
    secure = urlsplit(options.url).scheme == "https"
    lines = ["rosfit:", f"  device_id: {json.dumps(device_id)}", f"  url: {json.dumps(options.url)}"]
    lines += ["connection:", f"  host: {json.dumps(urlsplit(options.url).hostname)}", "  tls:"]
    lines.append(f"    enabled: {str(secure).lower()}")
    if options.ca_cert:
        lines.append(f"    ca_cert: {json.dumps(str(options.ca_cert.resolve()))}")
    if options.pin_sha256:
        lines.append(f"    pin_sha256: {json.dumps(options.pin_sha256)}")
    if options.certificate:
        stem = options.folder.resolve() / device_id
        lines += [f"    client_cert: {json.dumps(f'{stem}.pem')}", f"    client_key: {json.dumps(f'{stem}.key')}"]
        lines += [f"  port: {options.mqtt_port or 8885}", "  auth: {method: certificate}"]
    else:
        token = json.dumps(str(options.folder.resolve() / f"{device_id}.token"))
        lines += [f"  port: {options.mqtt_port}"] if options.mqtt_port else []
        lines += ["  auth:", "    method: token", f"    token_file: {token}"]
    lines += ["bridge:", "  publish:", _FIRST_TOPIC]
    return "\n".join(lines) + "\n"


def _context(options: argparse.Namespace):
    if address(options.url).scheme != "https":
        return None
    return tls.context(Tls(True, options.ca_cert, None, None, True, options.pin_sha256))


def _token(file: str | None) -> str:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    return (sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")).strip()


def _fingerprint(value: str) -> str:
    digits = value.replace(":", "").lower()
    if len(digits) != 64 or any(digit not in "0123456789abcdef" for digit in digits):
        raise argparse.ArgumentTypeError("expected 64 hex digits, as rosfit serve prints them")
    return digits


def _file(value: str) -> Path:
    if not Path(value).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {value}")
    return Path(value)


def _options(argv: list[str]) -> argparse.Namespace:
    home = Path(os.environ.get("ROS_HOME") or Path.home() / ".ros")
    parser = argparse.ArgumentParser(prog="bridge enrol", description="Registers this robot with a RosFit server.")
    parser.add_argument("--url", required=True, help="the server, https://fleet.example.com:8000")
    parser.add_argument("--token-file", help=f"the enrolment token: {_HOW_TO_GIVE_IT}")
    parser.add_argument("--device-id", help="made up by the server when it is missing")
    parser.add_argument("--config", type=Path, default=Path("rosfit-bridge.yaml"), help="written unless it is there")
    parser.add_argument("--folder", type=Path, default=home / "rosfit", help="for token, key and certificate")
    parser.add_argument("--certificate", action="store_true", help="connect with a certificate, not with the token")
    parser.add_argument("--mqtt-port", type=int, help="the broker's port, where it is not the usual one")
    parser.add_argument("--ca-cert", type=_file, help="certificate that vouches for the server")
    parser.add_argument("--pin-sha256", type=_fingerprint, help="fingerprint of the server's own certificate")
    return parser.parse_args(argv)
