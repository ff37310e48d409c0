"""Mosquitto from Debian's or Ubuntu's packages, unpacked into a folder: no root, nothing installed or started.

`python -m rosfit.infra.embedded.mosquitto_package FOLDER` does it from the command line.
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from rosfit.infra.embedded.errors import EmbeddedServerError

PACKAGE = "mosquitto"
# A download that does not move must not hang the start for ever.
_APT_TIMEOUT_S = 600
_SYSTEM_PROGRAMS = ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto")


@dataclass(frozen=True, slots=True)
class Broker:
    """A Mosquitto program; `tree` is the folder it was unpacked into, None for an installed one."""

    program: Path
    tree: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Where an unpacked program finds the libraries that were unpacked with it."""
        if self.tree is None:
            return {}
        folders = sorted({library.parent for library in self.tree.glob("**/lib*.so.*")})
        return {"LD_LIBRARY_PATH": ":".join(map(str, folders))}

    def runs(self) -> bool:
        """Whether it starts here: one copied from another release may miss libraries."""
        try:
            # It has no --version; -h prints it and exits with 1 in some releases.
            shown = subprocess.run(  # noqa: S603
                [self.program, "-h"], env=self.environment, capture_output=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return b"mosquitto version" in shown.stdout + shown.stderr


def find(*folders: Path) -> Broker | None:
    """The installed broker, or one unpacked into the interpreter's prefix or one of `folders`."""
    on_path = shutil.which(PACKAGE)
    installed = [on_path] if on_path else []
    for program in (*installed, *_SYSTEM_PROGRAMS):
        if (broker := Broker(Path(program))).runs():
            return broker
    for folder in (default_target(), *folders):
        unpacked = Broker(folder / "usr/sbin/mosquitto", tree=folder)
        if unpacked.program.exists() and unpacked.runs():
            return unpacked
    return None


def default_target() -> Path:
    """Where `make setup` unpacks it: inside the virtual environment."""
    return Path(sysconfig.get_path("data")) / "share/rosfit/mosquitto"


def fetch(target: Path) -> Broker:
    """Download and unpack the package and what it needs beside the installed packages into `target`."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise EmbeddedServerError(
            f"No MQTT broker is installed, and {platform.platform()} has no apt-get to fetch one with. "
            "Install Mosquitto 2, or use a broker of your own with ROSFIT_MQTT_URL."
        )
    work = target.with_name(f".{target.name}.fetch")
    shutil.rmtree(work, ignore_errors=True)
    (work / "root").mkdir(parents=True)
    try:
        for package in _download(work):
            _run(["dpkg-deb", "-x", str(package), str(work / "root")], "unpack", work)
        shutil.rmtree(target, ignore_errors=True)
        (work / "root").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    broker = Broker(target / "usr/sbin/mosquitto", tree=target)
    if not broker.runs():
        raise EmbeddedServerError(
            f"Mosquitto was unpacked into {target} but does not start. Install it: apt-get install {PACKAGE}"
        )
    return broker


def _download(work: Path) -> list[Path]:
    """The packages as files. The machine's own package lists do if they are fresh, else private ones are made."""
    private = _private_options(work)
    for options, refresh in (([], False), (private, True)):
        if refresh:
            # A source of another project may be out of reach; what counts is whether the package is found.
            _apt(["update"], options, work)
        names = _missing_packages(options, work)
        if names and _apt(["download", *names], options, work).returncode == 0:
            return sorted(work.glob("*.deb"))
    raise EmbeddedServerError(
        f"The package {PACKAGE} could not be downloaded: {_last_words(work)}. "
        f"Check the network and apt's sources, or install it: apt-get install {PACKAGE} — "
        "or use a broker of your own with ROSFIT_MQTT_URL."
    )


def _missing_packages(options: list[str], work: Path) -> list[str]:
    """Names of what an installation would bring, from a simulation that changes nothing."""
    plan = _apt(["-s", "install", "--no-install-recommends", PACKAGE], options, work)
    names = [line.split()[1] for line in plan.stdout.splitlines() if line.startswith("Inst ")]
    # Installed on paper (its program did not run): the package itself is then what is missing.
    return names or ([PACKAGE] if plan.returncode == 0 else [])


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


def _apt(arguments: list[str], options: list[str], work: Path) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", "-q", "-y", "-o", "Debug::NoLocking=1", "-o", "Acquire::Retries=2", *options, *arguments]
    return _run(command, "apt-get", work, check=False)


def _run(command: list[str], what: str, work: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
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
    (work / "log").open("a").write(done.stderr)
    if check and done.returncode != 0:
        raise EmbeddedServerError(f"Could not {what} the package {PACKAGE}: {done.stderr.strip()}")
    return done


def _last_words(work: Path) -> str:
    lines = [line for line in (work / "log").read_text().splitlines() if line.startswith(("E:", "W:"))]
    return lines[-1] if lines else "apt-get gave no reason"


def main() -> int:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else default_target()
    broker = find(target)
    try:
        if broker is None:
            print(f"Fetching the MQTT broker into {target}", file=sys.stderr)
            broker = fetch(target)
    except EmbeddedServerError as error:
        print(error, file=sys.stderr)
        return 1
    print(broker.program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
