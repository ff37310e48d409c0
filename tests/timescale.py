"""PostgreSQL 17 with TimescaleDB from Debian trixie's packages, unpacked into a folder that stays from run to run.

Nothing is installed. The mirror is the machine's own; where that is none of Debian's there is no TimescaleDB.
Its programs find trixie's C library beside them (patchelf), since an older release has none that they can use.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import Cluster
from tests.server import server_folder

SUITE, PACKAGE = "trixie", "postgresql-17-timescaledb"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Of what an installation would bring: the servers' programs and libraries, without those for compiling queries.
NEEDED = re.compile(r"lib(?!llvm|z3|perl|.*-perl$)|postgresql-(client-)?17|zlib1g$")
PATCHELF = Path(sysconfig.get_path("scripts")) / "patchelf"


@contextmanager
def timescale() -> Iterator[Cluster]:
    """An empty cluster with the extension loaded; `migrate` creates it."""
    with server_folder() as folder:
        settings = {"shared_preload_libraries": "timescaledb", "timescaledb.telemetry_level": "off", "jit": "off"}
        with Cluster(programs(), folder, **settings) as cluster:
            yield cluster


def programs() -> Path:
    """The folder of its `postgres` and `initdb`; the first call on a machine downloads 30 MB."""
    tree = _cache() / f"rosfit-tests/{PACKAGE}"
    tree.parent.mkdir(parents=True, exist_ok=True)
    with (tree.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.exists():
            _fetch(tree)
    return tree / "usr/lib/postgresql/17/bin"


def _cache() -> Path:
    """Where also the unprivileged user gets to that runs the servers for root."""
    return Path("/var/cache") if os.geteuid() == 0 else Path.home() / ".cache"


def _fetch(tree: Path) -> None:
    work = tree.with_name(f".{tree.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "root"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()  # as if nothing were installed: the simulation names all that it needs
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {SUITE} main\n")
    _apt(work, "update")
    plan = _apt(work, "-s", "install", "--no-install-recommends", PACKAGE)
    names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    _apt(work, "download", *filter(NEEDED.match, names))
    for package in work.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, work / "root"], check=True)
    # Written before the move, with the paths that hold after it.
    _relocate(work / "root", tree)
    (work / "root").rename(tree)
    shutil.rmtree(work)


def _mirror() -> str:
    """The machine's own mirror of Debian."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = [uri for uri in listed.stdout.split() if uri.rstrip("/").endswith("/debian")]
    assert found, "TimescaleDB comes from Debian's packages, and apt on this machine has no mirror of Debian"
    return found[0]


def _apt(work: Path, *arguments: str) -> str:
    options = {
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": work / "lists",
        "Dir::State::Status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "1",
    }
    pairs = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    done = subprocess.run(["apt-get", "-q", *pairs, *arguments], cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _relocate(root: Path, tree: Path) -> None:
    """Make the programs in `root` find loader and libraries in `tree`, whatever the machine's own are."""
    loader = next(root.glob("usr/lib*/**/ld-linux*.so.*"))
    libraries = ":".join(str(tree / "usr/lib" / folder) for folder in (loader.parent.name, "postgresql/17/lib"))
    for name in ("postgres", "initdb", "pg_ctl"):
        program = root / "usr/lib/postgresql/17/bin" / name
        # Also for the libraries' own libraries, which a RUNPATH would not be.
        subprocess.run([PATCHELF, "--force-rpath", "--set-rpath", libraries, program], check=True)
        subprocess.run([PATCHELF, "--set-interpreter", tree / loader.relative_to(root), program], check=True)
