"""What a start does not wait for, and what stands in for the work it leaves out."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from argon2 import PasswordHasher

from rosfit.accounts.passwords import NOBODY
from rosfit.assets import asset_folder
from rosfit.infra import migrations
from rosfit.infra.migrations import head_revision, migrate_when_ready
from rosfit.kernel.errors import UnavailableError
from tests.server import free_ports


def test_the_newest_migration_is_alembics_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(asset_folder("alembic")))
    assert head_revision() == ScriptDirectory.from_config(config).get_current_head()


def test_an_unknown_address_costs_as_much_as_a_known_one() -> None:
    assert not PasswordHasher().check_needs_rehash(NOBODY)


def test_libraries_of_rare_use_are_not_loaded() -> None:
    script = "import sys, rosfit.wiring, rosfit.cli.beside; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    assert {"alembic", "sqlalchemy", "boto3"}.isdisjoint(loaded)


async def test_a_database_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "WAIT_S", 0.3)
    with pytest.raises(UnavailableError, match=r"Connection refused.*correct ROSFIT_DATABASE_URL"):
        await migrate_when_ready(f"postgresql://me:secret@127.0.0.1:{free_ports(1)[0]}/none")
