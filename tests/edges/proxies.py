"""The real Caddy and nginx of Debian, unpacked without root, with the files that `config/` ships."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rosfit.infra.embedded import debian_packages
from tests.server import free_ports, until

CONFIG = Path(__file__).parents[2] / "config"
PROGRAMS = {"caddy": "usr/bin/caddy", "nginx": "usr/sbin/nginx"}


@dataclass(frozen=True)
class Proxy:
    url: str
    trust: ssl.SSLContext


@contextlib.contextmanager
def running_proxy(name: str, folder: Path, backend_port: int, mqtt_ws_port: int) -> Iterator[Proxy]:
    """The shipped configuration with other names and ports, in front of a server on loopback."""
    folder.mkdir(parents=True)
    port, plain_port = free_ports(2)
    certificate = make_certificate(folder)
    shipped = (CONFIG / ("Caddyfile" if name == "caddy" else "nginx.conf")).read_text()
    shipped = shipped.replace("127.0.0.1:8000", f"127.0.0.1:{backend_port}")
    shipped = shipped.replace("127.0.0.1:8083", f"127.0.0.1:{mqtt_ws_port}")
    command = (
        _prepared_caddy(shipped, folder, port)
        if name == "caddy"
        else _prepared_nginx(shipped, folder, port, plain_port)
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=_environment(name, folder), stdout=log, stderr=log)
    try:
        until(lambda: _listens(port) or process.poll() is not None, within_s=20)
        assert process.poll() is None, (folder / "log").read_text()
        yield Proxy(f"https://127.0.0.1:{port}", ssl.create_default_context(cafile=certificate))
    finally:
        # Not asked politely: it would wait for every stream that is open.
        process.kill()
        process.wait(10)


def _prepared_caddy(shipped: str, folder: Path, port: int) -> list[str]:
    site = f"https://127.0.0.1:{port} {{\n\ttls {folder}/cert.pem {folder}/key.pem\n"
    text = shipped.replace("fleet.example.com {\n", site)
    assert text != shipped
    # One on a developer's machine has the same administration port.
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + text)
    return [_program("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _prepared_nginx(shipped: str, folder: Path, port: int, plain_port: int) -> list[str]:
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "listen 80;": f"listen 127.0.0.1:{plain_port};",
        "/etc/ssl/rosfit/fullchain.pem": f"{folder}/cert.pem",
        "/etc/ssl/rosfit/privkey.pem": f"{folder}/key.pem",
    }
    for old, new in changes.items():
        assert old in shipped
        shipped = shipped.replace(old, new)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}{shipped}\n}}\n"
    )
    return [_program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _environment(name: str, folder: Path) -> dict[str, str]:
    tree = _tree(name)
    libraries = {"LD_LIBRARY_PATH": debian_packages.library_path(tree)} if tree.exists() else {}
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder), **libraries}


def _tree(name: str) -> Path:
    return Path(sysconfig.get_path("data")) / "share/rosfit" / name


def _program(name: str) -> str:
    """The installed one, or Debian's, unpacked into the virtual environment once."""
    if not _tree(name).exists():
        installed = shutil.which(name) or shutil.which(name, path="/usr/sbin")
        if installed:
            return installed
        debian_packages.unpack(name, _tree(name))
    return str(_tree(name) / PROGRAMS[name])


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def make_certificate(folder: Path) -> Path:
    """cert.pem and key.pem for 127.0.0.1, good for an hour."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(hours=1))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "cert.pem"
