"""Options that several verbs share, and how they become settings."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rosfit.settings import load_settings

Verb = Callable[..., Any]

_SETTING_FLAGS = (
    click.option("--config", type=click.Path(path_type=Path), help="Settings file instead of ./rosfit.toml."),
    click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of everything RosFit keeps."),
)
_SERVER_FLAGS = (
    click.option("--host", help="Address to listen on  [default: 127.0.0.1]"),
    click.option("--port", type=click.IntRange(0, 65535), help="Port of the web server  [default: 8000]"),
    click.option("--tls", is_flag=True, default=None, help="HTTPS, wss and MQTT over TLS; makes a certificate."),
    click.option("--mqtt-port", type=click.IntRange(0, 65535), help="Port of the broker  [default: 1883]"),
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
# For a verb whose results are JSON anyway, so that a program may ask every verb for it.
always_json = click.option("--json", is_flag=True, expose_value=False, help="Printed as JSON in any case.")


def with_settings(verb: Verb) -> Verb:
    """Give the verb `settings`, read from flags (--config, --data-dir), environment, file and defaults."""
    return _with_flags(verb, _SETTING_FLAGS)


def with_server_settings(verb: Verb) -> Verb:
    """The same with the flags of `rosfit serve`: --host, --port, --mqtt-port, --tls."""
    return _with_flags(verb, (*_SETTING_FLAGS, *_SERVER_FLAGS))


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _with_flags(verb: Verb, flags: tuple[Callable[[Verb], Verb], ...]) -> Verb:
    @functools.wraps(verb)
    def run(config: Path | None, **arguments: Any) -> Any:
        names = ("data_dir", "host", "port", "mqtt_port", "tls")
        given = {name: arguments.pop(name) for name in names if name in arguments}
        return verb(settings=load_settings(given, config), **arguments)

    command: Verb = run
    for flag in reversed(flags):
        command = flag(command)
    return command
