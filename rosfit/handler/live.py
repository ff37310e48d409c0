"""What people watch: samples go to the feed on arrival, before they are committed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import msgspec

from rosfit.handler.decode import Parsed
from rosfit.kernel.clock import format_time, now
from rosfit.kernel.feed import Event, Feed
from rosfit.protocol.topics import Kind, Route, stream_suffix

# The stream of changes on the robot itself: {node, name, old_value, new_value}.
PARAMETERS = "parameters"


class Live:
    """Announces messages of known devices at once, and of others once the database has said who they are."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._known: set[str] = set()

    def on_arrival(self, parsed: Parsed) -> None:
        if parsed.route is not None and parsed.bad is None and parsed.route.device_id in self._known:
            self._announce(parsed, parsed.route)

    def on_commit(self, parsed: Parsed) -> None:
        if parsed.route is not None and not parsed.announced:
            self._announce(parsed, parsed.route)

    def learn(self, device_ids: Collection[str]) -> set[str]:
        """The ones that are new here. What of theirs still waits goes out before anything that arrives now."""
        new = set(device_ids) - self._known
        self._known |= new
        return new

    def forget(self, device_id: str) -> None:
        self._known.discard(device_id)

    def _announce(self, parsed: Parsed, route: Route) -> None:
        parsed.announced = True
        if route.kind is Kind.SAMPLE and parsed.message is not None:
            if self._feed.wanted("telemetry", route.device_id):
                # The device's own time, so that what is told live and what is read later lie on one line.
                at = parsed.message.sampled_at or parsed.incoming.received_at or now()
                self._feed.publish(sample_event(route, parsed.message.payload, at))
            if route.name == PARAMETERS and self._feed.wanted("params", route.device_id):
                at_text = format_time(parsed.message.sampled_at or now())
                self._feed.publish(Event("params", route.device_id, PARAMETERS, parsed.message.payload, at_text))
        elif route.kind is Kind.BLOB and self._feed.wanted("telemetry", route.device_id):
            self._feed.publish(_blob_event(parsed, route))


def sample_event(route: Route, payload: bytes, at: datetime) -> Event:
    data = b'{"device_id":"%b","topic":%b,"payload":%b}' % (
        route.device_id.encode(),
        msgspec.json.encode(stream_suffix(route.name)),
        payload,
    )
    return Event("telemetry", route.device_id, route.name, data, format_time(at))


def _blob_event(parsed: Parsed, route: Route) -> Event:
    incoming = parsed.incoming
    at = format_time(incoming.received_at or now())
    name = f"blob/{route.name}"
    content_type = incoming.content_type or "application/octet-stream"
    frame = {"content_type": content_type, "size": len(incoming.payload), "time": at}
    data = msgspec.json.encode({"device_id": route.device_id, "topic": name, "payload": frame})
    return Event("telemetry", route.device_id, name, data, at)
