"""Mosquitto from Debian's or Ubuntu's packages, unpacked into a folder: no root, nothing installed or started.

`python -m rosfit.infra.embedded.mosquitto_package FOLDER` does it from the command line.
"""

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from rosfit.infra.embedded import client_id_plugin, debian_packages
from rosfit.infra.embedded.errors import EmbeddedServerError

PACKAGE = "mosquitto"
_SYSTEM_PROGRAMS = ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto")


@dataclass(frozen=True, slots=True)
class Broker:
    """A Mosquitto program; `tree` is the folder it was unpacked into, None for an installed one."""

    program: Path
    tree: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Where an unpacked program finds the libraries that were unpacked with it."""
        return {} if self.tree is None else {"LD_LIBRARY_PATH": debian_packages.library_path(self.tree)}

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
    """Download and unpack the broker into `target`."""
    try:
        debian_packages.unpack(PACKAGE, target)
    except EmbeddedServerError as error:
        raise EmbeddedServerError(f"{error.detail} Or use a broker of your own with ROSFIT_MQTT_URL.") from error
    broker = Broker(target / "usr/sbin/mosquitto", tree=target)
    if not broker.runs():
        raise EmbeddedServerError(
            f"Mosquitto was unpacked into {target} but does not start. Install it: apt-get install {PACKAGE}"
        )
    return broker


def main() -> int:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else default_target()
    broker = find(target)
    try:
        if broker is None:
            print(f"Fetching the MQTT broker into {target}", file=sys.stderr)
            broker = fetch(target)
        client_id_plugin.prepare()
    except EmbeddedServerError as error:
        print(error, file=sys.stderr)
        return 1
    print(broker.program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
