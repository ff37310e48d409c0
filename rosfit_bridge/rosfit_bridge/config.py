"""rosfit-bridge.yaml: every key, what it may be, what it is when left out.

The reference in docs/bridge.md is checked against `ROOT` by a test.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rosfit_bridge import config_down as down
from rosfit_bridge import topics
from rosfit_bridge.config_ota import OTA, Ota
from rosfit_bridge.config_shadow import SHADOW, Shadow
from rosfit_bridge.located import ConfigError, Loader, Located
from rosfit_bridge.schema import (
    DEVICE_ID,
    HOST,
    REQUIRED,
    ROS_NAME,
    WEB_ADDRESS,
    Context,
    Key,
    MistakeError,
    Section,
    any_path,
    boolean,
    ca_file,
    checked,
    choice,
    file_path,
    integer,
    list_of,
    matching,
    number,
    optional,
    ros_type,
    secret,
    secret_file,
    text,
)

LEVELS = ("debug", "info", "warn", "error", "fatal")
DEFAULT_PORTS = {("tcp", False): 1883, ("tcp", True): 8883, ("websocket", False): 8083, ("websocket", True): 8084}


@dataclass(frozen=True)
class Tls:
    enabled: bool
    ca_cert: Path | None
    client_cert: Path | None
    client_key: Path | None
    verify_hostname: bool
    pin_sha256: str | None


@dataclass(frozen=True)
class Auth:
    method: str
    username: str | None
    password: str | None = field(repr=False)
    password_file: Path | None
    token: str | None = field(repr=False)
    token_file: Path | None


@dataclass(frozen=True)
class Reconnect:
    min_s: float
    max_s: float


@dataclass(frozen=True)
class Connection:
    host: str
    port: int | None
    transport: str
    path: str
    protocol: str
    client_id: str | None
    keepalive_s: int
    connect_timeout_s: float
    max_inflight: int
    reconnect: Reconnect
    tls: Tls
    auth: Auth | None

    @property
    def effective_port(self) -> int:
        return self.port or DEFAULT_PORTS[self.transport, self.tls.enabled]

    @property
    def address(self) -> str:
        scheme = {"tcp": "mqtt", "websocket": "ws"}[self.transport] + ("s" if self.tls.enabled else "")
        return f"{scheme}://{self.host}:{self.effective_port}"


@dataclass(frozen=True)
class Publish:
    ros_topic: str
    mqtt_suffix: str
    msg_type: str
    qos: int
    throttle_hz: float | None
    line: int


@dataclass(frozen=True)
class Spool:
    enabled: bool
    path: Path | None
    max_mb: float
    max_age_h: float
    flush_ms: int


@dataclass(frozen=True)
class Limits:
    payload_kib: int
    blob_kib: int


@dataclass(frozen=True)
class Heartbeat:
    enabled: bool
    period_s: int


@dataclass(frozen=True)
class Bridge:
    publish: tuple[Publish, ...]
    subscribe: tuple[down.Subscribe, ...]
    services: tuple[down.Service, ...]
    actions: tuple[down.Action, ...]
    parameters: tuple[down.Parameters, ...]
    commands: down.Commands
    heartbeat: Heartbeat
    spool: Spool
    limits: Limits


@dataclass(frozen=True)
class Rosout:
    enabled: bool
    level: str
    rate_hz: float
    burst: int
    qos: int


@dataclass(frozen=True)
class Logging:
    level: str
    rosout: Rosout


@dataclass(frozen=True)
class Rosfit:
    device_id: str
    url: str | None


@dataclass(frozen=True)
class Config:
    rosfit: Rosfit
    connection: Connection
    bridge: Bridge
    shadow: Shadow
    ota: Ota
    logging: Logging


def load(path: Path, env: Mapping[str, str] = os.environ) -> Config:
    """The checked configuration; `ConfigError` lists every mistake with file, line and key."""
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [_unreadable(error)]) from error
    return parse(content, file=str(path), folder=path.resolve().parent, env=env)


def parse(content: str, *, file: str, folder: Path, env: Mapping[str, str]) -> Config:
    loader = Loader(env)
    root = loader.load(content)
    if loader.problems:
        raise ConfigError(file, loader.problems)
    context = Context(folder)
    config = checked(ROOT, root, context)
    if context.problems:
        raise ConfigError(file, context.problems)
    return config


def problem(config_file: str, line: int, path: str, message: str) -> ConfigError:
    """A mistake that only shows later, such as a message type that is not installed."""
    context = Context(Path())
    context.report(line, path, message)
    return ConfigError(config_file, context.problems)


def _unreadable(error: Exception) -> Any:
    context = Context(Path())
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
    context.report(0, "", f"cannot read the configuration: {reason}")
    return context.problems[0]


def _up_suffix(at: Located, context: Context) -> str:
    suffix = text(at, context)
    wrong = topics.problem_of_up_suffix(suffix)
    if wrong:
        raise MistakeError(wrong)
    return suffix


def _fingerprint(at: Located, _: Context) -> str:
    digits = (at.text or "").replace(":", "").lower()
    if len(digits) != 64 or any(c not in "0123456789abcdef" for c in digits):
        raise MistakeError("expected 64 hex digits (openssl x509 -in cert.pem -noout -fingerprint -sha256)")
    return digits


def _unique_streams(at: Located, context: Context) -> tuple[Publish, ...]:
    entries = list_of(PUBLISH)(at, context)
    first: dict[str, Located] = {}
    for child in at.items() if isinstance(at.value, list) else ():
        suffix = child.value.get("mqtt_suffix") if isinstance(child.value, dict) else None
        if suffix is None or not isinstance(suffix.value, str):
            continue
        earlier = first.setdefault(suffix.value, suffix)
        if earlier is not suffix:
            message = f"duplicate: {suffix.value} is already fed from line {earlier.line}"
            context.report(suffix.line, suffix.path, message)
    return entries


def _protocol(at: Located, _: Context) -> str:
    if str(at.value) not in ("5", "3.1.1"):
        raise MistakeError(f"expected the MQTT version 5 or 3.1.1, got {at.value!r}")
    return str(at.value)


def _check_tls(at: Located, context: Context, values: dict[str, Any]) -> None:
    if (values["client_cert"] is None) != (values["client_key"] is None):
        context.report(at.line, at.path, "client_cert and client_key go together; one is missing")
    elif values["client_cert"] is not None:
        _check_pair(at.value["client_cert"], context, values["client_cert"], values["client_key"])
    if "enabled" not in at.value and any(values[name] is not None for name in ("ca_cert", "client_cert", "pin_sha256")):
        message = "missing; with true the connection is encrypted, with false the rest of this section is not used"
        context.report(at.line, f"{at.path}.enabled", message)


def _check_pair(at: Located, context: Context, certificate: Path, key: Path) -> None:
    try:
        # With a password of our own, as OpenSSL would ask the terminal for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except OSError as error:
        message = f"client_cert and client_key cannot be used together ({error}); PEM files, the key without a password"
        context.report(at.line, at.path, message)


def _check_auth(at: Located, context: Context, values: dict[str, Any]) -> None:
    pairs = {"token": ("token", "token_file"), "username": ("password", "password_file"), "certificate": ()}
    allowed = pairs[values["method"]]
    given = [name for name in allowed if values[name] is not None]
    if allowed and len(given) != 1:
        what = "both are given" if given else "neither is given"
        message = f"method {values['method']} needs {allowed[0]} or {allowed[1]}; {what}"
        context.report(at.line, at.path, message)
    for name in ("token", "token_file", "password", "password_file"):
        if values[name] is not None and name not in allowed:
            line = at.key_lines.get(name, at.line)
            context.report(line, f"{at.path}.{name}", f"not used by method {values['method']}")


def _check_connection(at: Located, context: Context, values: dict[str, Any]) -> None:
    auth, tls = values["auth"], values["tls"]
    if auth is not None and auth.method == "certificate" and not (tls.enabled and tls.client_cert):
        message = "method certificate needs connection.tls with enabled, client_cert and client_key"
        context.report(at.value["auth"].line, f"{at.path}.auth.method", message)


def _check_reconnect(at: Located, context: Context, values: dict[str, Any]) -> None:
    if values["max_s"] < values["min_s"]:
        context.report(at.line, f"{at.path}.max_s", "must not be less than min_s")


TLS = Section(
    Tls,
    {
        "enabled": Key(boolean, False),
        "ca_cert": Key(ca_file, None),
        "client_cert": Key(file_path, None),
        "client_key": Key(file_path, None),
        "verify_hostname": Key(boolean, True),
        "pin_sha256": Key(_fingerprint, None),
    },
    also=_check_tls,
)
AUTH = Section(
    Auth,
    {
        "method": Key(choice("token", "certificate", "username")),
        "username": Key(secret, None),
        "password": Key(secret, None),
        "password_file": Key(secret_file, None),
        "token": Key(secret, None),
        "token_file": Key(secret_file, None),
    },
    also=_check_auth,
)
RECONNECT = Section(
    Reconnect,
    {"min_s": Key(number(0.1, 60), 1.0), "max_s": Key(number(0.1, 3600), 30.0)},
    also=_check_reconnect,
)
CONNECTION = Section(
    Connection,
    {
        "host": Key(matching(HOST, "a name or an address, without mqtt:// before it")),
        "port": Key(integer(1, 65535), None),
        "transport": Key(choice("tcp", "websocket"), "tcp"),
        "path": Key(text, "/mqtt"),
        "protocol": Key(_protocol, "5"),
        "client_id": Key(text, None),
        "keepalive_s": Key(integer(5, 3600), 30),
        "connect_timeout_s": Key(number(1, 120), 10.0),
        "max_inflight": Key(integer(1, 10_000), 100),
        "reconnect": Key(RECONNECT, RECONNECT.defaults()),
        "tls": Key(TLS, TLS.defaults()),
        "auth": Key(AUTH, None),
    },
    also=_check_connection,
)
PUBLISH = Section(
    Publish,
    {
        "ros_topic": Key(matching(ROS_NAME, "a ROS topic such as /odom")),
        "mqtt_suffix": Key(_up_suffix),
        "msg_type": Key(ros_type("msg", "nav_msgs/Odometry")),
        "qos": Key(choice(0, 1), 0),
        "throttle_hz": Key(optional(number(0.001, 10_000)), None),
    },
    with_line=True,
)
HEARTBEAT = Section(Heartbeat, {"enabled": Key(boolean, True), "period_s": Key(integer(1, 3600), 10)})
SPOOL = Section(
    Spool,
    {
        "enabled": Key(boolean, True),
        "path": Key(any_path, None),
        "max_mb": Key(number(0.1, 1_000_000), 256.0),
        "max_age_h": Key(number(0.001, 100_000), 72.0),
        "flush_ms": Key(integer(10, 60_000), 200),
    },
)
LIMITS = Section(
    Limits,
    {"payload_kib": Key(integer(1, 262_144), 256), "blob_kib": Key(integer(1, 262_144), 8192)},
)
BRIDGE = Section(
    Bridge,
    {
        "publish": Key(_unique_streams, ()),
        "subscribe": Key(list_of(down.SUBSCRIBE), ()),
        "services": Key(list_of(down.SERVICE), ()),
        "actions": Key(list_of(down.ACTION), ()),
        "parameters": Key(list_of(down.PARAMETERS), ()),
        "commands": Key(down.COMMANDS, down.COMMANDS.defaults()),
        "heartbeat": Key(HEARTBEAT, HEARTBEAT.defaults()),
        "spool": Key(SPOOL, SPOOL.defaults()),
        "limits": Key(LIMITS, LIMITS.defaults()),
    },
    also=down.check_bridge,
)
ROSOUT = Section(
    Rosout,
    {
        "enabled": Key(boolean, True),
        "level": Key(choice(*LEVELS), "info"),
        "rate_hz": Key(number(0.1, 10_000), 10.0),
        "burst": Key(integer(1, 10_000), 50),
        "qos": Key(choice(0, 1), 1),
    },
)
LOGGING = Section(
    Logging,
    {"level": Key(choice("debug", "info", "warn", "error"), "info"), "rosout": Key(ROSOUT, ROSOUT.defaults())},
)
ROSFIT = Section(
    Rosfit,
    {
        "device_id": Key(matching(DEVICE_ID, "letters, digits, - and _ (1 to 64, no - or _ first)")),
        "url": Key(matching(WEB_ADDRESS, "an address such as https://fleet.example.com:8000"), None),
    },
)
ROOT = Section(
    Config,
    {
        "rosfit": Key(ROSFIT),
        "connection": Key(CONNECTION),
        "bridge": Key(BRIDGE, BRIDGE.defaults()),
        "shadow": Key(SHADOW, SHADOW.defaults()),
        "ota": Key(OTA, OTA.defaults()),
        "logging": Key(LOGGING, LOGGING.defaults()),
    },
)

__all__ = ["REQUIRED", "ROOT", "Config", "ConfigError", "load", "parse", "problem"]
