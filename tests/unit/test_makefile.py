"""What `make` runs, run."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_make_bridge_finds_the_package_and_not_the_folder_around_it():
    """Which has the same name, and lies on the path of whoever installed RosFit from here."""
    make = ["make", "-n", "--no-print-directory", "bridge"]
    shown = subprocess.run(make, check=True, cwd=ROOT, capture_output=True, text=True).stdout
    command = shown.splitlines()[-1].replace("--config rosfit-bridge.yaml", "--help")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(["sh", "-c", command], check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout
