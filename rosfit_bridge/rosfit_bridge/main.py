"""`bridge --config rosfit-bridge.yaml`: exit code 0 after SIGTERM or SIGINT, 2 for the configuration, else 1."""

from __future__ import annotations

import argparse
import logging
import signal
import ssl
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rosfit_bridge import __version__, config, enrol
from rosfit_bridge.certificates import renewal_of
from rosfit_bridge.config import Config, ConfigError
from rosfit_bridge.down.ledger import Ledger, LedgerError
from rosfit_bridge.spool import SpoolError
from rosfit_bridge.uplink import Uplink, ledger_path

log = logging.getLogger("rosfit_bridge")

DONE, FAILED, USAGE = 0, 1, 2
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["enrol"]:
        return enrol.main(_without_ros_args(argv[1:]))
    options = _options(argv)
    stop = threading.Event()
    if not options.check:
        _stop_by_signal(stop)
    try:
        settings = _checked(options.config)
        _set_up_logging(settings.logging.level)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    except ImportError as error:
        print(f"ROS 2 is not here ({error}): source its setup.bash, or install rclpy, first", file=sys.stderr)
        return FAILED
    _warn_of_open_secrets(settings)
    if options.check:
        print(f"{options.config}: ok")
        return DONE
    return _run(settings, argv, options.config, stop)


def _checked(path: Path, now: Config | None = None) -> Config:
    """`now` is what the bridge runs with, when it is to change under way."""
    settings = config.load(path)
    from rosfit_bridge.convert.installed import check_reload, check_types  # what they import comes with ROS

    check_types(settings, str(path))
    if now is not None:
        check_reload(now, settings, str(path))
    return settings


def _options(argv: list[str]) -> Any:
    parser = argparse.ArgumentParser(prog="bridge", description="Connects a ROS 2 graph to RosFit over MQTT.")
    parser.add_argument("--config", required=True, type=Path, help="rosfit-bridge.yaml")
    parser.add_argument("--check", action="store_true", help="check the configuration and end")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser.parse_args(_without_ros_args(argv))


def _without_ros_args(argv: list[str]) -> list[str]:
    """`--ros-args … [--]` belongs to rclpy, which launch and `ros2 run` append."""
    ours, ros = [], False
    for word in argv:
        if word == "--ros-args":
            ros = True
        elif ros and word == "--":
            ros = False
        elif not ros:
            ours.append(word)
    return ours


def _set_up_logging(level: str) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=_LEVELS[level], format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )


def _warn_of_open_secrets(settings: Config) -> None:
    auth, tls = settings.connection.auth, settings.connection.tls
    files = {"tls.client_key": tls.client_key}
    if auth is not None:
        files |= {"auth.token_file": auth.token_file, "auth.password_file": auth.password_file}
    for key, file in files.items():
        if file is not None and file.stat().st_mode & stat.S_IROTH:
            log.warning("connection.%s: everybody on this computer can read %s; chmod 600 it", key, file)


def _stop_by_signal(stop: threading.Event) -> None:
    """Before the second that importing ROS takes, so that a stop within it is one, too."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())


def _run(settings: Config, argv: list[str], path: Path, stop: threading.Event) -> int:
    try:
        uplink = Uplink(settings)
        renewal = renewal_of(settings)
        ledger = Ledger(ledger_path(settings), settings.bridge.commands.remember)
    except (SpoolError, LedgerError, OSError, ssl.SSLError) as error:
        log.error("%s", error)
        return FAILED
    if renewal is not None:
        renewal.start()
    try:
        return _turn(settings, uplink, ledger, stop, argv, lambda now: _checked(path, now))
    finally:
        if renewal is not None:
            renewal.close()
        uplink.close()


def _others(settings: Config, uplink: Uplink, context: Any, on_end: Any) -> list[Any]:
    """The nodes of what is switched off by default; started before the link and closed before it."""
    from rosfit_bridge.node.ota_node import OtaNode
    from rosfit_bridge.node.shadow_node import ShadowNode

    wanted = [(OtaNode, settings.ota.enabled), (ShadowNode, settings.shadow.enabled)]
    return [made(settings, uplink, context, on_end) for made, enabled in wanted if enabled]


def _turn(
    settings: Config,
    uplink: Uplink,
    ledger: Ledger,
    stop: threading.Event,
    argv: list[str],
    reload: Callable[[Config], Config],
) -> int:
    from rclpy.context import Context

    from rosfit_bridge.node.bridge_node import BridgeNode, Spinner
    from rosfit_bridge.node.down_node import DownNode

    context = Context()
    try:
        context.init(args=argv)  # unlike rclpy.init, without signal handlers of its own
    except RuntimeError as error:
        log.error("%s; check --ros-args and the environment", str(error).partition(", at ")[0])
        return FAILED
    failures: list[BaseException] = []

    def on_end(failure: BaseException | None) -> None:
        """A bridge that is deaf in one ear ends, so that whoever started it starts it anew."""
        if failure is not None:
            log.error("a ROS executor has ended: %r", failure)
            failures.append(failure)
        stop.set()

    bridge = BridgeNode(settings, uplink, context)
    spinner = Spinner(bridge.node, context, on_end)
    spinner.start()
    down = DownNode(settings, uplink, ledger, context, bridge, reload, on_end)
    down.start()
    others: list[Any] = []
    try:
        others += _others(settings, uplink, context, on_end)
        for other in others:
            other.start()
        uplink.start()  # last: who reads "online" may count on the subscriptions
        stop.wait()
    except OSError as error:
        log.error("the update agent cannot use its folder: %s; set ota.folder", error)
        failures.append(error)
    finally:
        down.close()  # first, as zero velocity must not wait for the others
        for other in others:
            other.close()
        spinner.stop()
        bridge.close()
        context.try_shutdown()
    return FAILED if failures else DONE
