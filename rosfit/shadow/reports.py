"""What devices report: many reports of many devices in one transaction, with the same few statements for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from rosfit.kernel.errors import RosfitError
from rosfit.kernel.work import Work
from rosfit.protocol.envelope import payload_digest
from rosfit.protocol.errors import BadMessageError
from rosfit.shadow import repository
from rosfit.shadow.models import Report, Stored, Written
from rosfit.shadow.repository import Answer, Key, Token
from rosfit.shadow.revisions import reported_changed
from rosfit.shadow.service import announce


class Incoming(NamedTuple):
    device_id: str
    name: str
    payload: bytes

    @property
    def key(self) -> Key:
        return self.device_id, self.name


class Outcome(NamedTuple):
    """What the device is answered. `synced_s`: how long the change took that has arrived with this report."""

    accepted: bool
    answer: dict[str, Any]
    synced_s: float | None = None


async def take(work: Work, incoming: Sequence[Incoming]) -> list[Outcome | BadMessageError]:
    """In their order. The same client_token with the same payload again: the same answer, and no new version."""
    parsed = [_report(one.payload) for one in incoming]
    good = [(one, report) for one, report in zip(incoming, parsed, strict=True) if isinstance(report, Report)]
    shadows = await repository.hold_shadows(work.connection, [one.key for one, _ in good])
    answers = await repository.known_answers(work.connection, filter(None, (_token(*pair) for pair in good)))
    taking = _Taking(shadows, answers)
    outcomes = [
        taking.take(one, report) if isinstance(report, Report) else report
        for one, report in zip(incoming, parsed, strict=True)
    ]
    await repository.write_shadows(work.connection, taking.written)
    await repository.keep_answers(work.connection, taking.new_answers)
    for written in taking.written:
        announce(work, written.device_id, written.name, written.stored)
    return outcomes


class _Taking:
    """One batch on its way: each report meets what those before it have left."""

    def __init__(self, shadows: dict[Key, Stored], answers: dict[Token, Answer]) -> None:
        self._shadows = shadows
        self._answers = answers
        self.new_answers: dict[Token, Answer] = {}
        self.written: list[Written] = []

    def take(self, one: Incoming, report: Report) -> Outcome:
        token, digest = _token(one, report), payload_digest(one.payload)
        known = self._answers.get(token) if token else None
        if known is not None and known.digest == digest:
            answer = dict(known.answer)
            return Outcome(bool(answer.pop("accepted")), answer)
        outcome = self._change(one, report)
        if token:
            outcome.answer["client_token"] = report.client_token
            kept = Answer(digest, outcome.answer | {"accepted": outcome.accepted})
            self._answers[token] = self.new_answers[token] = kept
        return outcome

    def _change(self, one: Incoming, report: Report) -> Outcome:
        before = self._shadows[one.key]
        try:
            after = reported_changed(before, report)
        except RosfitError as error:
            return Outcome(False, {"code": error.code, "message": error.detail})
        self._shadows[one.key] = after
        self.written.append(Written(one.device_id, one.name, after, "reported", f"device {one.device_id}"))
        answer = {"version": after.version, "timestamp": after.updated_at, "state": {"reported": report.state}}
        arrived = before.pending_since is not None and after.pending_since is None
        return Outcome(True, answer, after.sync_s if arrived else None)


def _token(one: Incoming, report: Report) -> Token | None:
    return None if report.client_token is None else (one.device_id, one.name, report.client_token)


def _report(payload: bytes) -> Report | BadMessageError:
    """An object with the key `state` is the long form, any other object is the state itself."""
    try:
        fields = msgspec.json.decode(payload)
        if isinstance(fields, dict) and "state" not in fields:
            return Report(fields)
        return msgspec.convert(fields, Report)
    except (msgspec.MsgspecError, RecursionError) as error:
        return BadMessageError("wrong_shape", str(error))
