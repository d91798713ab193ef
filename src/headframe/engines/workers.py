"""A few threads that do what would hold up an engine's own thread."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

LOG = logging.getLogger("headframe.engines")


class Workers:
    """At most `count` threads, begun when there is work; they end with the program."""

    def __init__(self, name: str, count: int) -> None:
        self._name, self._count, self._begun = name, count, 0
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    def do(self, call: Callable[[], None]) -> None:
        """Have it called soon; what it raises is logged."""
        with self._lock:
            self._queue.put(call)
            if self._queue.qsize() > self._idle and self._begun < self._count:
                self._begun += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._begun}", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            call = self._queue.get()
            with self._lock:
                self._idle -= 1
            try:
                call()
            except Exception:
                LOG.exception("%s: a piece of work failed", self._name)
