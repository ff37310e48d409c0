"""TLS on the web server and the broker: versions, certificates, and what may listen in the clear."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from websockets.asyncio.client import connect

from rosfit.dashboard.connecting import broker_address
from rosfit.infra.tls import check_exposure, server_pair
from rosfit.settings import Settings, SettingsError
from tests.access.beside import rosfit
from tests.access.mqtt import Doors, Session, is_refused
from tests.server import Client, RunningServer

V1_1, V1_2, V1_3 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


# That 1.1 is deprecated is why it is tried.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")


def only(doors: Doors, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = doors.context()
    context.set_ciphers("ALL:@SECLEVEL=0")  # or OpenSSL itself would not speak 1.1
    context.minimum_version = context.maximum_version = version
    return context


def test_web_server_speaks_1_3_only(server: RunningServer, doors: Doors) -> None:
    assert httpx.get(f"{server.url}/healthz", verify=only(doors, V1_3)).status_code == 200
    for version in (V1_1, V1_2):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/healthz", verify=only(doors, version))
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.url.replace('https', 'http')}/healthz")


async def test_websocket_is_wss(server: RunningServer, admin: Client, doors: Doors) -> None:
    address = f"wss://127.0.0.1:{server.port}/ws?token={admin.token}"
    async with connect(address, ssl=doors.context()) as socket, asyncio.timeout(5):
        assert json.loads(await socket.recv())["type"] == "auth_result"


@pytest.mark.parametrize("door", ["tls", "wss"])
def test_broker_speaks_1_2_and_1_3(admin: Client, doors: Doors, device_id: str, door: str) -> None:
    token = admin.device_token(device_id)
    for version, refused in ((V1_1, True), (V1_2, False), (V1_3, False)):
        session = Session(
            getattr(doors, door),
            websocket=door == "wss",
            context=only(doors, version),
            username=device_id,
            password=token,
        )
        assert is_refused(session) is refused, version


def test_fingerprint_is_printed_and_right(server: RunningServer) -> None:
    shown = x509.load_pem_x509_certificate((server.data_dir / "tls/server.pem").read_bytes())
    assert f"TLS certificate SHA-256: {shown.fingerprint(hashes.SHA256()).hex()}" in server.log_text()


def test_private_keys_are_closed_to_others(server: RunningServer) -> None:
    keys = [server.data_dir / name for name in ("ca/ca.key", "tls/server.key", "mosquitto/server.key")]
    assert [oct(key.stat().st_mode & 0o777) for key in keys] == ["0o600"] * 3


def test_authority_is_never_overwritten(server: RunningServer) -> None:
    before = (server.data_dir / "ca/ca.key").read_bytes()
    again = rosfit("ca", "init", data_dir=server.data_dir)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert (server.data_dir / "ca/ca.key").read_bytes() == before
    shown = rosfit("ca", "show", "--json", data_dir=server.data_dir)
    assert json.loads(shown.stdout)["certificate"] == (server.data_dir / "ca/ca.pem").read_text()


def test_own_certificate_is_kept_and_covers_the_names(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, tls=True, public_url="https://fleet.example.com")
    pair = server_pair(settings)
    assert server_pair(settings) == pair
    names = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert {"fleet.example.com", "localhost"} <= set(names.value.get_values_for_type(x509.DNSName))


def test_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nothing")
    for cert, key, said in (("bad.pem", "bad.pem", "cannot be used"), ("bad.pem", None, "one is missing")):
        settings = Settings(data_dir=tmp_path, tls_cert=tmp_path / cert, tls_key=key and tmp_path / key)
        with pytest.raises(SettingsError, match=said):
            server_pair(settings)


def test_nobody_listens_to_others_in_the_clear_unasked(tmp_path: Path) -> None:
    refused = rosfit("serve", "--host", "0.0.0.0", data_dir=tmp_path / "data")
    assert refused.returncode == 2
    assert "ROSFIT_INSECURE" in refused.stderr
    assert not (tmp_path / "data").exists()
    asked = ({"insecure": True}, {"tls": True}, {"trusted_proxies": ("10.0.0.1",)}, {"host": "127.0.0.1"}, {"port": 0})
    for settings in asked:
        check_exposure(Settings(**{"host": "0.0.0.0", **settings}), settings.get("host", "0.0.0.0"))


def test_robots_elsewhere_are_told_the_door_that_is_open() -> None:
    for tls, host, door in ((True, "10.0.0.5", (8883, True)), (True, "127.0.0.1", (1883, False))):
        address = broker_address(Settings(tls=tls), host)
        assert (address.port, address.tls) == door
