"""A command under way, and how it can end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from rosfit_bridge.down.ledger import Answer
from rosfit_bridge.down.request import Request

FINAL = frozenset({"succeeded", "failed", "rejected", "cancelled"})


class EndError(Exception):
    """Ends a command with anything but success. `code` is stable, the message says what to do."""

    def __init__(self, status: str, code: str, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.status, self.code, self.result = status, code, result


def failed(code: str, message: str, result: Any = None) -> EndError:
    return EndError("failed", code, message, result)


def rejected(code: str, message: str) -> EndError:
    return EndError("rejected", code, message)


@dataclass
class Job:
    """`stop` ends what has begun; while `waiting`, nothing has. `last` is the newest answer."""

    request: Request
    tell: Callable[[Job, Answer], None]
    stop: Callable[[], Awaitable[None]] | None = None
    waiting: bool = True
    last: Answer = field(default_factory=dict)
    abandon: Callable[[], object] = lambda: None

    def acked(self) -> None:
        if not self.last:
            self.tell(self, {"status": "acked"})

    def progressed(self, progress: float | None, feedback: Any) -> None:
        self.acked()  # feedback may be quicker than the answer to the goal
        answer: Answer = {"status": "in_progress", "result": feedback}
        self.tell(self, answer if progress is None else {**answer, "progress": progress})


Run = Callable[[Job], Awaitable[Any]]


@dataclass(frozen=True)
class Command:
    """Something this bridge does. `request` describes `data`; `run` returns the result or raises EndError."""

    name: str
    kind: str
    type: str
    request: dict[str, Any]
    run: Run

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "kind": self.kind, "type": self.type, "request": self.request}
