"""The link's tests again with paho-mqtt 1.6, which Debian 12 and Ubuntu 22.04 to 24.04 have."""

import os
import re
import subprocess
import sys

import pytest
from bridge_rig import HERE, PACKAGE, ROOT, clean_env


@pytest.fixture(scope="session")
def paho16():
    """A folder with paho 1.6, fetched once."""
    folder = ROOT / ".venv/share/rosfit/paho-1.6"
    if not (folder / "paho").is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), "paho-mqtt<2"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"paho 1.6 cannot be fetched: {done.stderr}"
    return folder


@pytest.mark.full
def test_the_link_with_paho_1_6(paho16):
    env = {**clean_env(), "PYTHONPATH": os.pathsep.join([str(paho16), str(PACKAGE), str(HERE)])}
    check = [sys.executable, "-c", "import paho.mqtt; print(paho.mqtt.__version__)"]
    assert subprocess.run(check, env=env, capture_output=True, text=True, check=False).stdout.startswith("1.6")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        str(HERE / "test_link.py"),
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=PACKAGE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) >= 17
