"""What the agent must know after the power went: one JSON file, replaced in one step, on disk before it counts."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

MOST_OUTCOMES = 50
MOST_WAITING = 8


@dataclass
class Update:
    """The one that is under way. `previous` is what ran before; `failure` is why it is being taken back."""

    trigger: dict[str, Any]
    step: str
    interruptions: int = 0
    boot_id: str = ""
    etag: str | None = None
    fresh_start: bool = False
    previous: dict[str, Any] | None = None
    failure: dict[str, str] | None = None


@dataclass
class State:
    """`installed` and `kept` describe versions: artifact_id, name, version, sha256, and `file` where one is kept."""

    update: Update | None = None
    waiting: list[dict[str, Any]] = field(default_factory=list)
    installed: dict[str, Any] | None = None
    kept: list[dict[str, Any]] = field(default_factory=list)
    outcomes: list[dict[str, Any]] = field(default_factory=list)

    def outcome_of(self, deployment_id: str) -> dict[str, Any] | None:
        return next((one for one in self.outcomes if one["deployment_id"] == deployment_id), None)


class Journal:
    """Any thread may call. `state` is only changed inside `change`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lock = threading.RLock()
        self.state = self._read()

    @contextlib.contextmanager
    def change(self) -> Iterator[State]:
        """What is changed inside is on disk afterwards. Raises OSError when it cannot be, and nothing has changed."""
        with self.lock:
            before = copy.deepcopy(self.state)
            try:
                yield self.state
                del self.state.outcomes[:-MOST_OUTCOMES]
                write_durably(self._path, json.dumps(asdict(self.state)).encode())
            except BaseException:
                self.state = before
                raise

    def _read(self) -> State:
        try:
            data = json.loads(self._path.read_bytes())
            update = data.pop("update")
            return State(update=Update(**update) if update else None, **data)
        except FileNotFoundError:
            return State()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            aside = self._path.with_name(f"{self._path.name}.damaged-{int(time.time())}")
            self._path.replace(aside)
            log.error("the update journal was damaged (%s) and is now %s; a new one is begun", error, aside)
            return State()


def write_durably(path: Path, data: bytes) -> None:
    """Either the old content or the new one, also when the power goes."""
    partial = path.with_name(f".{path.name}.new")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
