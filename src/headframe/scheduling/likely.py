"""How long a job of which nobody knows it is likely to need: learned from those before it, ended or still there.

A job that has run for t belongs with those that ran for at least t. Of these, some end soon and others go on; what
counts for the order is the best bargain: the least time to be given, for each job that will have ended by then (the
Gittins index, turned upside down). Jobs that have not ended are counted for what is known of them, that they run longer
(as in the estimate of Kaplan and Meier); else the short ones, which end first, would make everything look short.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from headframe.base.quantities import SECOND_US

REMEMBERED = 2000  # lengths of ended jobs, of each size
ENOUGH = 20  # of them, below which all sizes count together, and then nothing is said
LEAST_US, LONGEST_US, STEPS = 60 * SECOND_US, 10**8 * SECOND_US, 80
AGES_US: tuple[int, ...] = (0, *(int(age) for age in np.geomspace(LEAST_US, LONGEST_US, STEPS)))
ANY = 0  # all sizes together


class Likely:
    """What ended jobs teach. `size` tells apart jobs that are not alike, such as by their GPUs; it is above 0."""

    def __init__(self) -> None:
        self._recent: dict[int, deque[int]] = {}
        self._sorted: dict[int, list[int]] = {}
        self._tables: dict[int, list[int]] = {}

    def learn(self, size: int, ran_us: int) -> None:
        """Take in the length of a job that has ended by itself."""
        for key in (size, ANY):
            recent, ordered = self._recent.setdefault(key, deque()), self._sorted.setdefault(key, [])
            if len(recent) == REMEMBERED:
                del ordered[bisect_right(ordered, recent.popleft()) - 1]
            recent.append(ran_us)
            insort(ordered, ran_us)

    def renew(self, there: Sequence[tuple[int, int]]) -> None:
        """Make the tables anew; `there` is (size, how long it has run) of jobs that have not ended."""
        for key, ended in sorted(self._sorted.items()):
            if len(ended) >= ENOUGH:
                self._tables[key] = _table(ended, [ran_us for size, ran_us in there if key in (ANY, size)])

    def left_us(self, size: int, ran_us: int) -> int:
        """The least time to be given to a job that has run for `ran_us`, for each that will have ended by then.

        Before enough is known: as long again as it has run, which is what lengths of all orders of magnitude mean.
        """
        table = self._tables.get(size) or self._tables.get(ANY)
        return max(ran_us, LEAST_US) if table is None else table[bisect_right(AGES_US, ran_us) - 1]


def _table(ended_us: Sequence[int], there_us: Iterable[int]) -> list[int]:
    """By age: the least of (expected time given) / (part that has ended), over all amounts that could be given."""
    events = sorted([(length, 0) for length in ended_us] + [(max(age, 1), 1) for age in there_us])
    times, masses, alive = [], [], 1.0
    for place, (length, goes_on) in enumerate(events):
        if not goes_on:
            times.append(float(length))
            masses.append(alive / (len(events) - place))
            alive -= masses[-1]
    if alive > 1e-9:  # who outlives all that is known runs as long again
        times.append(2.0 * events[-1][0])
        masses.append(alive)
    lengths, parts = np.array(times), np.array(masses)
    table = []
    for age in AGES_US:
        beyond = lengths > age
        more, part = lengths[beyond] - age, parts[beyond]
        ends = np.cumsum(part)
        if not len(ends) or ends[-1] <= 1e-9:
            table.append(max(age, LEAST_US))
            continue
        given = np.cumsum(part * more) + more * (ends[-1] - ends)
        table.append(max(round(float((given / ends).min())), 1))
    return table
