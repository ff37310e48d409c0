"""`rosfit sim`"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from rosfit.cli.local_accounts import LocalAccounts
from rosfit.cli.options import json_option, print_json, with_settings
from rosfit.settings import Settings
from rosfit.sim.accounts import AccountSource, SharedAccounts
from rosfit.sim.fleet import Options, run_fleet
from rosfit.sim.link import parse_broker
from rosfit.sim.rest_accounts import RestAccounts
from rosfit.sim.tally import Summary
from rosfit.sim.updates import UpdateOptions

STDIN = 0
TOKEN_VARIABLE = "ROSFIT_API_TOKEN"  # noqa: S105 - the variable's name


@click.command()
@click.option("--robots", type=click.IntRange(1, 5000), default=10, show_default=True, help="How many.")
@click.option(
    "--rate", type=click.FloatRange(0.1, 100), default=5.0, show_default=True, help="Odometry in Hz per robot."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same robots.")
@click.option("--faults", is_flag=True, help="Lost links, silences, duplicates, bad messages, alarms.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Seconds; without it until Ctrl-C.")
@click.option("--record", type=click.Path(path_type=Path, dir_okay=False), help="Write the session to this file.")
@click.option(
    "--replay",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Play this recorded session; --robots, --rate, --seed and --faults are as it was recorded.",
)
@click.option(
    "--mqtt-url",
    help="Outside broker, one credential for all robots; a password belongs in ROSFIT_MQTT_URL, not here.",
)
@click.option("--url", help=f"Running RosFit to register the robots at, with the token in {TOKEN_VARIABLE}.")
@click.option("--update-failures", type=click.FloatRange(0, 1), default=0.0, help="Share of updates that fail.")
@click.option("--update-silences", type=click.FloatRange(0, 1), default=0.0, help="Share never heard of again.")
@click.option(
    "--update-time", type=click.FloatRange(0.1, 3600), default=10.0, show_default=True, help="Seconds of one."
)
@click.option("--while-stdin", is_flag=True, hidden=True, help="End when standard input is closed.")
@with_settings
@json_option
def sim(
    settings: Settings, as_json: bool, mqtt_url: str | None, url: str | None, while_stdin: bool, **choices: Any
) -> int:
    """Simulate robots over MQTT: odometry on a floor plan, battery, laser scan, camera, logs.

    Ends with what was sent and acknowledged; Ctrl-C lets every robot say goodbye first.
    """
    updates = UpdateOptions(*(choices.pop(f"update_{name}") for name in ("failures", "silences", "time")))
    options = Options(duration_s=choices.pop("duration"), updates=updates, **choices)
    summary = asyncio.run(_simulate(options, settings, mqtt_url or settings.mqtt_url, url, while_stdin=while_stdin))
    if as_json:
        print_json(msgspec.to_builtins(summary) | {"total": msgspec.to_builtins(summary.total())})
    else:
        _print(summary)
    return 0


async def _simulate(
    options: Options, settings: Settings, mqtt_url: str | None, url: str | None, *, while_stdin: bool
) -> Summary:
    device_ids = options.device_ids()
    source, broker_url = account_source(settings, mqtt_url, url)
    accounts = await source.accounts(device_ids)
    summary = Summary(len(accounts))
    task = asyncio.create_task(run_fleet(accounts, options, broker_url, summary=summary, announce=_say))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    if while_stdin:
        _at_end_of_stdin(task.cancel)
    with suppress(asyncio.CancelledError):
        await task
    return summary


def _at_end_of_stdin(call: Callable[[], object]) -> None:
    """How a process learns that its parent was killed: nobody is left to hold the other end."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        # Not through `sys.stdin`, whose lock a thread that waits would still hold when Python ends: it aborts then.
        while os.read(STDIN, 1024):
            pass
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(call)

    threading.Thread(target=wait, daemon=True).start()


def account_source(settings: Settings, mqtt_url: str | None, url: str | None) -> tuple[AccountSource, str]:
    """Who hands out credentials, and the broker's address."""
    token = os.environ.get(TOKEN_VARIABLE)
    if token:
        server = url or f"{settings.scheme}://{_reachable(settings.host)}:{settings.port}"
        host = urlsplit(server).hostname or settings.host
        return RestAccounts(server, token), mqtt_url or f"mqtt://{_reachable(host)}:{settings.mqtt_port}"
    if mqtt_url:
        _, username, password = parse_broker(mqtt_url)
        return SharedAccounts(username, password), mqtt_url
    return LocalAccounts(settings), f"mqtt://{_reachable(settings.host)}:{settings.mqtt_port}"


def _reachable(host: str) -> str:
    """An address to connect to, where `host` is one to listen on."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def _say(text: str) -> None:
    print(f"rosfit sim: {text}", file=sys.stderr, flush=True)


def _print(summary: Summary) -> None:
    click.echo(f"{'':<28}{'sent':>10}{'acknowledged':>14}{'failed':>8}")
    rows = sorted(summary.streams.items())
    for row, count in [*rows, ("total", summary.total())]:
        click.echo(f"{row:<28}{count.sent:>10}{count.acknowledged:>14}{count.failed:>8}")
    click.echo(
        f"{summary.robots} robots, {summary.seconds:.1f} s, {summary.connects} connections, {summary.losses} lost"
    )
    for outcome, times in summary.updates.items():
        click.echo(f"updates {outcome}: {times}")
    for reason, times in summary.refusals.items():
        click.echo(f"refused {times} times: {reason}")
