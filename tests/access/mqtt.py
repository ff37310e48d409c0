"""Plain paho clients at each of the broker's doors, and keys and requests as a robot makes them."""

from __future__ import annotations

import secrets
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.server import until


class RefusedError(Exception):
    """The broker did not let the client in."""


@dataclass
class Identity:
    """A robot's key, its request, and the certificate it got for it."""

    key: ec.EllipticCurvePrivateKey
    csr: str
    certificate: str = ""

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def write(self, folder: Path) -> tuple[Path, Path]:
        stem = secrets.token_hex(4)
        certificate, key = folder / f"{stem}.pem", folder / f"{stem}.key"
        certificate.write_text(self.certificate)
        key.write_bytes(self.key_pem)
        return certificate, key


def new_identity(common_name: str = "whoever") -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return Identity(key, request.public_bytes(serialization.Encoding.PEM).decode())


class Session:
    """One MQTT 5 connection. Raises RefusedError on entry when the broker refuses."""

    def __init__(self, port: int, *, websocket: bool, context: ssl.SSLContext | None, **options: Any) -> None:
        self._username, self._password = options.pop("username", None), options.pop("password", None)
        will = options.pop("will", None)
        options.setdefault("protocol", paho.MQTTv5)
        transport = "websockets" if websocket else "tcp"
        self._paho = client = paho.Client(paho.CallbackAPIVersion.VERSION2, transport=transport, **options)
        client.reconnect_on_failure = False  # type: ignore[attr-defined]
        client._reconnect_on_failure = False
        if websocket:
            client.ws_set_options(path="/mqtt")
        if context is not None:
            client.tls_set_context(context)
        if self._username is not None:
            client.username_pw_set(self._username, self._password)
        if will is not None:
            client.will_set(*will)
        self.codes: list[Any] = []
        self.received: list[tuple[str, bytes]] = []
        self.lost = threading.Event()
        self.lost_at = 0.0
        client.on_connect = lambda _client, _data, _flags, code, _properties: self.codes.append(code)
        client.on_message = lambda _client, _data, message: self.received.append((message.topic, message.payload))
        client.on_disconnect = self._on_disconnect
        self._port = port

    def _on_disconnect(self, *_: Any) -> None:
        self.lost_at = time.monotonic()
        self.lost.set()

    def __enter__(self) -> Self:
        try:
            self._paho.connect("127.0.0.1", self._port)
        except (OSError, ssl.SSLError, paho.WebsocketConnectionError) as error:
            raise RefusedError(str(error)) from error
        self._paho.loop_start()
        until(lambda: self.codes or self.lost.is_set())
        if not self.codes or self.codes[0].is_failure:
            self._paho.loop_stop()
            raise RefusedError(str(self.codes))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()

    def publish(self, topic: str, payload: bytes = b"{}", *, retain: bool = False) -> None:
        """QoS 1, returns with the acknowledgement; that does not say that anybody got it."""
        self._paho.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def subscribe(self, wanted: str) -> bool:
        """Whether the broker granted it."""
        answers: list[Any] = []
        self._paho.on_subscribe = lambda _client, _data, _mid, codes, _properties: answers.extend(codes)
        self._paho.subscribe(wanted, qos=1)
        return not until(lambda: answers)[0].is_failure

    def topics(self) -> list[str]:
        return sorted(topic for topic, _ in self.received)

    def drop(self) -> None:
        """Lose the connection, so that the will goes out."""
        sock = self._paho.socket()
        assert sock is not None
        self._paho.loop_stop()
        sock.close()

    @property
    def connected(self) -> bool:
        return not self.lost.is_set()


@dataclass
class Doors:
    """The ports of one broker and the CA that vouches for them."""

    ca: Path
    plain: int
    ws: int
    tls: int
    wss: int
    cert: int

    def by_password(self, username: str, password: str, door: str = "tls", **options: Any) -> Session:
        context = self.context() if door in {"tls", "wss"} else None
        return self._session(door, context, username=username, password=password, **options)

    def by_certificate(self, files: tuple[Path, Path], **options: Any) -> Session:
        context = self.context()
        context.load_cert_chain(*files)
        return self._session("cert", context, **options)

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def _session(self, door: str, context: ssl.SSLContext | None, **options: Any) -> Session:
        return Session(getattr(self, door), websocket=door in {"ws", "wss"}, context=context, **options)


def is_refused(session: Session) -> bool:
    try:
        with session:
            return False
    except RefusedError:
        return True
