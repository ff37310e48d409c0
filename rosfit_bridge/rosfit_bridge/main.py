"""`bridge --config rosfit-bridge.yaml`: exit code 0 after SIGTERM or SIGINT, 2 for the configuration, else 1."""

from __future__ import annotations

import argparse
import logging
import signal
import ssl
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
    try:
        settings = _checked(options.config)
        _set_up_logging(settings.logging.level)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    except ImportError as error:
        print(f"ROS 2 is not here ({error}): source its setup.bash, or install rclpy, first", file=sys.stderr)
        return FAILED
    if options.check:
        print(f"{options.config}: ok")
        return DONE
    return _run(settings, argv, options.config)


def _checked(path: Path) -> Config:
    settings = config.load(path)
    check_types(settings, str(path))
    return settings


def check_types(settings: Config, file: str) -> None:
    """Every message, service and action type must be installed. Raises `ConfigError` with file, line and key."""
    from rosfit_bridge.convert.bounds import UnknownFieldError, bounds_of
    from rosfit_bridge.convert.shape import UnknownTypeError, load_class, shape_of

    problems = []
    for section, key in (
        ("publish", "msg_type"),
        ("subscribe", "msg_type"),
        ("services", "srv_type"),
        ("actions", "action_type"),
    ):
        for index, entry in enumerate(getattr(settings.bridge, section)):
            try:
                found = load_class(getattr(entry, key))
                if key == "msg_type":
                    shape_of(found)
                if section == "subscribe":
                    bounds_of(shape_of(found), entry.limits, entry.slew)
            except UnknownFieldError as error:
                path = f"bridge.subscribe[{index}]"
                problems += config.problem(file, entry.line, path, str(error)).problems
            except UnknownTypeError as error:
                path = f"bridge.{section}[{index}].{key}"
                problems += config.problem(file, entry.line, path, str(error)).problems
    for line, path, name in _optional_types(settings):
        try:
            load_class(name)
        except UnknownTypeError as error:
            problems += config.problem(file, line, path, str(error)).problems
    if problems:
        raise ConfigError(file, problems)


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


def _run(settings: Config, argv: list[str], path: Path) -> int:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
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
        return _turn(settings, uplink, ledger, stop, argv, lambda: _checked(path))
    finally:
        if renewal is not None:
            renewal.close()
        uplink.close()


def _optional_types(settings: Config) -> list[tuple[int, str, str]]:
    """Line, path and name of the types in the sections that are switched off by default."""
    named = [("ota.gate", entry, index, "msg_type") for index, entry in enumerate(settings.ota.gate)]
    for index, entry in enumerate(settings.shadow.map):
        named += [("shadow.map", entry, index, key) for key in ("msg_type", "srv_type", "report_type")]
    return [
        (entry.line, f"{section}[{index}].{key}", name)
        for section, entry, index, key in named
        if (name := getattr(entry, key)) is not None
    ]


def _others(settings: Config, uplink: Uplink, context: Any) -> list[Any]:
    """The nodes of what is switched off by default; started before the link and closed before it."""
    from rosfit_bridge.node.ota_node import OtaNode
    from rosfit_bridge.node.shadow_node import ShadowNode

    wanted = [(OtaNode, settings.ota.enabled), (ShadowNode, settings.shadow.enabled)]
    return [made(settings, uplink, context) for made, enabled in wanted if enabled]


def _turn(
    settings: Config,
    uplink: Uplink,
    ledger: Ledger,
    stop: threading.Event,
    argv: list[str],
    reload: Callable[[], Config],
) -> int:
    from rclpy.context import Context

    from rosfit_bridge.node.bridge_node import BridgeNode, Spinner
    from rosfit_bridge.node.down_node import DownNode

    context = Context()
    context.init(args=argv)  # unlike rclpy.init, without signal handlers of its own
    bridge = BridgeNode(settings, uplink, context)
    spinner = Spinner(bridge.node, context, on_end=stop.set)
    spinner.start()
    down = DownNode(settings, uplink, ledger, context, bridge, reload)
    down.start()
    others = _others(settings, uplink, context)
    for other in others:
        other.start()
    uplink.start()  # last: who reads "online" may count on the subscriptions
    try:
        stop.wait()
    finally:
        for other in others:
            other.close()
        down.close()
        spinner.stop()
        bridge.close()
        context.try_shutdown()
    if spinner.failure is not None:
        log.error("the ROS executor ended: %r", spinner.failure)
        return FAILED
    return DONE
