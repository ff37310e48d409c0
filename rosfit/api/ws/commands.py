"""Commands over the socket: sent, and told of at each step until the result."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from rosfit.accounts import audit
from rosfit.accounts.models import Actor
from rosfit.api.edge import Edge
from rosfit.api.ws.codec import RequestId
from rosfit.commands import service
from rosfit.commands.lifecycle import FINAL
from rosfit.commands.models import NewCommand
from rosfit.fleet import service as fleet
from rosfit.kernel.feed import Event

# A command that ended is still followed for a late result; past this many the oldest are forgotten.
FOLLOWED_LIMIT = 1_000

# Takes type, data, and the id of the request that is answered.
Answer = Callable[[str, dict[str, Any], RequestId], None]


class CommandMessage(NewCommand, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """`data` of a `command` message."""

    device_id: str


class CommandDesk:
    """The commands of one socket."""

    def __init__(self, edge: Edge, answer: Answer) -> None:
        self._edge = edge
        self._answer = answer
        self._followed: OrderedDict[str, RequestId] = OrderedDict()
        self._watched: dict[str, Callable[[], None]] = {}

    async def send(self, message: CommandMessage, actor: Actor, request_id: RequestId) -> None:
        """Raises what `commands.service.send` raises; nothing is kept then."""
        async with self._edge.open_work() as work:
            await fleet.check_reach(work, message.device_id, actor.reach)
            self._watch(message.device_id)
            accepted = await service.send(work, message.device_id, message, actor.id)
            told = {"command_id": accepted.command_id, "command": message.command}
            await audit.record(work, actor, "command.send", message.device_id, after=told)
            # Before the commit, whose events tell of the first step.
            self._follow(accepted.command_id, request_id)

    def close(self) -> None:
        for unsubscribe in self._watched.values():
            unsubscribe()
        self._watched.clear()

    def _watch(self, device_id: str) -> None:
        if device_id not in self._watched:
            self._watched[device_id] = self._edge.feed.subscribe("commands", device_id, self._offer)

    def _follow(self, command_id: str, request_id: RequestId) -> None:
        self._followed[command_id] = request_id
        if len(self._followed) > FOLLOWED_LIMIT:
            self._followed.popitem(last=False)

    def _offer(self, event: Event) -> None:
        if event.name not in self._followed:
            return
        request_id = self._followed[event.name]
        step = msgspec.json.decode(event.data)
        told = {"command_id": event.name, "status": step["status"]}
        if step["status"] not in FINAL:
            progress = {"progress": step["progress"]} if "progress" in step else {}
            self._answer("command_ack", told | progress, request_id)
            return
        told["result"] = step.get("result")
        more = {key: step[key] for key in ("error", "late") if key in step}
        self._answer("command_result", told | more, request_id)
