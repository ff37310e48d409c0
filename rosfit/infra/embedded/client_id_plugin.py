"""Builds the broker's plugin `client_ids.c` with the machine's C compiler, or with TinyCC (0.3 MB) when it has none."""

import hashlib
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from rosfit.infra.embedded import debian_packages
from rosfit.infra.embedded.errors import EmbeddedServerError

SOURCE = Path(__file__).with_name("client_ids.c")
COMPILERS = ("cc", "gcc", "clang", "tcc")
# Nothing of the C library is linked in: what the plugin needs, the broker has loaded.
OPTIONS = ("-shared", "-fPIC", "-nostdlib")
_BUILD_WITHIN_S = 60


def build(folder: Path) -> Path:
    """The plugin in `folder`, built once for each version of its source. Raises EmbeddedServerError."""
    plugin = folder / f"client-ids-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}.so"
    if not plugin.exists():
        partial = plugin.with_suffix(f".{os.getpid()}")
        _compile(_compiler(), partial)
        partial.chmod(0o755)  # the broker's user loads it
        partial.replace(plugin)
    return plugin


def prepare() -> None:
    """Make sure that there is a compiler, so that the first start need not fetch one."""
    _compiler()


def _compiler() -> tuple[str, ...]:
    for name in COMPILERS:
        if found := shutil.which(name):
            return (found,)
    tree = Path(sysconfig.get_path("data")) / "share/rosfit/tcc"
    program = tree / "usr/bin/tcc"
    if not program.exists():
        try:
            debian_packages.unpack("tcc", tree)
        except EmbeddedServerError as error:
            other = "The broker needs it for a plugin of ours: install a C compiler, or use a broker of your own with"
            raise EmbeddedServerError(f"{error.detail} {other} ROSFIT_MQTT_URL.") from error
    return (str(program),)


def _compile(compiler: tuple[str, ...], target: Path) -> None:
    done = subprocess.run(  # noqa: S603
        [*compiler, *OPTIONS, "-o", str(target), str(SOURCE)],
        capture_output=True,
        text=True,
        timeout=_BUILD_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        raise EmbeddedServerError(f"{compiler[0]} could not build {SOURCE}: {done.stderr.strip()[-500:]}")
