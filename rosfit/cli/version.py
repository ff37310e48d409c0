"""`rosfit version`"""

import platform
from importlib.metadata import version as version_of

import click

from rosfit.cli.options import json_option, print_json


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version."""
    if as_json:
        print_json({"rosfit": version_of("rosfit"), "python": platform.python_version()})
    else:
        click.echo(version_of("rosfit"))
