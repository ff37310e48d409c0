"""`rosfit audit`"""

from __future__ import annotations

import sys

import click

from rosfit.accounts import audit
from rosfit.cli.beside import run_beside
from rosfit.cli.options import always_json, json_option, print_json, with_settings
from rosfit.kernel.work import Work
from rosfit.settings import Settings


@click.group("audit")
def audit_group() -> None:
    """Who did what."""


@audit_group.command()
@with_settings
@json_option
def verify(settings: Settings, as_json: bool) -> int:
    """Check the chain of the audit log; exit code 1 names the first entry that was changed or is missing."""
    good, broken = run_beside(settings, audit.verify)
    if as_json:
        print_json({"entries": good, "broken": None if broken is None else {"id": broken.id, "why": broken.why}})
    elif broken is None:
        click.echo(f"{good} entries, none changed")
    else:
        click.echo(f"entry {broken.id}: {broken.why}; the {good} entries before it are as they were written")
    return 0 if broken is None else 1


@audit_group.command()
@with_settings
@always_json
def export(settings: Settings) -> None:
    """Print every entry, oldest first, one JSON object a line."""

    async def write(work: Work) -> None:
        async for line in audit.export(work):
            sys.stdout.buffer.write(line)

    run_beside(settings, write)
