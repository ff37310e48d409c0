"""An action type for the tests, generated and compiled here: no package on PyPI brings one.

int32 target, float64 period_s --- int32 count --- int32 count, float64 percent
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy
import pytest

PACKAGE = "rosfit_test_interfaces"
TYPE = f"{PACKAGE}/CountUntil"
_IDL = f"""module {PACKAGE} {{
  module action {{
    struct CountUntil_Goal {{ int32 target; double period_s; }};
    struct CountUntil_Result {{ int32 count; }};
    struct CountUntil_Feedback {{ int32 count; double percent; }};
  }};
}};
"""
_NEEDED = ("action_msgs", "builtin_interfaces", "unique_identifier_msgs", "service_msgs")
_KINDS = ("rosidl_generator_c", "rosidl_typesupport_c", "rosidl_typesupport_fastrtps_c", "rosidl_generator_py")
_RUNTIME = (
    "rosidl_runtime_c", "rosidl_typesupport_c", "rosidl_typesupport_introspection_c", "rosidl_typesupport_fastrtps_c",
    "rosidl_typesupport_fastrtps_cpp", "fastcdr", "rcutils", "rmw",
)  # fmt: skip


@functools.lru_cache(maxsize=None)
def folder() -> Path:
    """What belongs into PYTHONPATH to import the type; already in `sys.path` here."""
    made = Path(tempfile.mkdtemp(prefix="rosfit-action-"))
    _generate(made)
    _compile(made / PACKAGE)
    sys.path.append(str(made))
    return made


def remove() -> None:
    if folder.cache_info().currsize:
        shutil.rmtree(folder(), ignore_errors=True)


def _prefix() -> Path:
    import rosidl_runtime_c

    del rosidl_runtime_c
    return Path(sysconfig.get_path("data"))


def _generate(out: Path) -> None:
    """By the generators that the ROS wheels bring along, which look for their templates by AMENT_PREFIX_PATH."""
    (out / PACKAGE / "action").mkdir(parents=True)
    (out / PACKAGE / "__init__.py").touch()
    (out / PACKAGE / "action/CountUntil.idl").write_text(_IDL)
    env = {**os.environ, "AMENT_PREFIX_PATH": str(sys.prefix)}
    run = subprocess.run([sys.executable, __file__, str(out)], env=env, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.fail(f"the test's action type cannot be generated: {run.stderr[-2000:]}")


def _run_generators(out: Path) -> None:
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    both = ["rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c"]
    include = [f"{sys.prefix}/share/{name}" for name in _NEEDED]
    for generator, folder_name in (
        (GenerateC("c"), PACKAGE),
        (GeneratePython("py", typesupport_implementations=["rosidl_typesupport_c"]), PACKAGE),
        (GenerateCTypesupport("c", typesupport_implementations=both), PACKAGE),
        (GenerateFastRTPSCTypesupport("fastrtps_c"), PACKAGE),
        # It calls a file as another generator does.
        (GenerateIntrospectionCTypesupport("introspection_c"), f"introspection/{PACKAGE}"),
    ):
        generator.generate(PACKAGE, [f"{out / PACKAGE}:action/CountUntil.idl"], include, out / folder_name)


def _compile(package: Path) -> None:
    """The dispatching type support opens its two implementations by their soname: each is a library of its own."""
    compiler = shutil.which("g++")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if compiler is None or not header.exists():
        pytest.fail("the test's action type must be compiled: apt install g++ python3-dev")
    prefix, detail = Path(sys.prefix), package / "action/detail"
    other = package.parent / "introspection"
    includes = [path for path in (prefix / "include").iterdir() if path.is_dir()]
    includes += [prefix / "include", package.parent, other, header.parent, Path(numpy.get_include())]
    fastrtps, introspection = (
        f"lib{PACKAGE}__rosidl_typesupport_{kind}_c.so" for kind in ("fastrtps", "introspection")
    )
    sources = {
        fastrtps: [*detail.glob("*.c"), *detail.glob("*.cpp")],
        introspection: [other / PACKAGE / "action/detail/count_until__type_support.c"],
        f"{PACKAGE}_s__rosidl_typesupport_c.so": [*package.glob("*.c"), *(package / "action").glob("*.c*")],
    }
    flags = [f"-I{path}" for path in includes]
    objects = _objects(compiler, flags, [each for group in sources.values() for each in group])
    messages = [prefix / f"lib/lib{name}__{kind}.so" for name in _NEEDED for kind in _KINDS]
    libraries = [f"-L{prefix}/lib", *(f"-l{name}" for name in _RUNTIME), *(str(m) for m in messages if m.exists())]
    before: list[str] = []
    for name, group in sources.items():
        linked = [*(str(objects[each]) for each in group), *before, *libraries]
        named = f"-Wl,-soname,{name},-rpath,{prefix}/lib:$ORIGIN"
        _call([compiler, "-shared", "-o", str(package / name), named, "-Wl,--no-as-needed", *linked])
        before.append(str(package / name))


def _objects(compiler: str, flags: list[str], sources: list[Path]) -> dict[Path, Path]:
    made, running = {}, []
    for source in sources:
        made[source] = source.with_suffix(f"{source.suffix}.o")
        # g++ takes .c for C++ unless told.
        language = ["-x", "c"] if source.suffix == ".c" else ["-x", "c++", "-std=c++17"]
        command = [compiler, "-O0", "-fPIC", "-w", "-c", *flags, *language, str(source), "-o", str(made[source])]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    for each in running:
        _, complaint = each.communicate()
        assert each.returncode == 0, complaint
    return made


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    _run_generators(Path(sys.argv[1]))
