"""`rosfit config show`"""

import json
from typing import Any

import click
import rich_click

from rosfit.cli.options import json_option, print_json, with_server_settings
from rosfit.settings import Settings


@click.group(cls=rich_click.RichGroup)
def config() -> None:
    """Look at the settings."""


@config.command()
@with_server_settings
@json_option
def show(settings: Settings, as_json: bool) -> None:
    """Print every setting with where its value came from; passwords are masked."""
    shown = {name: (settings.masked(name), settings.origin(name)) for name in Settings.model_fields}
    if as_json:
        print_json({name: {"value": value, "source": source} for name, (value, source) in shown.items()})
        return
    lines = [(f"{name} = {_toml(value)}", source) for name, (value, source) in shown.items()]
    width = max(len(line) for line, _ in lines if len(line) < 72)
    for line, source in lines:
        click.echo(f"{line:<{width}}  # {source}")


def _toml(value: Any) -> str:
    """As it could stand in rosfit.toml, which has no word for a value that is not set."""
    return "(not set)" if value is None else json.dumps(value, ensure_ascii=False)
