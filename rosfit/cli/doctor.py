"""`rosfit doctor`"""

import asyncio
from dataclasses import asdict

import click

from rosfit.cli.doctor_checks import Finding, examine
from rosfit.cli.exit_codes import Exit
from rosfit.cli.options import json_option, print_json, with_server_settings
from rosfit.settings import Settings

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@with_server_settings
@json_option
def doctor(settings: Settings, as_json: bool) -> int:
    """Check everything RosFit depends on and say how to mend what fails. Exit code 1 if anything does."""
    findings = asyncio.run(examine(settings))
    if as_json:
        print_json({"checks": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            _print(finding)
    return Exit.FAILED if any(finding.status == "fail" for finding in findings) else Exit.DONE


def _print(finding: Finding) -> None:
    click.echo(f"{click.style(f'{finding.status:<4}', fg=_COLOURS[finding.status])}  {finding.name}: {finding.detail}")
    if finding.mend:
        click.echo(f"      → {finding.mend}")
