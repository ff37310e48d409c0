"""Every setting of RosFit, and where its value came from.

A flag wins over the environment (``ROSFIT_…``), which wins over ``rosfit.toml``, which wins over the default.
`load_settings` reads all four; ``Settings(...)`` alone reads nothing, which keeps tests and tools hermetic.
"""

import difflib
import ipaddress
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from rosfit.kernel.errors import RosfitError

ENV_PREFIX = "ROSFIT_"
CONFIG_NAME = "rosfit.toml"
_MASK = "***"
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_SECRETS = frozenset({"mqtt_hook_token", "oidc_client_secret"})
_MASKED_PARAMETER = "password|passwd|secret|token|key"


class SettingsError(RosfitError):
    """One or more settings cannot be used; the text names each with its source and what is expected."""

    code = "SETTINGS_INVALID"
    status = 400
    title = "The settings are not valid"


def default_data_dir() -> Path:
    """`/var/lib/rosfit` for root, else `rosfit` in the user's XDG data folder."""
    if os.geteuid() == 0:
        return Path("/var/lib/rosfit")
    xdg = os.environ.get("XDG_DATA_HOME", "")
    return (Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".local/share") / "rosfit"


def default_log_format() -> Literal["json", "text"]:
    return "text" if sys.stderr.isatty() else "json"


def _url_of(*schemes: str) -> AfterValidator:
    def check(value: str | None) -> str | None:
        if value is not None and (urlsplit(value).scheme not in schemes or "://" not in value):
            raise ValueError("wrong scheme")
        return value

    return AfterValidator(check)


def _issuer(value: str | None) -> str | None:
    """Tokens and secrets go there: in the clear on this machine only."""
    parts = urlsplit(value or "https://unset")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _THIS_MACHINE):
        raise ValueError("not https")
    return value


def _bucket_url(value: str | None) -> str | None:
    if value is not None and not urlsplit(value).netloc:
        raise ValueError("no bucket")
    return value


