"""`rosfit migrate`"""

from __future__ import annotations

import click

from rosfit.cli.options import json_option, print_json, with_settings
from rosfit.infra.migrations import current_revision, head_revision, migrate
from rosfit.settings import Settings
from rosfit.supervisor import Endpoints


@click.command("migrate")
@click.option("--check", is_flag=True, help="Only say whether the schema is up to date; exit code 1 when not.")
@with_settings
@json_option
def migrate_command(settings: Settings, as_json: bool, check: bool) -> int:
    """Bring the database schema up to date. `rosfit serve` does it by itself at its start."""
    url = Endpoints.discover(settings).database_url
    before = current_revision(url)
    after = before if check else migrate(url)[1]
    wanted = head_revision()
    if as_json:
        print_json({"before": before, "revision": after, "wanted": wanted})
    elif after == wanted:
        click.echo(f"The schema is up to date ({wanted})" if before == after else f"Migrated {before} → {after}")
    else:
        click.echo(f"The schema is at {before}; this version needs {wanted}: run `rosfit migrate`")
    return 0 if after == wanted else 1
