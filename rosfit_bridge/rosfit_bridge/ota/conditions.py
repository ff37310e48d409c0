"""What has to be so before an update, and after it. A condition says what is missing, or None."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Protocol

LOOK_EVERY_S = 0.5
COMMAND_TIMEOUT_S = 30.0
LAST_WORDS = 300


class Condition(Protocol):
    def unmet(self) -> str | None:
        """Why it does not hold, in words for a person."""
        ...


class CommandSaysYes:
    """Exit code 0."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)

    def unmet(self) -> str | None:
        try:
            done = subprocess.run(  # noqa: S603
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{self._words[0]}: {error}"
        said = done.stdout[-LAST_WORDS:].decode(errors="replace").strip()
        return None if done.returncode == 0 else f"{self._words[0]} says no ({done.returncode}): {said}"


class ProcessRuns:
    def __init__(self, name: str) -> None:
        self._name = name

    def unmet(self) -> str | None:
        import psutil

        names = (process.info["name"] for process in psutil.process_iter(["name"]))
        return None if self._name in names else f"no process {self._name} runs"


def unmet(conditions: Sequence[Condition]) -> list[str]:
    return [why for condition in conditions if (why := condition.unmet()) is not None]


def stay_well(
    conditions: Sequence[Condition],
    within_s: float,
    for_s: float,
    wait: Callable[[float], None],
    now: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Empty when all were met within `within_s` and then for `for_s` without a break; else what was wrong last."""
    begun, since = now(), None
    while True:
        wrong, at = unmet(conditions), now()
        if not wrong:
            since = at if since is None else since
            if at - since >= for_s:
                return []
        else:
            since = None
            if at - begun >= within_s:
                return wrong
        wait(LOOK_EVERY_S)
