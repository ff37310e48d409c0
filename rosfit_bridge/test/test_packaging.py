"""colcon in its three layouts, pip, and the rules the sources keep."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bridge_rig import PACKAGE, ROOT, clean_env

SOURCES = sorted((PACKAGE / "rosfit_bridge").rglob("*.py"))
MAY_TOUCH_ROS = ("node/", "convert/", "main.py")


@pytest.fixture(scope="session")
def colcon():
    """colcon in a venv of its own, fetched once: it wants setuptools below 80."""
    # Resolved: scripts of a venv name its path, and a second checkout may share this one by a link.
    venv = (ROOT / ".venv").resolve() / "share/rosfit/colcon"
    if not (venv / "bin/colcon").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, env=clean_env())
        wanted = ["colcon-common-extensions", "colcon-ros", "setuptools>=70.1,<80"]
        subprocess.run([str(venv / "bin/pip"), "install", "-q", *wanted], check=True, env=clean_env())
    return venv / "bin/colcon"


@pytest.fixture
def workspace(tmp_path):
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".hypothesis", ".pytest_cache")
    shutil.copytree(PACKAGE, tmp_path / "src/rosfit_bridge", ignore=ignored)
    return tmp_path


def run(command, folder, **env):
    done = subprocess.run(command, cwd=folder, env={**clean_env(), **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("layout", ["", "--symlink-install", "--merge-install"])
def test_colcon_builds_what_ros2_run_starts(colcon, workspace, layout):
    """The executable is where `ros2 run rosfit_bridge bridge` looks, and the package is in the ament index."""
    run([str(colcon), "build", *layout.split()], workspace, PATH=f"{colcon.parent}:{os.environ['PATH']}")
    prefix = workspace / "install" / ("" if layout == "--merge-install" else "rosfit_bridge")
    executable = prefix / "lib/rosfit_bridge/bridge"
    assert os.access(executable, os.X_OK)
    assert (prefix / "share/rosfit_bridge/launch/bridge.launch.py").exists()
    script = (
        f". install/setup.sh && {sys.executable} {executable} --version && {sys.executable} -c "
        "'from ament_index_python import get_package_share_directory as s; print(s(\"rosfit_bridge\"))'"
    )
    version, share = run(["sh", "-c", script], workspace).split("\n")[:2]
    assert version == "bridge 0.1.0"
    assert Path(share).samefile(prefix / "share/rosfit_bridge")


def test_pip_installs_the_same(colcon, workspace):
    """With the setuptools that colcon brought: nothing is fetched."""
    prefix = workspace / "prefix"
    pip = [
        str(colcon.parent / "python"),
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--prefix",
        str(prefix),
    ]
    run([*pip, "src/rosfit_bridge"], workspace)
    assert os.access(prefix / "lib/rosfit_bridge/bridge", os.X_OK)
    assert (prefix / "share/ament_index/resource_index/packages/rosfit_bridge").exists()
    (site,) = prefix.glob("lib/python*/site-packages")
    assert (site / "rosfit_bridge/node/bridge_node.py").exists()
    script = next(prefix.rglob("rosfit-bridge"))
    assert run([sys.executable, str(script), "--version"], workspace, PYTHONPATH=str(site)) == "bridge 0.1.0\n"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_oldest_python_can_read_it(path):
    """ROS 2 Humble has Python 3.10."""
    ast.parse(path.read_text(), feature_version=(3, 10))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_some_modules_touch_ros(path):
    """The rest runs, and is tested, without it."""
    here = str(path.relative_to(PACKAGE / "rosfit_bridge"))
    if here.startswith(MAY_TOUCH_ROS):
        return
    tree = ast.parse(path.read_text())
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    ros = {
        m for m in imported if m.startswith(("rclpy", "rosidl", "rcl_", "rosfit_bridge.node", "rosfit_bridge.convert"))
    }
    assert not ros


def test_every_dependency_has_a_rosdep_key():
    """What is imported is in package.xml, by the name rosdep knows."""
    keys = {"paho": "python3-paho-mqtt", "yaml": "python3-yaml"}
    keys |= {name: f"python3-{name}" for name in ("cryptography", "numpy", "psutil")}
    optional = {"orjson", "pybase64"}
    declared = (PACKAGE / "package.xml").read_text()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for top in {name.split(".")[0] for name in names} - optional - set(sys.stdlib_module_names):
                assert top == "rosfit_bridge" or f"<exec_depend>{keys.get(top, top)}</exec_depend>" in declared, (
                    path,
                    top,
                )


def test_the_launch_file_is_python():
    compile((PACKAGE / "launch/bridge.launch.py").read_text(), "bridge.launch.py", "exec")
