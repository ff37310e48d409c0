"""`rosfit openapi`"""

from __future__ import annotations

import click

from rosfit.cli.options import always_json, print_json


@click.command()
@always_json
def openapi() -> None:
    """Print the OpenAPI 3.1 document of this version; needs no server."""
    from rosfit.api.openapi import openapi_document

    print_json(openapi_document())
