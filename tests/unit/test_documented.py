"""docs/protocol.md is complete: every reason of a dead letter, and every error code."""

import importlib
import pkgutil
import re
from pathlib import Path

import rosfit
from rosfit.kernel.errors import RosfitError
from rosfit.protocol.errors import REASONS

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| (\d+)", PAGE, re.MULTILINE))


def all_errors():
    for module in pkgutil.walk_packages(rosfit.__path__, "rosfit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = [RosfitError]
    for error in found:
        found += error.__subclasses__()
    return [error for error in found if error.__module__.startswith("rosfit.")]


def test_every_reason_is_documented():
    for reason in REASONS:
        assert f"| `{reason}` |" in PAGE, reason


def test_every_error_code_is_documented():
    for error in all_errors():
        assert error.code in ROWS, f"{error.code} ({error.__name__}) is not in docs/protocol.md"
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", error.code)
