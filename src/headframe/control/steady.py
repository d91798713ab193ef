"""A clock that never goes back, made of one that may."""

from __future__ import annotations

from collections.abc import Callable

from headframe.control.ports import Store

RECENT = 100  # events


class Steady:
    """Keeps the promise of the `Clock` port: holds still while the machine's clock lies behind what was told before.

    `read` tells the machine's time in microseconds since 1970. `floor_us` is the least moment ever told: a program
    that starts again hands in the latest moment on record, because the clock may have been set back in between.
    """

    def __init__(self, read: Callable[[], int], floor_us: int = 0) -> None:
        self._read = read
        self._last_us = floor_us

    def now_us(self) -> int:
        self._last_us = max(self._last_us, self._read())
        return self._last_us


def on_record_us(store: Store) -> int:
    """The latest moment of the newest events (0 when there is none): the `floor_us` for a program that starts."""
    recent = store.events(after=max(store.last_event_seq() - RECENT, 0), limit=RECENT)
    return max((event.at_us for event in recent), default=0)
