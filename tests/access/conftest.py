"""One server for all tests here: TLS, a CA, all listeners, and a broker's hook token. Each test has its own devices."""

import secrets
from collections.abc import Callable, Iterator

import pytest

from rosfit.infra.embedded.mosquitto_package import default_target, fetch, find
from tests.access.beside import HOOK_TOKEN, rosfit
from tests.access.mqtt import Doors
from tests.server import Client, RunningServer, free_ports, server_folder


@pytest.fixture(scope="package")
def server() -> Iterator[RunningServer]:
    if find() is None:
        fetch(default_target())
    tls, wss, cert = free_ports(3)
    ports = {"ROSFIT_MQTT_TLS_PORT": str(tls), "ROSFIT_MQTT_WSS_PORT": str(wss), "ROSFIT_MQTT_CERT_PORT": str(cert)}
    with server_folder() as folder, pytest.MonkeyPatch.context() as patch:
        server = RunningServer(folder, ROSFIT_RATE_LIMIT_PER_S="5000", ROSFIT_MQTT_HOOK_TOKEN=HOOK_TOKEN, **ports)
        server.url = f"https://127.0.0.1:{server.port}"
        assert rosfit("ca", "init", data_dir=server.data_dir).returncode == 0
        # httpx trusts what this names: the server's certificate is signed by its own CA.
        patch.setenv("SSL_CERT_FILE", str(server.data_dir / "ca/ca.pem"))
        server.start("--tls")
        try:
            yield server
        finally:
            server.clean_up()


@pytest.fixture(scope="package")
def admin(server: RunningServer) -> Client:
    return server.admin


@pytest.fixture(scope="package")
def doors(server: RunningServer) -> Doors:
    """Every way in for robots."""
    ports = {name: int(server._env[f"ROSFIT_MQTT_{name.upper()}_PORT"]) for name in ("tls", "wss", "cert")}
    return Doors(server.data_dir / "ca/ca.pem", plain=server.mqtt_port, ws=server.mqtt_ws_port, **ports)


@pytest.fixture
def new_device(admin: Client) -> Callable[[], str]:
    """Registers a device."""
    return lambda: admin.device(f"dev-{secrets.token_hex(5)}")["device_id"]


@pytest.fixture
def device_id(new_device: Callable[[], str]) -> str:
    return new_device()
