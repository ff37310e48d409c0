"""Every query of every queries.sql is prepared against the migrated schema, on each database there is here."""

import os
import re
import shutil
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

import rosfit
from rosfit.infra.embedded.postgres import find_programs
from rosfit.infra.migrations import migrate
from rosfit.kernel.queries import parse_queries
from tests.cluster import Cluster
from tests.server import server_folder
from tests.timescale import timescale

# The distribution's PostgreSQL, the floor for our SQL, is tested where it is installed.
SERVERS = [Path("/usr/lib/postgresql/15/bin"), find_programs()]

# What the query language for devices fills in.
GAPS = {"{where}": "true", "{cases}": "NULL::text", "{counts}": "count(*)"}

QUERIES = [
    pytest.param(sql, id=f"{path.parent.name}-{name}")
    for path in sorted(Path(rosfit.__file__).parent.rglob("queries.sql"))
    for name, sql in parse_queries(path.read_text()).items()
]


@contextmanager
def plain(programs):
    """A cluster of these programs, which are copied to where the unprivileged user can reach them."""
    with server_folder() as folder:
        if os.geteuid() == 0 and "postgresql" not in programs.parts:
            package = programs.parents[1]
            shutil.copytree(package / "pginstall", folder / package.name / "pginstall", symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, folder / libraries.name)
            programs = folder / package.name / "pginstall" / "bin"
        with Cluster(programs, folder) as cluster:
            yield cluster


CLUSTERS = [
    *(pytest.param(partial(plain, path), id=path.parts[3]) for path in SERVERS if path.is_dir()),
    pytest.param(timescale, id="timescale", marks=pytest.mark.full),
]


@pytest.fixture(scope="module", params=CLUSTERS)
def database(request):
    """A migrated cluster of its own."""
    with request.param() as cluster:
        migrate(cluster.url)
        with psycopg.connect(cluster.url, autocommit=True) as connection:
            yield connection


def positional(sql):
    """`%(name)s` as `$n`, which is how PostgreSQL sees it."""
    for gap, filling in GAPS.items():
        sql = sql.replace(gap, filling)
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)))
    return re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", sql).replace("%%", "%")


@pytest.mark.parametrize("sql", QUERIES)
def test_a_query_can_be_prepared(database, sql):
    with database.transaction(force_rollback=True):
        if re.match(r"(LOCK|NOTIFY)\b", sql):
            database.execute(sql)
        else:
            database.execute(f"PREPARE query AS {positional(sql)}", prepare=False)
            database.execute("DEALLOCATE query")


def test_telemetry_is_split_by_time(database):
    """By TimescaleDB where it is loaded, else by range partitions."""
    split = "SELECT relkind = 'p' FROM pg_class WHERE oid = 'telemetry'::regclass"
    if database.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone():
        split = "SELECT count(*) = 1 FROM timescaledb_information.hypertables WHERE hypertable_name = 'telemetry'"
    assert database.execute(split).fetchone() == (True,)
