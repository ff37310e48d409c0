"""The command `rosfit`: one module for each verb, loaded when it is called."""

import importlib
import sys

import click
import rich_click

from rosfit.cli.exit_codes import exit_code
from rosfit.kernel.errors import RosfitError

# Verb → module and name of its click command. Loaded late: `rosfit version` need not import a web server.
VERBS = {
    "audit": "rosfit.cli.audit:audit_group",
    "ca": "rosfit.cli.ca:ca",
    "command": "rosfit.cli.command:command",
    "config": "rosfit.cli.config:config",
    "device": "rosfit.cli.device:device",
    "doctor": "rosfit.cli.doctor:doctor",
    "group": "rosfit.cli.group:group",
    "key": "rosfit.cli.key:key",
    "keys": "rosfit.cli.keys:keys",
    "enrol": "rosfit.cli.enrol:enrol",
    "migrate": "rosfit.cli.migrate:migrate_command",
    "ota": "rosfit.cli.ota:ota",
    "openapi": "rosfit.cli.openapi:openapi",
    "serve": "rosfit.cli.serve:serve",
    "shadow": "rosfit.cli.shadow:shadow",
    "sim": "rosfit.cli.sim:sim",
    "telemetry": "rosfit.cli.telemetry:telemetry",
    "user": "rosfit.cli.user:user",
    "version": "rosfit.cli.version:version",
}


class LazyGroup(rich_click.RichGroup):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rosfit")
def rosfit() -> None:
    """Run a fleet of ROS 2 robots: telemetry, commands, shadows and updates in one process.

    Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 not allowed, 5 unreachable.
    """


def main(arguments: list[str] | None = None) -> int:
    """Entry point: results on stdout, everything else on stderr, the outcome as exit code."""
    try:
        answer = rosfit.main(arguments, prog_name="rosfit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except RosfitError as error:
        print(f"rosfit: {error.detail}", file=sys.stderr)
        return exit_code(error)
    return answer if isinstance(answer, int) else 0
