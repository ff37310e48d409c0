"""Programs from Debian's or Ubuntu's packages, unpacked into a folder: no root, nothing installed or started."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from rosfit.infra.embedded.errors import EmbeddedServerError

# A download that does not move must not hang the start for ever.
_APT_TIMEOUT_S = 600


def unpack(package: str, target: Path) -> None:
    """Put `package`, and what it needs beside the packages installed here, into `target`."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise EmbeddedServerError(
            f"{package} is not installed, and {platform.platform()} has no apt-get to fetch it with. Install it."
        )
    work = target.with_name(f".{target.name}.fetch")
    shutil.rmtree(work, ignore_errors=True)
    (work / "root").mkdir(parents=True)
    try:
        for archive in _download(package, work):
            _unpack_archive(archive, work)
        shutil.rmtree(target, ignore_errors=True)
        (work / "root").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def library_path(tree: Path) -> str:
    """LD_LIBRARY_PATH for a program unpacked into `tree`."""
    return ":".join(sorted({str(library.parent) for library in tree.glob("**/lib*.so.*")}))


def _download(package: str, work: Path) -> list[Path]:
    """The packages as files. The machine's own package lists do if they are fresh, else private ones are made."""
    private = _private_options(work)
    for options, refresh in (([], False), (private, True)):
        if refresh:
            # A source of another project may be out of reach; what counts is whether the package is found.
            _apt(["update"], options, work)
        names = _missing_packages(package, options, work)
        if names and _apt(["download", *names], options, work).returncode == 0:
            return sorted(work.glob("*.deb"))
    raise EmbeddedServerError(
        f"The package {package} could not be downloaded: {_last_words(work)}. "
        f"Check the network and apt's sources, or install it: apt-get install {package}"
    )


def _missing_packages(package: str, options: list[str], work: Path) -> list[str]:
    """Names of what an installation would bring, from a simulation that changes nothing."""
    plan = _apt(["-s", "install", "--no-install-recommends", package], options, work)
    names = [line.split()[1] for line in plan.stdout.splitlines() if line.startswith("Inst ")]
    # Installed on paper (its program did not run): the package itself is then what is missing.
    return names or ([package] if plan.returncode == 0 else [])


def _private_options(work: Path) -> list[str]:
    """apt with lists and caches of its own, so that it needs no root; sources and keys are the machine's."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    pairs = {
        "Dir::State::Lists": work / "lists",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    return [part for name, value in pairs.items() for part in ("-o", f"{name}={value}")]


def _unpack_archive(archive: Path, work: Path) -> None:
    done = _run(["dpkg-deb", "-x", str(archive), str(work / "root")], work)
    if done.returncode != 0:
        raise EmbeddedServerError(f"{archive.name} could not be unpacked: {done.stderr.strip()}")


def _apt(arguments: list[str], options: list[str], work: Path) -> subprocess.CompletedProcess[str]:
    quiet = ["-q", "-y", "-o", "Debug::NoLocking=1", "-o", "Acquire::Retries=2"]
    return _run(["apt-get", *quiet, *options, *arguments], work)


def _run(command: list[str], work: Path) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(  # noqa: S603
            command,
            cwd=work,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_APT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EmbeddedServerError(f"{' '.join(command)} did not end within {_APT_TIMEOUT_S} s.") from error
    with (work / "log").open("a") as log:
        log.write(done.stderr)
    return done


def _last_words(work: Path) -> str:
    lines = [line for line in (work / "log").read_text().splitlines() if line.startswith(("E:", "W:"))]
    return lines[-1] if lines else "apt-get gave no reason"
