"""The TLS context of the connection to the broker."""

from __future__ import annotations

import hashlib
import hmac
import ssl

from rosfit_bridge.config import Tls


class PinMismatchError(ssl.SSLError):
    """The broker showed a certificate other than the pinned one."""


def context(tls: Tls) -> ssl.SSLContext:
    """Raises `ssl.SSLError` or `OSError` when a certificate file cannot be used."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = tls.verify_hostname
    if tls.ca_cert:
        made.load_verify_locations(str(tls.ca_cert))
    elif tls.pin_sha256:
        # A pin without a CA trusts exactly this certificate, self-signed or not.
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        made.load_default_certs()
    if tls.client_cert and tls.client_key:
        made.load_cert_chain(str(tls.client_cert), str(tls.client_key), password="")
    if tls.pin_sha256:
        made.sslsocket_class = _pinned(tls.pin_sha256)
    return made


def _pinned(fingerprint: str) -> type[ssl.SSLSocket]:
    """Checks as part of the handshake, so before the first byte of MQTT (and the password) is sent."""

    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            shown = hashlib.sha256(self.getpeercert(binary_form=True) or b"").hexdigest()
            if not hmac.compare_digest(shown, fingerprint):
                raise PinMismatchError(f"the broker's certificate has SHA-256 {shown}, not the pinned {fingerprint}")

    return PinnedSocket