def _split_commas(value: object) -> object:
    """A list in the environment is written `a, b`."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for network in value:
        ipaddress.ip_network(network, strict=False)
    return value


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    """Scheme, host and port only. A wildcard would let every page on the web in."""
    for origin in value:
        parts = urlsplit(origin)
        bare = f"{parts.scheme}://{parts.netloc}"
        if "*" in origin or parts.scheme not in {"http", "https"} or not parts.hostname or origin.rstrip("/") != bare:
            raise ValueError("not an origin")
    return tuple(origin.rstrip("/").lower() for origin in value)


def _role_map(value: object) -> object:
    """`group=role, …`; a group may hold = itself, and in `rosfit.toml` commas, too."""
    if not isinstance(value, str):
        return value
    pairs = [part.rpartition("=") for part in value.split(",") if part.strip()]
    return {group.strip(): role.strip() for group, _, role in pairs}


def _parse_json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _layouts(value: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    names = [layout.get("name") for layout in value]
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) != len(names):
        raise ValueError("each layout needs a name of its own")
    return value


def _setting(expected: str, description: str, *, default: Any = None, **constraints: Any) -> Any:
    """A field with the words its error message needs."""
    if "default_factory" not in constraints:
        constraints["default"] = default
    return Field(description=description, json_schema_extra={"expected": expected}, **constraints)


def _port(description: str, default: int) -> Any:
    return _setting(
        "a port number from 0 to 65535 (0 switches it off)", description, default=default, ge=0, le=65535
    )


def _limit(expected: str, description: str, default: int) -> Any:
    return _setting(expected, description, default=default, gt=0)


class Settings(BaseSettings):
    """All settings, checked. `origin(name)` tells where a value came from."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    data_dir: Path = _setting(
        "a folder",
        "Folder of everything RosFit keeps: its servers' data, logs, sockets and passwords.",
        default_factory=default_data_dir,
    )
    database_url: Annotated[str | None, _url_of("postgresql", "postgres")] = _setting(
        "postgresql://user:password@host:5432/database",
        "PostgreSQL (TimescaleDB if it has the extension). Unset: RosFit starts its own.",
    )
    redis_url: Annotated[str | None, _url_of("redis", "rediss", "unix")] = _setting(
        "redis://user:password@host:6379/0", "Redis or Valkey. Unset: RosFit starts its own."
    )
    mqtt_url: Annotated[str | None, _url_of("mqtt", "mqtts", "ws", "wss")] = _setting(
        "mqtt://user:password@host:1883 or mqtts://…", "MQTT broker. Unset: RosFit starts its own."
    )
    s3_url: Annotated[str | None, _url_of("s3"), AfterValidator(_bucket_url)] = _setting(
        "s3://bucket?endpoint=http://host:9000",
        "Object store; credentials as boto3 finds them. Unset: a folder in the data folder.",
    )
    host: str = _setting(
        "an address or host name", "Address the web server listens on.", default="127.0.0.1", min_length=1
    )
    port: int = _port("Port of the web server.", 8000)
    mqtt_port: int = _port("MQTT port of the embedded broker.", 1883)
    mqtt_ws_port: int = _port("MQTT over WebSocket port of the embedded broker, path /mqtt.", 8083)
    mqtt_tls_port: int = _port("MQTT over TLS port of the embedded broker, once it has a certificate.", 8883)
    mqtt_wss_port: int = _port(
        "MQTT over secure WebSocket port of the embedded broker, once it has a certificate.", 8084
    )
    mqtt_cert_port: int = _port(
        "MQTT over TLS port of the embedded broker for devices with a certificate, once there is a CA.", 8885
    )
    tls: bool = _setting(
        "true or false",
        "Serve HTTPS and wss, and MQTT over TLS. Without tls_cert RosFit makes a certificate of its own.",
        default=False,
    )
    tls_cert: Path | None = _setting("a PEM file", "Certificate of the server, with its chain.")
    tls_key: Path | None = _setting("a PEM file", "Private key of tls_cert.")
    tls_min_version: Literal["1.2", "1.3"] = _setting(
        "1.2 or 1.3", "Oldest TLS version that HTTPS and wss take; MQTT takes 1.2 and 1.3.", default="1.3"
    )
    insecure: bool = _setting(
        "true or false",
        "Listen beyond this machine without TLS: passwords and tokens can then be read on the way.",
        default=False,
    )
    mqtt_hook_token: str | None = _setting(
        "a secret of at least 16 characters",
        "Lets a broker of your own ask who may connect, at /api/v1/mqtt/…. Unset: nobody may ask.",
        min_length=16,
    )
    public_url: Annotated[str | None, _url_of("http", "https")] = _setting(
        "http://… or https://…",
        "Address under which browsers and robots reach this server. Unset: host and port.",
    )
    trusted_proxies: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_split_commas), AfterValidator(_networks)
    ] = _setting(
        "addresses or networks, separated by commas",
        "Proxies whose X-Forwarded-… headers are believed.",
        default=(),
    )
    cors_origins: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_split_commas), AfterValidator(_origins)
    ] = _setting(
        "origins such as https://app.example.com, separated by commas and without wildcards",
        "Origins whose pages may call the API and open WebSockets from a browser.",
        default=(),
    )
    oidc_issuer: Annotated[str | None, AfterValidator(_issuer)] = _setting(
        "an https:// address (http:// on this machine only)",
        "OpenID Connect provider through which people may sign in. Unset: passwords only.",
    )
    oidc_client_id: str | None = _setting("a client id", "RosFit's client id at that provider.")
    oidc_client_secret: str | None = _setting("a secret", "RosFit's secret there; unset for a public client.")
    oidc_scopes: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)] = _setting(
        "scopes separated by commas, openid among them",
        "Scopes that the provider is asked for.",
        default=("openid", "email", "profile"),
    )
    oidc_group_claim: str = _setting(
        "a claim's name or dotted path", "Claim that lists a person's groups.", default="groups", min_length=1
    )
    oidc_role_map: Annotated[
        dict[str, Literal["viewer", "operator", "engineer", "admin"]], NoDecode, BeforeValidator(_role_map)
    ] = _setting(
        "group=role, … with the roles viewer, operator, engineer and admin",
        "Which group gives which role; who is in none of them is refused.",
        default={},
    )
    ingest_slots: int = _setting(
        "a whole number from 1 to 64",
        "Durable MQTT sessions that share the ingest; each is leased by one process.",
        default=1,
        ge=1,
        le=64,
    )
    heartbeat_timeout_s: float = _setting(
        "seconds above 0",
        "Silence after which a device counts as offline.",
        default=60.0,
        gt=0,
        allow_inf_nan=False,
    )
    rate_limit_per_s: float = _setting(
        "requests per second above 0", "Requests a second that one credential may make.", default=100.0, gt=0
    )
    payload_limit_bytes: int = _limit("bytes above 0", "Largest MQTT payload that is not a blob.", 262_144)
    blob_limit_bytes: int = _limit("bytes above 0", "Largest blob.", 8_388_608)
    json_depth_limit: int = _limit("a whole number above 0", "Deepest nesting of a payload.", 32)
    stream_segments_limit: int = _limit("a whole number above 0", "Longest stream name, in path segments.", 8)
    shadow_history_limit: int = _limit("a whole number above 0", "Versions kept of each shadow.", 1_000)
    layouts: Annotated[
        tuple[dict[str, Any], ...], NoDecode, BeforeValidator(_parse_json), AfterValidator(_layouts)
    ] = _setting(
        "tables [[layouts]], each with a name of its own",
        "Other topic layouts and how they map onto RosFit's; see protocol.md.",
        default=(),
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
    ] = _setting("debug, info, warning or error", "Least severe log line that is written.", default="info")
    log_format: Literal["json", "text"] = _setting(
        "json or text",
        "Shape of the log lines: text on a terminal, json elsewhere.",
        default_factory=default_log_format,
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @property
    def scheme(self) -> Literal["http", "https"]:
        return "https" if self.tls else "http"

    def origin(self, name: str) -> str:
        """Where the value of `name` came from: a flag, a variable, a file or `default`."""
        return self._origins.get(name, "default")

    def masked(self, name: str) -> Any:
        """The value of `name` as it may be printed: passwords in URLs become `***`."""
        value = getattr(self, name)
        if name in _SECRETS and value is not None:
            return _MASK
        if name.endswith("_url") and value is not None:
            return mask_url(value)
        return str(value) if isinstance(value, Path) else value


def load_settings(flags: Mapping[str, Any] | None = None, config: Path | None = None) -> Settings:
    """Read flags, environment and `rosfit.toml`; a flag that is None was not given.

    `config` is the file named by `--config`; without it, `ROSFIT_CONFIG`, then `rosfit.toml` in the current
    folder. A file that was named must exist.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    path = _config_path(config)
    layers: list[tuple[dict[str, Any], str]] = [
        (_read_toml(path) if path else {}, str(path)),
        (EnvSettingsSource(Settings)(), "environment"),
        (given, "flag"),
    ]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for values, source in layers:
        for name, value in values.items():
            merged[name] = value
            origins[name] = _origin(source, name)
    return _validated(merged, origins)


def mask_url(url: str) -> str:
    """`url` without its secrets: the password, and query parameters that hold one."""
    # Up to the last @, since a password that was not percent-encoded may hold one, or a slash.
    without_password = re.sub(r"^([\w+.-]+://[^:@/?]*):.*@", rf"\1:{_MASK}@", url)
    return re.sub(rf"(?i)([?&][^=&]*(?:{_MASKED_PARAMETER})[^=&]*=)[^&]*", rf"\1{_MASK}", without_password)


def _config_path(config: Path | None) -> Path | None:
    named = config or (Path(value) if (value := os.environ.get("ROSFIT_CONFIG")) else None)
    if named is not None:
        if not named.is_file():
            raise SettingsError(
                f"The settings file {named} does not exist: correct --config or ROSFIT_CONFIG."
            )
        return named.resolve()
    found = Path(CONFIG_NAME)
    return found.resolve() if found.is_file() else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    if isinstance(folder := values.get("data_dir"), str):
        values["data_dir"] = str(path.parent / Path(folder).expanduser())
    return values


def _origin(source: str, name: str) -> str:
    if source == "environment":
        return f"environment {ENV_PREFIX}{name.upper()}"
    if source == "flag":
        return f"flag --{name.replace('_', '-')}"
    return source


def _validated(values: dict[str, Any], origins: dict[str, str]) -> Settings:
    if unknown := values.keys() - Settings.model_fields.keys():
        raise SettingsError("\n".join(_unknown_lines(sorted(unknown), origins)))
    for name in ("tls_cert", "tls_key"):
        if name in values:
            values[name] = Path(str(values[name])).expanduser().absolute()
    if "data_dir" in values:
        values["data_dir"] = Path(str(values["data_dir"])).expanduser().absolute()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        names = dict.fromkeys(str(one["loc"][0]) for one in error.errors())
        raise SettingsError(
            "\n".join(_bad_value(name, values[name], origins[name]) for name in names)
        ) from error
    settings._origins.update(origins)
    _check_oidc(settings)
    return settings


def _check_oidc(settings: Settings) -> None:
    """A provider without a client, or one that lets nobody in, was not meant."""
    if settings.oidc_issuer is None:
        return
    for name in ("oidc_client_id", "oidc_role_map"):
        if not getattr(settings, name):
            raise SettingsError(f"oidc_issuer ({settings.origin('oidc_issuer')}) needs {name} as well: set it.")
    if "openid" not in settings.oidc_scopes:
        raise SettingsError(f"oidc_scopes ({settings.origin('oidc_scopes')}) must hold openid.")


def _unknown_lines(unknown: Iterable[str], origins: Mapping[str, str]) -> Iterable[str]:
    for name in unknown:
        close = difflib.get_close_matches(name, Settings.model_fields, n=1)
        hint = f"did you mean {close[0]}?" if close else "`rosfit config show` lists the settings."
        yield f"{name} ({origins[name]}) is not a setting: {hint}"


def _bad_value(name: str, value: object, origin: str) -> str:
    extra = Settings.model_fields[name].json_schema_extra
    expected = extra["expected"] if isinstance(extra, dict) else "another value"
    # A URL that did not parse may hold a password anywhere, so it is not repeated.
    shown = "the value" if name.endswith("_url") or name in _SECRETS else repr(value)
    return f"{name} ({origin}): {shown} is not valid; expected {expected}."
