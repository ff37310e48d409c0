"""The command line: exit codes, streams, what `config show` hides, what `doctor` finds, how `serve` ends."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest

from rosfit.cli import rosfit as root
from rosfit.cli.exit_codes import exit_code
from rosfit.infra.embedded.errors import NotRunningError
from rosfit.infra.embedded.ports import free_port
from rosfit.kernel.errors import ConflictError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from rosfit.settings import Settings, SettingsError

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("ROSFIT_")}


def rosfit(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rosfit.cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env={**CLEAN, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="rosfit-cli-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError(), 3),
        (UnauthenticatedError(), 4),
        (PermissionDeniedError(), 4),
        (NotRunningError(), 5),
        (SettingsError(), 2),
        (ConflictError(), 1),
    ],
)
def test_exit_codes(error, code):
    assert exit_code(error) == code


def test_wrong_use_is_2_and_said_on_stderr(tmp_path):
    for arguments in (["nonsense"], ["serve", "--port", "x"], ["config", "show", "--nope"]):
        done = rosfit(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert done.stderr


def test_help_and_version(tmp_path):
    done = rosfit("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in ("serve", "config", "doctor", "version"))
    assert "\x1b" not in done.stdout
    assert json.loads(rosfit("version", "--json", cwd=tmp_path).stdout)["rosfit"]


def leaves(command, path=()):
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from leaves(command.get_command(context, name), (*path, name))
    else:
        yield path, command


def test_every_verb_that_reads_takes_json():
    reads = {"list", "show", "get", "diff", "history", "status", "preview", "export", "verify", "artifacts", "watch"}
    found = {path: command for path, command in leaves(root) if path[-1] in {*reads, "doctor", "openapi", "version"}}
    assert len(found) > 20
    for path, command in found.items():
        assert any("--json" in parameter.opts for parameter in command.params), " ".join(path)


def test_config_show_names_every_setting_with_its_source(tmp_path):
    (tmp_path / "rosfit.toml").write_text('redis_url = "redis://:hunter2@h:6379/0"\n')
    url = "postgresql://me:hunter2@h/d"
    done = rosfit("config", "show", "--json", "--port", "9", cwd=tmp_path, ROSFIT_DATABASE_URL=url)
    shown = json.loads(done.stdout)
    assert set(shown) == set(Settings.model_fields)
    assert shown["port"] == {"value": 9, "source": "flag --port"}
    assert shown["database_url"] == {
        "value": "postgresql://me:***@h/d",
        "source": "environment ROSFIT_DATABASE_URL",
    }
    assert shown["redis_url"]["source"] == str(tmp_path / "rosfit.toml")
    assert shown["host"]["source"] == "default"
    plain = rosfit("config", "show", cwd=tmp_path, ROSFIT_DATABASE_URL=url).stdout
    assert "hunter2" not in done.stdout + plain
    assert all(f"{name} = " in plain for name in Settings.model_fields)


def test_bad_setting_is_2_without_a_traceback(tmp_path):
    done = rosfit("config", "show", cwd=tmp_path, ROSFIT_PORT="many")
    assert (done.returncode, done.stdout) == (2, "")
    assert "port (environment ROSFIT_PORT)" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_is_content_with_a_fresh_folder(folder):
    ports = {"ROSFIT_PORT": str(free_port(19_000)), "ROSFIT_MQTT_PORT": "0", "ROSFIT_MQTT_WS_PORT": "0"}
    done = rosfit("doctor", "--json", "--data-dir", folder / "data", cwd=folder, **ports)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, done.stdout
    wanted = {"Data folder", "Disk", "PostgreSQL", "Redis", "MQTT broker", "Object store", "Clock"}
    assert wanted <= set(checks)
    assert not (folder / "data").exists()


def test_doctor_fails_and_says_how_to_mend(folder):
    """Outside servers that do not answer, and a taken port: exit code 1, each with its remedy, no password."""
    nobody = free_port(19_200)
    outside = {
        "ROSFIT_DATABASE_URL": f"postgresql://me:hunter2@127.0.0.1:{nobody}/d",
        "ROSFIT_REDIS_URL": f"redis://:hunter2@127.0.0.1:{nobody}/0",
        "ROSFIT_MQTT_URL": f"mqtt://me:hunter2@127.0.0.1:{nobody}",
        "ROSFIT_S3_URL": f"s3://bucket?endpoint=http://127.0.0.1:{nobody}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    done = rosfit("doctor", "--json", "--data-dir", folder / "data", cwd=folder, **outside)
    failed = {check["name"]: check for check in json.loads(done.stdout)["checks"] if check["status"] == "fail"}
    assert done.returncode == 1
    assert {"PostgreSQL", "Redis", "MQTT broker", "Object store"} <= set(failed)
    assert all(check["mend"] for check in failed.values())
    assert "hunter2" not in done.stdout + done.stderr


def test_serve_refuses_a_taken_port_before_it_starts_anything(folder):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = rosfit("serve", "--data-dir", folder / "data", "--port", port, cwd=folder)
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 cannot be used" in done.stderr
    assert not (folder / "data").exists()
