"""The way down in the ROS graph: a node of its own, so that commands never wait for telemetry or hold it up."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

from rclpy.context import Context
from rclpy.node import Node

from rosfit_bridge import __version__
from rosfit_bridge.config import Bridge, Config, ConfigError
from rosfit_bridge.config_down import Subscribe
from rosfit_bridge.down.backlog import Backlog
from rosfit_bridge.down.desk import EMERGENCY_STOP, Desk
from rosfit_bridge.down.job import Command, Job, failed, rejected
from rosfit_bridge.down.ledger import Ledger
from rosfit_bridge.envelope import Clock, Stream
from rosfit_bridge.node.bridge_node import BridgeNode, OnEnd, Spinner
from rosfit_bridge.node.calls import ServiceCommand
from rosfit_bridge.node.goals import ActionCommand
from rosfit_bridge.node.inject import Injector, Motion
from rosfit_bridge.node.parameters import ParameterDesk
from rosfit_bridge.topics import COMMAND_REQUEST_SUFFIX, PARAMETERS_SUFFIX, DeviceTopics
from rosfit_bridge.uplink import Uplink

log = logging.getLogger(__name__)

# What reload_config changes without a restart.
LIVE = ("publish", "subscribe", "services", "actions", "parameters")
Reload = Callable[[Config], Config]


class DownNode:
    """`reload` reads the configuration anew and holds it against the present one; `up` takes a new bridge.publish."""

    def __init__(
        self,
        config: Config,
        uplink: Uplink,
        ledger: Ledger,
        context: Context,
        up: BridgeNode,
        reload: Reload,
        on_end: OnEnd,
    ) -> None:
        self._config, self._uplink, self._up, self._reload = config, uplink, up, reload
        device_id = config.rosfit.device_id
        self._topics = DeviceTopics(device_id)
        self.node = Node("rosfit_bridge_commands", context=context, enable_rosout=False, start_parameter_services=False)
        self.desk = Desk(device_id, ledger, uplink.counters, uplink.publish)
        self.motion = Motion(uplink.counters)
        self._changes = Stream(device_id, PARAMETERS_SUFFIX, 1)
        self.parameters = ParameterDesk(self.node, self.desk.lane, self._parameter_changed)
        self._made: dict[tuple[Any, ...], Any] = {}
        self._injectors: dict[Subscribe, Injector] = {}
        self._heard: set[str] = set()
        self._spinner = Spinner(self.node, context, on_end)

    def start(self) -> None:
        """Before the link, which is then subscribed with its first connection."""
        self._spinner.start()
        self.motion.start()
        self.desk.start()
        self.desk.lane.run(self._configure(self._config.bridge), 10.0)
        self._uplink.link.on_lost = self._lost
        self._uplink.link.subscribe(self._topics.of(COMMAND_REQUEST_SUFFIX), 1, self.desk.take)

    def close(self) -> None:
        """Zero first; then what is under way ends."""
        self.motion.end()
        self.desk.close()
        self.motion.close()
        self._spinner.stop()
        self.node.destroy_node()

    def _lost(self) -> None:
        """Also after each attempt to connect that fails."""
        self.motion.stop()
        if self._uplink.link.settled:
            self.desk.repeat()

    async def _configure(self, bridge: Bridge) -> None:
        """In the lane's thread, between two commands."""
        commands = [*self._own(), *(self._of(entry, ServiceCommand) for entry in bridge.services)]
        commands += [self._of(entry, ActionCommand) for entry in bridge.actions]
        self.parameters.configure(bridge.parameters)
        commands += self.parameters.commands
        table = {command.name: command for command in commands}
        table[EMERGENCY_STOP] = self._emergency_stop(table.get(EMERGENCY_STOP))
        self._subscribe(bridge.subscribe)
        self.desk.commands = table

    def _of(self, entry: Any, made_by: Callable[[Node, Any], Any]) -> Command:
        """What is configured as before is kept, with what is under way in it."""
        key = (made_by, *dataclasses.astuple(dataclasses.replace(entry, line=0)))
        if key not in self._made:
            self._made[key] = made_by(self.node, entry)
        command: Command = self._made[key].command
        return command

    def _subscribe(self, entries: tuple[Subscribe, ...]) -> None:
        wanted = {_key(entry): entry for entry in entries}
        for key in self._injectors.keys() - wanted:
            self.motion.remove(self._injectors.pop(key))
        for key, entry in wanted.items():
            if key not in self._injectors:
                self._injectors[key] = self.motion.add(self.node, entry)
        suffixes = {entry.mqtt_suffix for entry in entries}
        for suffix in self._heard - suffixes:
            self._uplink.link.unsubscribe(self._topics.of(suffix))
        for suffix in suffixes:
            qos = max(entry.qos for entry in entries if entry.mqtt_suffix == suffix)
            self._uplink.link.subscribe(self._topics.of(suffix), qos, self._handler(suffix))
        self._heard = suffixes

    def _handler(self, suffix: str) -> Callable[[str, bytes, Any], None]:
        """Velocities are driven by the thread that reads them; what may be large is left to the lane."""
        injectors = [each for entry, each in self._injectors.items() if entry.mqtt_suffix == suffix]
        direct = [each for each in injectors if each.dog is not None]
        others = [self._backlog(each) for each in injectors if each.dog is None]

        def take(topic: str, payload: bytes, properties: Any) -> None:
            # What a broker kept for us while we were away comes before the subscription is confirmed.
            if self._uplink.link.settled:
                for injector in direct:
                    injector.take(topic, payload, properties)
            for backlog in others:
                backlog.put(topic, payload, properties)

        return take

    def _backlog(self, injector: Injector) -> Backlog:
        return Backlog(self.desk.lane.post, injector.take, injector.late)

    def _own(self) -> list[Command]:
        nothing: dict[str, Any] = {}
        return [
            Command("ping", "builtin", "rosfit/ping", nothing, self._ping),
            Command("cancel", "builtin", "rosfit/cancel", {"command_id": "string"}, self._cancel),
            Command("list_graph", "builtin", "rosfit/list_graph", nothing, self._list_graph),
            Command("reload_config", "builtin", "rosfit/reload_config", nothing, self._reload_config),
        ]

    def _emergency_stop(self, service: Command | None) -> Command:
        """With a service or without: zero on everything that is watched, and goals are cancelled."""

        async def run(job: Job) -> Any:
            stopped = self.motion.hold()
            halted = self.desk.halt()
            if service is not None:
                return await service.run(job)
            goals = await asyncio.wrap_future(halted)
            if not stopped and not goals:
                message = "no service is configured for it and no bridge.subscribe entry has a watchdog"
                raise rejected("NOT_ALLOWED", message)
            return {"stopped": stopped, "cancelled": goals}

        if service is not None:
            return dataclasses.replace(service, run=run)
        return Command(EMERGENCY_STOP, "builtin", "rosfit/emergency_stop", {}, run)

    async def _ping(self, _job: Job) -> dict[str, Any]:
        return {"version": __version__, "time": Clock().text(time.time_ns())}

    async def _cancel(self, job: Job) -> dict[str, Any]:
        command_id = job.request.data.get("command_id")
        if not isinstance(command_id, str):
            raise rejected("INVALID_DATA", "data: command_id: expected text")
        await self.desk.cancel(command_id)
        return {"command_id": command_id}

    async def _list_graph(self, _job: Job) -> dict[str, Any]:
        topics = [
            {"name": name, "type": type_} for name, types in self.node.get_topic_names_and_types() for type_ in types
        ]
        commands = [command.as_dict() for command in self.desk.commands.values()]
        return {"commands": commands, "topics": topics, "parameters": self.parameters.nodes}

    async def _reload_config(self, _job: Job) -> dict[str, Any]:
        try:
            fresh = self._reload(self._config)
        except ConfigError as error:
            raise failed("INVALID_CONFIG", f"{error}\nthe bridge goes on as it was") from error
        changed = [key for key in LIVE if _without_lines(fresh, key) != _without_lines(self._config, key)]
        await self._configure(fresh.bridge)
        if "publish" in changed:
            self._up.reconfigure(fresh)
        live = {key: getattr(fresh.bridge, key) for key in LIVE}
        self._config = dataclasses.replace(self._config, bridge=dataclasses.replace(self._config.bridge, **live))
        waiting = _needs_restart(self._config, fresh)
        log.info("the configuration was read anew: %s changed", ", ".join(changed) or "nothing")
        return {"applied": [f"bridge.{key}" for key in changed], "needs_restart": waiting}

    def _parameter_changed(self, change: dict[str, Any]) -> None:
        self._uplink.publish(self._changes.sample(change, time.time_ns()))


class _Frozen(dict):  # type: ignore[type-arg]
    """A mapping that may be part of a key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def _key(entry: Subscribe) -> Subscribe:
    """Equal for what was only moved to another line."""
    return dataclasses.replace(entry, line=0, limits=_Frozen(entry.limits), slew=_Frozen(entry.slew))


def _without_lines(config: Config, key: str) -> list[Any]:
    return [dataclasses.replace(entry, line=0) for entry in getattr(config.bridge, key)]


def _needs_restart(now: Config, fresh: Config) -> list[str]:
    """Sections that differ and are read at the start only."""
    keys = [field.name for field in dataclasses.fields(Bridge) if field.name not in LIVE]
    sections = ("rosfit", "connection", "shadow", "ota", "logging")
    different = [name for name in sections if getattr(now, name) != getattr(fresh, name)]
    return different + [f"bridge.{key}" for key in keys if getattr(now.bridge, key) != getattr(fresh.bridge, key)]
