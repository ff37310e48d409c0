"""Chromium for the tests without root: VENV/bin/chromium.

Debian's package unpacked, or on Ubuntu (whose package is a pointer to a snap) the build in npm's
@sparticuz/chromium.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from rosfit.infra.embedded import debian_packages

# Unpacks the browser and the libraries it was built with into the folder for temporary files.
_EXTRACT = "import('@sparticuz/chromium').then(async m => console.log(await m.default.executablePath()))"


def from_debian(folder: Path) -> Path:
    debian_packages.unpack("chromium", folder)
    return folder / "usr/lib/chromium/chromium"


def from_npm(folder: Path) -> Path:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        sys.exit("Chromium is missing, and npm to fetch it with: install one of them (Node 20 or newer).")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tmp").mkdir(parents=True)
    install = [npm, "install", "--no-audit", "--no-fund", "@sparticuz/chromium"]
    subprocess.run(install, cwd=folder, check=True)  # noqa: S603
    # The variable makes it unpack its libraries too, as it does on the platform it is made for.
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "AWS_EXECUTION_ENV": "AWS_Lambda_nodejs20.x"}
    extract = [node, "-e", _EXTRACT]
    shown = subprocess.run(extract, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return Path(shown.stdout.strip().splitlines()[-1])


def write_launcher(venv: Path, program: Path, folder: Path) -> None:
    launcher = venv / "bin/chromium"
    launcher.write_text(
        "#!/bin/sh\n"
        f'export LD_LIBRARY_PATH="{debian_packages.library_path(folder)}"\n'
        f'if [ -d "{folder}/etc/fonts" ]; then export FONTCONFIG_PATH="{folder}/etc/fonts"; fi\n'
        f'exec "{program}" "$@"\n'
    )
    launcher.chmod(0o755)


def main() -> None:
    venv = Path(sys.argv[1]).resolve()
    folder = venv / "share/rosfit/chromium"
    ubuntu = "ubuntu" in Path("/etc/os-release").read_text().lower()
    program = from_npm(folder) if ubuntu else from_debian(folder)
    write_launcher(venv, program, folder)
    subprocess.run([venv / "bin/chromium", "--headless", "--no-sandbox", "--version"], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
