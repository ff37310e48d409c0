"""Every query of every queries.sql is prepared against the migrated schema, on each PostgreSQL there is here."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

import rosfit
from rosfit.infra.embedded.postgres import find_programs
from rosfit.infra.embedded.unprivileged import server_user
from rosfit.infra.postgres import migrate
from rosfit.kernel.queries import parse_queries
from tests.server import free_ports, server_folder

# The distribution's PostgreSQL, the floor for our SQL, is tested where it is installed.
SERVERS = [Path("/usr/lib/postgresql/15/bin"), find_programs()]

# What the query language for devices fills in.
GAPS = {"{where}": "true", "{cases}": "NULL::text", "{counts}": "count(*)"}

QUERIES = [
    pytest.param(sql, id=f"{path.parent.name}-{name}")
    for path in sorted(Path(rosfit.__file__).parent.rglob("queries.sql"))
    for name, sql in parse_queries(path.read_text()).items()
]


@pytest.fixture(scope="module", params=[path for path in SERVERS if path.is_dir()], ids=lambda path: path.parts[3])
def database(request):
    """A migrated cluster of its own."""
    with server_folder() as folder:
        programs = request.param
        if os.geteuid() == 0 and "postgresql" not in programs.parts:
            package = programs.parents[1]
            shutil.copytree(package / "pginstall", folder / package.name / "pginstall", symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, folder / libraries.name)
            programs = folder / package.name / "pginstall" / "bin"
        with Cluster(programs, folder) as url:
            migrate(url)
            with psycopg.connect(url, autocommit=True) as connection:
                yield connection


class Cluster:
    """Made by initdb, without a port, and thrown away at the end."""

    def __init__(self, programs, folder):
        self._programs, self._data, self._run = programs, folder / "cluster", folder
        self._who = server_user()
        self._port = free_ports(1)[0]
        self._data.mkdir(mode=0o700)
        self._who.own(self._data)
        self._run.chmod(0o777)

    def __enter__(self):
        self._call("initdb", "-U", "rosfit", "--auth=trust", "--encoding=UTF8", "--locale=C")
        options = f"-c listen_addresses= -c unix_socket_directories={self._run} -p {self._port} -c fsync=off"
        self._call("pg_ctl", "start", "-w", "-o", options, "-l", str(self._run / "log"))
        return f"postgresql://rosfit@/postgres?host={self._run}&port={self._port}"

    def __exit__(self, *_):
        self._call("pg_ctl", "stop", "-m", "immediate")

    def _call(self, program, *arguments):
        command = [str(self._programs / program), "-D", str(self._data), *arguments]
        subprocess.run(command, check=True, cwd="/", **self._who.popen_arguments(), stdout=subprocess.DEVNULL)


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
