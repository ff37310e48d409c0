"""`rosfit ca`"""

from __future__ import annotations

import contextlib

import click

from rosfit.cli.beside import run_beside
from rosfit.cli.options import json_option, print_json, with_settings
from rosfit.fleet.authority import Authority, AuthorityFiles
from rosfit.fleet.errors import NoAuthorityError
from rosfit.infra.embedded.data_folder import DataFolder
from rosfit.infra.embedded.unprivileged import server_user
from rosfit.kernel.clock import format_time
from rosfit.kernel.errors import NotFoundError, UnavailableError
from rosfit.kernel.work import Work
from rosfit.settings import Settings


@click.group()
def ca() -> None:
    """RosFit's certificate authority, which signs the certificates of robots."""


@ca.command()
@with_settings
@json_option
def init(settings: Settings, as_json: bool) -> None:
    """Make the authority (EC P-256). One that is there is never overwritten."""
    DataFolder(settings.data_dir, server_user()).prepare()
    files = AuthorityFiles(settings.data_dir)
    authority = files.create()
    with contextlib.suppress(UnavailableError):
        # A server that runs takes it up at once; otherwise the next start does.
        run_beside(settings, _announce)
    _show(files, authority, as_json)


@ca.command()
@with_settings
@json_option
def show(settings: Settings, as_json: bool) -> None:
    """The authority's certificate, for robots and browsers that are to trust it."""
    files = AuthorityFiles(settings.data_dir)
    try:
        authority = files.require()
    except NoAuthorityError as error:
        raise NotFoundError(f"No certificate authority in {files.folder}: {error.detail}") from error
    _show(files, authority, as_json)


async def _announce(work: Work) -> None:
    await work.connection.execute("NOTIFY rosfit_credentials")


def _show(files: AuthorityFiles, authority: Authority, as_json: bool) -> None:
    expires_at = format_time(authority.expires_at)
    if as_json:
        shown = {"folder": str(files.folder), "sha256": authority.fingerprint, "expires_at": expires_at}
        print_json(shown | {"certificate": authority.pem})
        return
    click.echo(f"folder:   {files.folder}\nSHA-256:  {authority.fingerprint}\nvalid to: {expires_at}")
    click.echo(authority.pem, nl=False)
