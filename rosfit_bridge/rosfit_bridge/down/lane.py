"""A thread with an asyncio loop: commands wait in it for robots without holding anything up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any


class Lane:
    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def post(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Runs in the lane's thread, in the order of posting. After `close` it is dropped."""
        try:
            self.loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            return  # closed: the ledger tells of the command at the next start

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """From the lane's own thread only. It runs to its first wait after those spawned before it."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def run(self, work: Coroutine[Any, Any, Any], within_s: float) -> Any:
        """Waits for it, from another thread. TimeoutError."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(within_s)

    def close(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._end)
            self._thread.join(2.0)
        if not self._thread.is_alive():
            self.loop.close()

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.loop.call_soon(self.loop.stop)
