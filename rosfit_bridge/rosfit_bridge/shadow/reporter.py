"""What the server holds as reported, made to follow what the robot really has: one report at a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rosfit_bridge.shadow.document import MISSING, Path, difference, find, leaves, merge, put

RESEND_AFTER_S = 10.0
DAY_MS = 86_400_000
# Reported beside the values: what was desired and is not so, and why.
REFUSED = "_refused"


@dataclass
class Report:
    """Repeated word for word until it is answered: the server takes the same `client_token` once."""

    client_token: str
    seq: int
    state: dict[str, Any]
    sent_at: float

    @property
    def payload(self) -> dict[str, Any]:
        return {"state": self.state, "client_token": self.client_token, "seq": self.seq}


class Reporter:
    """For one shadow. `paths` are the keys that are this bridge's business; others may be reported by others.

    `seq` follows the clock, so that it goes on over restarts without being written down. A robot that starts without a
    clock is told `STALE_REPORT`, and jumps until it is ahead again.
    """

    def __init__(self, paths: list[Path], now_ms: Callable[[], int]) -> None:
        self._paths, self._now_ms = [*paths, (REFUSED,)], now_ms
        self._held: dict[str, Any] | None = None
        self._outstanding: Report | None = None
        self._seq, self._jump = 0, DAY_MS

    def forget(self) -> None:
        """With a new connection the server is asked what it holds."""
        self._held = self._outstanding = None

    @property
    def knows(self) -> bool:
        return self._held is not None

    @property
    def waits(self) -> bool:
        """A report is on its way and not answered."""
        return self._outstanding is not None

    def learn(self, reported: dict[str, Any]) -> None:
        self._held = {}
        for path in self._paths:
            value = find(reported, path)
            if isinstance(value, (dict, list, str, int, float)):
                put(self._held, path, value)

    def held(self, path: Path) -> Any:
        """What the server holds at `path`, or MISSING."""
        return MISSING if self._held is None else find(self._held, path)

    def due(self, actual: dict[str, Any], at: float) -> dict[str, Any] | None:
        """What to send now; None when nothing is due. `at` in seconds, monotonic."""
        if self._held is None:
            return None
        report = self._outstanding
        if report is None:
            patch = difference(self._held, actual)
            if not patch:
                return None
            self._seq = max(self._seq + 1, self._now_ms())
            report = self._outstanding = Report(uuid.uuid4().hex, self._seq, patch, at)
        elif at - report.sent_at < RESEND_AFTER_S:
            return None
        report.sent_at = at
        return report.payload

    def accepted(self, client_token: Any) -> None:
        report = self._outstanding
        if report is not None and report.client_token == client_token:
            self._held = merge(self._held, report.state)
            self._outstanding, self._jump = None, DAY_MS

    def rejected(self, client_token: Any, code: Any) -> bool:
        """False when this report will never be taken: it counts as said, or it would be said for ever."""
        report = self._outstanding
        if report is None or report.client_token != client_token:
            return True
        self._outstanding = None
        if code == "STALE_REPORT":
            self._seq, self._jump = max(self._seq, self._now_ms()) + self._jump, self._jump * 2
            return True
        self._held = merge(self._held, report.state)
        return False


class Refusals:
    """What the robot would not take, by path, until it is desired no longer."""

    def __init__(self) -> None:
        self._refused: dict[str, dict[str, Any]] = {}

    def refuse(self, path: Path, value: Any, reason: str) -> None:
        self._refused[".".join(path)] = {"value": value, "reason": reason[:500]}

    def clear(self, path: Path) -> None:
        self._refused.pop(".".join(path), None)

    def prune(self, desired: dict[str, Any]) -> None:
        """Keep only what is still desired, with the same value."""
        wanted = {".".join(path): value for path, value in leaves(desired)}
        kept = {path: one for path, one in self._refused.items() if wanted.get(path) == one["value"]}
        self._refused = kept

    @property
    def document(self) -> dict[str, Any]:
        return {REFUSED: dict(self._refused)} if self._refused else {}
