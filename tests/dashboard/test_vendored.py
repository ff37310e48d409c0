"""What we ship of others is exactly what its list says."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from rosfit.assets import asset_folder

VENDOR = asset_folder("static") / "vendor"
PACKAGES = msgspec.json.decode((VENDOR / "vendored.json").read_bytes())["packages"]


def listed() -> dict[str, str]:
    return {name: digest for package in PACKAGES for name, digest in package["files"].items()}


def test_every_file_is_listed_with_its_hash() -> None:
    """A file that was changed, added or left out shows."""
    files = {path for path in VENDOR.rglob("*") if path.is_file() and path.name != "vendored.json"}
    found = {str(path.relative_to(VENDOR)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert found == listed()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package["name"])
def test_a_licence_lies_beside_each_package(package: dict[str, object]) -> None:
    """Each package has a licence we may ship, and its text."""
    assert package["licence"] in {"0BSD", "MIT", "Apache-2.0"}
    assert any(name.endswith("/LICENSE") for name in package["files"])


def test_no_file_asks_for_a_source_map() -> None:
    """A map that is not there is an error in every open console."""
    for name in listed():
        if name.endswith((".js", ".css")):
            assert b"sourceMappingURL=" not in (VENDOR / name).read_bytes()
