"""Sorting a batch into rows: pure, so that the transaction only writes."""

from __future__ import annotations

from datetime import datetime
from itertools import count

import msgspec

from rosfit.fleet import presence
from rosfit.handler.decode import Parsed
from rosfit.kernel.clock import now
from rosfit.kernel.ids import uuid7
from rosfit.protocol.envelope import Message, payload_digest
from rosfit.protocol.errors import BadMessageError
from rosfit.protocol.payloads import AlertPayload, LogPayload, StatusPayload, decode_payload
from rosfit.protocol.topics import Kind, Route
from rosfit.telemetry.models import MADE_UP, Frame, NewAlert, NewDeadLetter, NewLog, Sample

Change = tuple[str, str, str, str | None]

_run = uuid7().hex
_numbers = count()


class Batch:
    """The rows of one transaction. `statuses` says which devices there are, and in which status."""

    def __init__(self, statuses: dict[str, str]) -> None:
        self._before = statuses
        self._now = dict(statuses)
        self._reasons: dict[str, str | None] = {}
        self.samples: list[Sample] = []
        self.logs: list[NewLog] = []
        self.alerts: list[NewAlert] = []
        self.frames: dict[tuple[str, str], tuple[Frame, int]] = {}
        self.ordered: list[tuple[Parsed, Route, Message]] = []
        self.dead_letters: list[NewDeadLetter] = []
        self.rejected: list[Parsed] = []
        self.layouts: dict[str, dict[str, str]] = {}
        self.heard: dict[str, datetime] = {}
        self.accepted: list[Parsed] = []
        self.refused: set[str] = set()
        # The message behind each row, by the row's identity: a row that cannot be stored becomes a dead letter.
        self.sources: dict[int, Parsed] = {}

    def add(self, parsed: Parsed) -> None:
        if parsed.bad is not None:
            # Not raised: its traceback would lead back to `parsed`, which no garbage collection looks into.
            self.reject(parsed, parsed.bad)
            return
        try:
            self._add(parsed)
        except BadMessageError as bad:
            self.reject(parsed, bad)

    def _add(self, parsed: Parsed) -> None:
        route = parsed.route
        assert route is not None, "a message without a route is a bad one"
        self._check_device(route.device_id)
        self._sort(parsed, route)
        self.accepted.append(parsed)
        if not parsed.replayed:
            self._note_presence(parsed, route)
        if parsed.mapped is not None:
            self.layouts[route.device_id] = {"layout": parsed.mapped.layout, **parsed.mapped.variables}

    def _check_device(self, device_id: str) -> None:
        status = self._before.get(device_id)
        if status is None or status == "decommissioned":
            self.refused.add(device_id)
        if status is None:
            raise BadMessageError("unknown_device", f"{device_id} is not registered; register it, then replay")
        if status == "decommissioned":
            raise BadMessageError("decommissioned", f"{device_id} is decommissioned")

    def _sort(self, parsed: Parsed, route: Route) -> None:
        message = parsed.message
        if message is None:
            content_type = parsed.incoming.content_type or "application/octet-stream"
            frame = Frame(_received_at(parsed), content_type, parsed.incoming.payload)
            self.frames[route.device_id, route.name] = (frame, parsed.incoming.qos)
            return
        row: Sample | NewLog | NewAlert
        match route.kind:
            case Kind.SAMPLE:
                self.samples.append(row := _make_sample(parsed, route, message))
            case Kind.LOG:
                self.logs.append(row := _make_log(parsed, route, message))
            case Kind.ALERT:
                self.alerts.append(row := _make_alert(parsed, route, message))
            case Kind.STATUS:
                decode_payload(message.payload, StatusPayload)
                return
            case _:
                self.ordered.append((parsed, route, message))
                return
        self.sources[id(row)] = parsed

    def _note_presence(self, parsed: Parsed, route: Route) -> None:
        device_id = route.device_id
        current = self._now[device_id]
        after: presence.Presence | None = None
        if route.kind is Kind.STATUS and parsed.message is not None:
            report = decode_payload(parsed.message.payload, StatusPayload)
            after = presence.after_report(current, report.status, report.reason)
            alive = report.status != "offline"
        else:
            # A retained sample was said some time or other.
            after = None if parsed.incoming.retain else presence.after_heartbeat(current)
            alive = True
        if alive and not parsed.incoming.retain:
            self.heard[device_id] = parsed.incoming.received_at or now()
        if after is not None:
            self._now[device_id] = after.status
            self._reasons[device_id] = after.reason

    def reject(self, parsed: Parsed, bad: BadMessageError) -> None:
        incoming = parsed.incoming
        self.rejected.append(parsed)
        self.dead_letters.append(
            NewDeadLetter(
                incoming.received_at or now(),
                _storable(incoming.topic),
                parsed.route.device_id if parsed.route else None,
                bad.reason,
                _storable(bad.detail[:1000]),
                incoming.qos,
                None if incoming.content_type is None else _storable(incoming.content_type[:200]),
                incoming.payload,
            )
        )

    def is_in_maintenance(self, device_id: str) -> bool:
        """What such a device raises is kept, and alarms nobody."""
        return self._now[device_id] == "maintenance"

    def status_changes(self) -> list[Change]:
        """(device_id, previous, status, reason), in the order of ids so that writers lock alike."""
        return [
            (device_id, self._before[device_id], status, self._reasons.get(device_id))
            for device_id, status in sorted(self._now.items())
            if status != self._before[device_id]
        ]


def _storable(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _received_at(parsed: Parsed) -> datetime:
    return parsed.incoming.received_at or now()


def _identity(parsed: Parsed, message: Message) -> tuple[datetime, str]:
    """The time and id under which a message is stored once.

    Without an id the payload stands for it, if the device gave a time; without either it is always a new one.
    """
    time = message.sampled_at or _received_at(parsed)
    if message.message_id is not None:
        return time, message.message_id
    if parsed.made_up_id is None:
        anonymous = message.sampled_at is None
        parsed.made_up_id = MADE_UP + (f"{_run}{next(_numbers):x}" if anonymous else payload_digest(message.payload))
    return time, parsed.made_up_id


def _make_sample(parsed: Parsed, route: Route, message: Message) -> Sample:
    time, message_id = _identity(parsed, message)
    payload = msgspec.Raw(message.payload)
    return Sample(route.device_id, route.name, time, message_id, message.seq, _received_at(parsed), payload)


def _make_log(parsed: Parsed, route: Route, message: Message) -> NewLog:
    line = decode_payload(message.payload, LogPayload)
    time, message_id = _identity(parsed, message)
    fields = msgspec.Raw(msgspec.json.encode(line.fields))
    level, text, logger = (_storable(part) for part in (line.level.lower()[:20], line.message, line.logger[:200]))
    return NewLog(route.device_id, time, message_id, level, text, logger, fields, _received_at(parsed))


def _make_alert(parsed: Parsed, route: Route, message: Message) -> NewAlert:
    alert = decode_payload(message.payload, AlertPayload)
    time, message_id = _identity(parsed, message)
    severity, text = _storable(alert.severity[:20]), _storable(alert.message)
    payload = msgspec.Raw(message.payload)
    return NewAlert(route.device_id, time, message_id, route.name, severity, text, payload, _received_at(parsed))
