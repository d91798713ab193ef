"""The agent's one thread: descriptors, timers, and calls handed over from its preparation threads."""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import time
from collections import deque
from collections.abc import Callable

STARTS_EACH_ROUND = 2  # so that a burst of launches does not hold up logs and ends


class AgentLoop:
    """Everything but `post` belongs to the loop's own thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._posted: deque[Callable[[], None]] = deque()
        self._starts: deque[Callable[[], None]] = deque()
        self._last: list[Callable[[], None]] = []
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.leaving = False
        self.watch(self._wake, self._run_posted)

    def watch(self, handle: int, call: Callable[[], None]) -> None:
        """Call when the descriptor is readable or hung up."""
        self._calls[handle] = call
        self._epoll.register(handle, select.EPOLLIN)

    def watch_writing(self, handle: int, wanted: bool) -> None:
        """Call also when the descriptor can be written."""
        self._epoll.modify(handle, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def unwatch(self, handle: int) -> None:
        if self._calls.pop(handle, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(handle)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._number, call))

    def post(self, call: Callable[[], None]) -> None:
        """Have it called on the loop's thread; from any thread."""
        self._posted.append(call)
        os.eventfd_write(self._wake, 1)

    def start_soon(self, call: Callable[[], None]) -> None:
        """Queue a start: a few are done in each round."""
        self._starts.append(call)

    def at_last(self, call: Callable[[], None]) -> None:
        """Have it called at the end of this round: what all of the round brings is done in one step."""
        self._last.append(call)

    def _run_last(self) -> None:
        while self._last:
            self._last.pop()()

    def _run_posted(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._posted:
            self._posted.popleft()()

    def _timeout(self) -> float:
        if self._starts:
            return 0
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def run(self) -> None:
        while not self.leaving:
            for handle, _mask in self._epoll.poll(self._timeout(), 256):
                call = self._calls.get(handle)  # an earlier call of this round may have unwatched it
                if call is not None:
                    call()
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()
            self._run_last()  # what has ended is told before the next starts, which take longer
            for _start in range(min(STARTS_EACH_ROUND, len(self._starts))):
                self._starts.popleft()()
            self._run_last()
