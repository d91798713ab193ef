"""How long jobs run: what their owner promises (`max_duration`), what earlier runs of their kind took, else a guess.

Learned are quantiles over the last runs of an organization's jobs of one name or command, in which numbers count as
equal: `train-7` and `train-8` are the same kind. All is bounded, and follows from the runs and their order alone.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from headframe.base.quantities import HOUR_US, MINUTE_US
from headframe.jobs.records import Attempt, Job

RUNS = 32  # remembered of each kind
KINDS = 20_000  # remembered at all; the one that has not run for longest is forgotten first
ENOUGH = 3  # runs, below which nothing is said
LONGEST_SHAPE = 80
GUESS_US = HOUR_US  # what nobody knows anything of runs on for so long at least
OVER_US = MINUTE_US  # and what has passed its estimate, for so long
_NUMBERS = re.compile(r"[0-9]+")

Kind = tuple[str, str]  # (organization, shape of the name or of the command)


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long one attempt runs, in microseconds: `typical_us` is the median, `long_us` what nine of ten stay within.

    `source` is "learned", "max_duration" or "unknown" (then both are None). `hard_us` is what it cannot run beyond.
    """

    typical_us: int | None = None
    long_us: int | None = None
    source: str = "unknown"
    hard_us: int | None = None

    def left_us(self, ran_us: int) -> tuple[int, str]:
        """(how long it still runs after `ran_us`, the source of that).

        What runs beyond its estimate is taken to run on for as long as it is over it; what nobody knows anything of,
        for as long as it has run.
        """
        if self.long_us is None:
            return max(ran_us, GUESS_US), "guess"
        if self.long_us > ran_us:
            return self.long_us - ran_us, self.source
        over_us = max(ran_us - self.long_us, OVER_US)
        return over_us if self.hard_us is None else min(over_us, max(self.hard_us - ran_us, 0)), self.source


UNKNOWN = Estimate()


@dataclass(slots=True)
class _Runs:
    """The last runs of one kind, in order of time and in order of length."""

    recent: deque[int] = field(default_factory=deque)
    sorted: list[int] = field(default_factory=list)

    def add(self, ran_us: int) -> None:
        if len(self.recent) == RUNS:
            del self.sorted[bisect_left(self.sorted, self.recent.popleft())]
        self.recent.append(ran_us)
        insort(self.sorted, ran_us)

    def quantile(self, tenths: int) -> int:
        """The least length that at least so many tenths of the runs stay within."""
        return self.sorted[-(-len(self.sorted) * tenths // 10) - 1]


class Durations:
    """What earlier runs teach. Changed by `learn` only."""

    def __init__(self) -> None:
        self._kinds: dict[Kind, _Runs] = {}

    def learn(self, job: Job, attempt: Attempt) -> None:
        """Take in an attempt that has ended by itself; one that was cut short or resumed says nothing."""
        if attempt.outcome not in ("succeeded", "error") or attempt.running_us is None or attempt.ended_us is None:
            return
        if attempt.resumed_from or job.stop_reason:
            return
        kind = kind_of(job)
        runs = self._kinds.pop(kind, None) or _Runs()
        runs.add(max(attempt.ended_us - attempt.running_us, 0))
        self._kinds[kind] = runs  # the last to be forgotten
        if len(self._kinds) > KINDS:
            del self._kinds[next(iter(self._kinds))]

    def recall(self, runs: Iterable[tuple[Job, Attempt]]) -> None:
        """Take in runs on record, from the oldest to the newest."""
        for job, attempt in runs:
            self.learn(job, attempt)

    def expect(self, job: Job) -> Estimate:
        """How long an attempt of this job will run, by the best that is known; never beyond its max_duration."""
        bound_us = job.spec.max_duration_us
        runs = self._kinds.get(kind_of(job))
        if runs is None or len(runs.recent) < ENOUGH:
            return Estimate(bound_us, bound_us, "unknown" if bound_us is None else "max_duration", bound_us)
        typical_us, long_us = runs.quantile(5), runs.quantile(9)
        if bound_us is not None:
            typical_us, long_us = min(typical_us, bound_us), min(long_us, bound_us)
        return Estimate(typical_us, long_us, "learned", bound_us)


def kind_of(job: Job) -> Kind:
    """What is taken for the same: the organization's jobs of one name, or of one command where no name was given."""
    generated = job.name.endswith(job.id[-6:])
    text = f"$ {job.spec.run.strip().partition(chr(10))[0]}" if generated else job.name
    return job.organization_id, _NUMBERS.sub("#", text[:LONGEST_SHAPE])
