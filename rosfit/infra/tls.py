"""The server's own certificate: the one that settings name, or one made at the first start and kept."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rosfit.fleet.authority import Authority, AuthorityFiles, Signed, key_pem, self_signed
from rosfit.infra.embedded.data_folder import write_private
from rosfit.kernel.clock import now
from rosfit.settings import Settings, SettingsError

FOLDER = "tls"
# Robots pin a certificate that vouches for itself, so it must not change under them.
SELF_SIGNED_TTL = timedelta(days=3650)
# One of the CA is checked by the CA's name and may change; browsers refuse those that last for more than 825 days.
SIGNED_TTL = timedelta(days=825)
RENEW_BEFORE = timedelta(days=30)

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class ServerPair:
    """PEM files; `fingerprint` is the SHA-256 of the certificate, in hexadecimal."""

    certificate: Path
    key: Path
    fingerprint: str


def server_pair(settings: Settings) -> ServerPair:
    """The pair to serve with. Raises SettingsError when the one that settings name cannot be used."""
    if settings.tls_cert is not None and settings.tls_key is not None:
        return _checked(settings.tls_cert, settings.tls_key)
    if settings.tls_cert is not None or settings.tls_key is not None:
        raise SettingsError("tls_cert and tls_key go together; one is missing. Without both RosFit makes its own.")
    folder = settings.data_dir / FOLDER
    certificate, key = folder / "server.pem", folder / "server.key"
    if not _is_good(certificate):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(certificate, key, _names(settings), AuthorityFiles(settings.data_dir).load())
    return _checked(certificate, key)


def pin_for_robots(settings: Settings) -> str | None:
    """The fingerprint by which robots know a certificate that RosFit has made.

    None without TLS, for a certificate of somebody else, which is renewed, and behind a proxy, which shows its own.
    """
    own = settings.tls and settings.tls_cert is None and not settings.trusted_proxies
    return server_pair(settings).fingerprint if own else None


def secure(config: uvicorn.Config, settings: Settings) -> uvicorn.Config:
    """Have uvicorn serve HTTPS and wss where `tls` says so."""
    if settings.tls:
        pair = server_pair(settings)
        config.ssl_certfile, config.ssl_keyfile = pair.certificate, str(pair.key)
        config.load()
        assert config.ssl is not None
        config.ssl.minimum_version = VERSIONS[settings.tls_min_version]
    return config


def check_exposure(settings: Settings, address: str) -> None:
    """Refuse to listen beyond this machine where passwords could be read on the way. Raises SettingsError."""
    exposed = settings.port and not ipaddress.ip_address(address).is_loopback
    if exposed and not (settings.tls or settings.insecure or settings.trusted_proxies):
        raise SettingsError(
            f"host ({settings.origin('host')}): {settings.host} can be reached from other machines, and without TLS "
            "passwords and tokens can be read on the way. Start with --tls, or name the proxy that does TLS in "
            "ROSFIT_TRUSTED_PROXIES, or say that you want it so with ROSFIT_INSECURE=true."
        )


def _checked(certificate: Path, key: Path) -> ServerPair:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        shown = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError, ssl.SSLError) as error:
        raise SettingsError(f"The TLS certificate {certificate} and key {key} cannot be used: {error}") from error
    return ServerPair(certificate, key, shown.fingerprint(hashes.SHA256()).hex())


def _is_good(certificate: Path) -> bool:
    """Whether the pair we made is there and lasts for a while."""
    if not certificate.exists():
        return False
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc - now() > RENEW_BEFORE


def _make(certificate: Path, key_path: Path, names: list[str], authority: Authority | None) -> None:
    key = _kept_key(key_path) or ec.generate_private_key(ec.SECP256R1())
    signed: Signed
    if authority is None:
        signed, chain = self_signed(key, names, SELF_SIGNED_TTL), ""
    else:
        signed, chain = authority.sign_server(key.public_key(), names, SIGNED_TTL), authority.pem
    write_private(key_path, key_pem(key))
    write_private(certificate, signed.pem + chain)


def _kept_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    """The key of the certificate before this one."""
    if not path.exists():
        return None
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _names(settings: Settings) -> list[str]:
    """What this server is called: by its settings, by its machine, and on the machine itself."""
    public = urlsplit(settings.public_url or "").hostname
    machine = socket.gethostname()
    found = [public, settings.host, machine, *_addresses(machine), "localhost", "127.0.0.1", "::1"]
    return list(dict.fromkeys(name for name in found if name and name not in {"0.0.0.0", "::"}))  # noqa: S104


def _addresses(machine: str) -> list[str]:
    try:
        found = socket.getaddrinfo(machine, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(entry[4][0]).partition("%")[0] for entry in found]
