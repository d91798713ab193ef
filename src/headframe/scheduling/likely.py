"""How long a job of which nobody knows it is likely to need: learned from those before it, ended or still there.

Time is cut into stretches, each a fifth longer than the one before it. Of the jobs that came to a stretch, some ended
in it; the others went on, and those that are still there count for the stretches that they have come through. That part
is what a job of that age risks. Before anything is known, lengths of all orders of magnitude are as likely; this is
held as if it had been seen on `IMAGINED` jobs, so that a few early ends say little. What all sizes together have taught
is in turn held for each size as if seen on `BORROWED` of its own.

What counts for the order is the best bargain: the least time to be given, for each job that will have ended by then
(the Gittins index, turned upside down).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from headframe.base.quantities import SECOND_US

REMEMBERED = 2000  # lengths of ended jobs, of each size
IMAGINED, BORROWED = 100, 5
LEAST_US, LONGEST_US, GROWTH = 60 * SECOND_US, 10**8 * SECOND_US, 1.2
STEPS = int(np.log(LONGEST_US / LEAST_US) / np.log(GROWTH)) + 1
BOUNDS_US: tuple[int, ...] = tuple(round(LEAST_US * GROWTH**step) for step in range(STEPS))  # the last is open
ANY = 0  # all sizes together

Floats = NDArray[np.float64]
_SPANS: Floats = np.diff(np.array([0, *BOUNDS_US, BOUNDS_US[-1] * GROWTH], np.float64))
_ENDS_AT_FIRST = 1 - 1 / GROWTH  # of those that come to a stretch, when all orders of magnitude are as likely


class Likely:
    """What ended jobs teach. `size` tells apart jobs that are not alike, such as by their GPUs; it is above 0."""

    def __init__(self) -> None:
        self._ended: dict[int, deque[int]] = {}  # by size: the stretches in which jobs ended
        self._tables: dict[int, list[int]] = {}

    def learn(self, size: int, ran_us: int) -> None:
        """Take in the length of a job that has ended by itself."""
        for key in (size, ANY):
            self._ended.setdefault(key, deque(maxlen=REMEMBERED)).append(_stretch(ran_us))

    def renew(self, there: Sequence[tuple[int, int]]) -> None:
        """Make the tables anew; `there` is (size, how long it has run) of jobs that have not ended."""
        reached = [(size, _stretch(ran_us)) for size, ran_us in there]
        every = np.full(len(_SPANS), _ENDS_AT_FIRST)
        for key in sorted({ANY, *self._ended, *(size for size, _ in reached)}):  # all sizes together come first
            ended = _count(self._ended.get(key, ()))
            passed = _count(stretch for size, stretch in reached if key in (ANY, size))
            came = np.cumsum((ended + passed)[::-1])[::-1] - passed
            held = IMAGINED if key == ANY else BORROWED
            parts = (ended + held * every) / (came + held)
            self._tables[key] = _bargains(parts)
            every = parts if key == ANY else every

    def left_us(self, size: int, ran_us: int) -> int:
        """The least time to be given to a job that has run for `ran_us`, for each that will have ended by then.

        Before anything is known: as long again as it has run, which is what lengths of all orders of magnitude mean.
        """
        table = self._tables.get(size) or self._tables.get(ANY)
        return max(ran_us, LEAST_US) if table is None else table[_stretch(ran_us)]


def _stretch(ran_us: int) -> int:
    """The number of the stretch in which this length lies."""
    return bisect_right(BOUNDS_US, ran_us)


def _count(stretches: Iterable[int]) -> NDArray[np.int64]:
    return np.bincount(np.fromiter(stretches, np.int64), minlength=len(_SPANS))


def _bargains(parts: Floats) -> list[int]:
    """By stretch: the least of (expected time given) / (part that has ended), over all amounts that could be given.

    `parts`: of those that come to a stretch, how many end in it; in the middle of it, on the whole.
    """
    later = np.triu(np.ones((len(parts), len(parts)), bool))  # [from, to]: the stretches that are still to come
    alive = np.cumprod(np.where(later, 1 - parts, 1.0), axis=1)  # at the end of each
    begun = np.hstack([np.ones((len(parts), 1)), alive[:, :-1]])
    given = np.cumsum(np.where(later, begun * _SPANS * (1 - parts / 2), 0.0), axis=1)
    ended = np.where(later, 1 - alive, 1.0)
    best = np.where(later, given / ended, np.inf).min(axis=1)
    return [max(round(each), 1) for each in best.tolist()]
