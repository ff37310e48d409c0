"""Programs of the robot that an update calls: with a time limit, their last words, and never two at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from rosfit_bridge.ota.errors import UpdateError

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.05
LAST_WORDS = 1000


class Hooks:
    """A program outlives a bridge that is killed: it holds the lock, and the next start waits until it has ended."""

    def __init__(self, folder: Path, timeout_s: float, wait: Callable[[float], None]) -> None:
        self._lock_path = folder / "hook.lock"
        self._timeout_s, self._wait = timeout_s, wait

    def settle(self) -> None:
        """Return when no program of an earlier run is left, or their time limit is over."""
        until = time.monotonic() + self._timeout_s
        with self._lock_path.open("a") as lock:
            while not _locked(lock):
                if time.monotonic() > until:
                    log.warning("a program of the last update still runs; going on without it")
                    return
                self._wait(LOOK_EVERY_S)

    def run(self, words: Sequence[str], environment: Mapping[str, str], *, cwd: Path | None = None) -> str:
        """Its output. Raises UpdateError."""
        with self._lock_path.open("a") as lock, tempfile.TemporaryFile() as output:
            _locked(lock)
            try:
                process = subprocess.Popen(  # noqa: S603
                    list(words),
                    cwd=cwd,
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock.fileno(),),
                )
            except OSError as error:
                raise UpdateError("HOOK", f"{words[0]} cannot be run: {error}") from error
            return self._outcome(process, words, output)

    def _outcome(self, process: subprocess.Popen[bytes], words: Sequence[str], output: IO[bytes]) -> str:
        until = time.monotonic() + self._timeout_s
        while (code := process.poll()) is None:
            if time.monotonic() > until:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise UpdateError("HOOK_TIMEOUT", f"{words[0]} did not end within {self._timeout_s:g} s")
            self._wait(LOOK_EVERY_S)
        output.seek(max(0, output.seek(0, os.SEEK_END) - LAST_WORDS))
        said = output.read().decode(errors="replace").strip()
        if code != 0:
            raise UpdateError("HOOK", f"{words[0]} ended with {code}: {said or 'it said nothing'}")
        return said


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
