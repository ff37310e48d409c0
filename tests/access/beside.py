"""What the tests here share: the broker's secret, and the command line beside the server."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

HOOK_TOKEN = f"hook-{secrets.token_hex(16)}"


def rosfit(*arguments: str, data_dir: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line beside the server."""
    command = [sys.executable, "-m", "rosfit.cli", *arguments, "--data-dir", str(data_dir)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ROSFIT_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=clean | env)
