"""A trace replayed on a virtual clock: jobs arrive, a policy decides by the scheduler's own pieces, work gets done.

Nothing here decides who gets what: that is `trace_policies`, which only puts together what is in `scheduling`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headframe.base.quantities import format_span
from headframe.fleet.records import Slice
from headframe.scheduling.capacity import Capacity
from headframe.sim.trace_jobs import MILLION, Fleet, TraceJob

Slices = tuple[Slice, ...]
TELL_EVERY = 2_000  # decisions between two lines of progress


@dataclass(slots=True)
class Active:
    """A job that has arrived and not ended. `left_us` and `had_us` are work at speed 1, as of `since_us`.

    `slices` is what it holds (empty: it waits), `speed` the millionths at which it runs there, `begins_us` when a
    restart is over and it gets on. `finish_us` is when it ends if nothing changes (None while it waits).
    """

    job: TraceJob
    left_us: int
    had_us: int = 0
    slices: Slices = ()
    speed: int = 0
    since_us: int = 0
    begins_us: int = 0
    finish_us: int | None = None
    first_us: int | None = None
    waited_us: int = 0
    starts: int = 0
    contention: int = 0  # the sum of contention over time when it arrived


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a job. Times in microseconds; `waited_us` is all the time in which it held nothing.

    `fairness` is its time from submission to end, divided by what that would have been with an equal share: the time
    that it runs alone, times how many times over the fleet was asked for meanwhile (at least once).
    """

    id: str
    submitted_us: int
    ended_us: int
    waited_us: int
    first_us: int
    starts: int
    fairness: float
    gpus: int

    @property
    def took_us(self) -> int:
        return self.ended_us - self.submitted_us


@dataclass(frozen=True, slots=True)
class Costs:
    """What a start costs: `restart_us` where the trace does not say. `at_decisions`: it is taken off the progress of
    every running job at each decision instead, whether it moves or not, as some published simulators do."""

    restart_us: int = 0
    at_decisions: bool = False


@dataclass(slots=True)
class Floor:
    """What a policy looks at: `capacity` is what is free now, `active` all that have arrived and not ended, by id;
    `running` those of them that hold something."""

    fleet: Fleet
    capacity: Capacity
    active: dict[str, Active] = field(default_factory=dict)
    running: dict[str, Active] = field(default_factory=dict)

    @property
    def held(self) -> dict[str, Slices]:
        return {name: one.slices for name, one in self.running.items()}

    @property
    def waiting(self) -> int:
        return len(self.active) - len(self.running)


class Policy(Protocol):
    """Who holds what. `every_us`: it decides at multiples of this only; `quantum_us`: it decides again after so long
    when nothing happens but somebody waits; `moves`: running jobs may be stopped, so it is told how far they are.
    """

    every_us: int | None
    quantum_us: int | None
    moves: bool

    def arrive(self, floor: Floor, one: Active) -> bool:
        """Take in a job; False when it could never run here."""
        ...

    def end(self, floor: Floor, one: Active) -> None:
        """A job has ended; what it held is free."""
        ...

    def decide(self, floor: Floor, now_us: int) -> Mapping[str, Slices] | None:
        """What jobs hold from now on, those that hold what they held included. None: nothing changes.

        A policy that `moves` nothing names only the new starts.
        """
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trace replayed. `curve` has (moment, GPUs held, jobs waiting) after each decision that changed them."""

    ended: tuple[Ended, ...]
    impossible: tuple[str, ...]
    unfinished: int
    first_us: int
    last_us: int
    gpus: int
    held_us: int  # GPU time held, in microseconds
    decisions: int
    curve: tuple[tuple[int, int, int], ...]


class Replay:
    """One replay. `until` names jobs after whose end it stops (empty: all)."""

    def __init__(
        self, jobs: Sequence[TraceJob], fleet: Fleet, policy: Policy, capacity: Capacity, *,
        costs: Costs = Costs(), until: Sequence[str] = (), tell: Callable[[str], None] = lambda _line: None,
    ) -> None:  # fmt: skip
        self._jobs = jobs
        self._floor = Floor(fleet, capacity)
        self._policy, self._costs, self._tell = policy, costs, tell
        self._until = set(until)  # only asked, never iterated
        self._gpus = fleet.gpus
        self._next = 0
        self._finishes: list[tuple[int, str]] = []
        self._decided_us = self._now_us = jobs[0].submitted_us if jobs else 0
        self._ended: list[Ended] = []
        self._impossible: list[str] = []
        self._decisions = self._held_us = self._held = 0
        self._asked = self._contention = 0
        self._curve: list[tuple[int, int, int]] = []

    def run(self) -> Outcome:
        """Let it happen until all has ended that can."""
        first_us = self._now_us
        wanted = len(self._until)
        while (now_us := self._next_moment()) is not None:
            self._pass_time(now_us)
            wanted -= self._end_finished(now_us)
            self._arrivals(now_us)
            if self._until and wanted <= 0:
                break
            if self._due(now_us):
                self._decide(now_us)
        self._tell("")
        return Outcome(
            tuple(self._ended), tuple(self._impossible), len(self._floor.active), first_us, self._now_us, self._gpus,
            self._held_us, self._decisions, tuple(self._curve),
        )  # fmt: skip

    # Time.

    def _next_moment(self) -> int | None:
        """When something happens next: an arrival, an end, or a decision that is due by the clock."""
        moments = []
        if self._next < len(self._jobs):
            moments.append(self._jobs[self._next].submitted_us)
        while self._finishes and not self._is_finish(*self._finishes[0]):
            heapq.heappop(self._finishes)
        if self._finishes:
            moments.append(self._finishes[0][0])
        every_us, quantum_us = self._policy.every_us, self._policy.quantum_us
        if self._floor.active and every_us:
            moments.append((self._now_us // every_us + 1) * every_us)
        elif quantum_us and self._held and self._floor.waiting:
            moments.append(self._decided_us + quantum_us)
        return min(moments) if moments else None

    def _is_finish(self, finish_us: int, name: str) -> bool:
        one = self._floor.active.get(name)
        return one is not None and one.finish_us == finish_us

    def _due(self, now_us: int) -> bool:
        return not self._policy.every_us or now_us % self._policy.every_us == 0

    def _pass_time(self, now_us: int) -> None:
        passed_us = now_us - self._now_us
        self._held_us += passed_us * self._held
        self._contention += passed_us * max(self._asked, self._gpus)
        self._now_us = now_us

    # What happens.

    def _arrivals(self, now_us: int) -> None:
        while self._next < len(self._jobs) and self._jobs[self._next].submitted_us <= now_us:
            job = self._jobs[self._next]
            self._next += 1
            one = Active(job, max(job.work_us, 1), since_us=now_us, contention=self._contention)
            if not self._policy.arrive(self._floor, one):
                self._impossible.append(job.id)
                continue
            self._floor.active[job.id] = one
            self._asked += job.gpus

    def _end_finished(self, now_us: int) -> int:
        """End what has done its work; how many of those that are waited for."""
        awaited = 0
        while self._finishes and self._finishes[0][0] <= now_us:
            finish_us, name = heapq.heappop(self._finishes)
            if not self._is_finish(finish_us, name):
                continue
            one = self._floor.active.pop(name)
            del self._floor.running[name]
            self._floor.capacity.release(one.slices)
            self._held -= one.job.gpus
            self._asked -= one.job.gpus
            self._policy.end(self._floor, one)
            self._ended.append(self._story(one, now_us))
            awaited += name in self._until
        return awaited

    def _story(self, one: Active, now_us: int) -> Ended:
        job, took_us = one.job, now_us - one.job.submitted_us
        shared = (self._contention - one.contention) / max(took_us * self._gpus, 1)
        return Ended(
            job.id, job.submitted_us, now_us, one.waited_us, one.first_us or job.submitted_us, one.starts,
            took_us / (max(job.work_us, 1) * max(shared, 1.0)), job.gpus,
        )  # fmt: skip

    def _decide(self, now_us: int) -> None:
        self._decisions += 1
        self._decided_us = now_us
        moves = self._policy.moves
        if moves:
            for one in self._floor.running.values():
                self._progress(one, now_us)
        holds = self._policy.decide(self._floor, now_us)
        if holds is not None:
            if moves:
                self._stop_others(holds, now_us)
            for name, slices in holds.items():
                self._start(self._floor.active[name], slices, now_us)
        if self._costs.at_decisions:
            for one in self._floor.running.values():
                self._expect(one, now_us)
        seen = (self._held, self._floor.waiting)
        if not self._curve or self._curve[-1][1:] != seen:
            self._curve.append((now_us, *seen))
        if self._decisions % TELL_EVERY == 0:
            self._tell(f"{format_span(now_us)} of virtual time: {len(self._ended):,} of {len(self._jobs):,} jobs ended")

    def _progress(self, one: Active, now_us: int) -> None:
        """Take off what has been done since the last look."""
        if one.slices:
            ran_us = now_us - max(one.since_us, one.begins_us)
            if self._costs.at_decisions:
                ran_us = now_us - one.since_us - self._cost(one)
            done_us = max(ran_us, 0) * one.speed // MILLION
            one.left_us = max(one.left_us - done_us, 1)
            one.had_us += done_us
        else:
            one.waited_us += now_us - one.since_us
        one.since_us = now_us

    def _cost(self, one: Active) -> int:
        return self._costs.restart_us if one.job.restart_us is None else one.job.restart_us

    def _stop_others(self, holds: Mapping[str, Slices], now_us: int) -> None:
        """Take back what is held by those who no longer hold it, before anything is given."""
        for name, one in list(self._floor.running.items()):
            if holds.get(name) != one.slices:
                self._floor.capacity.release(one.slices)
                self._held -= one.job.gpus
                one.slices, one.finish_us = (), None
                del self._floor.running[name]

    def _start(self, one: Active, slices: Slices, now_us: int) -> None:
        if one.slices == slices:
            return
        self._progress(one, now_us)  # so far it has waited
        self._floor.running[one.job.id] = one
        self._floor.capacity.hold(slices)
        self._held += one.job.gpus
        one.slices = slices
        one.speed = min(one.job.speed(share.kind) for part in slices for share in part.shares)
        assert one.speed > 0, "a policy places no job where it cannot run"
        one.starts += 1
        one.first_us = now_us if one.first_us is None else one.first_us
        one.begins_us = now_us + (0 if self._costs.at_decisions else self._cost(one))
        self._expect(one, now_us)

    def _expect(self, one: Active, now_us: int) -> None:
        """When it ends, if nothing changes."""
        one.finish_us = max(now_us, one.begins_us) + -(-one.left_us * MILLION // one.speed)
        heapq.heappush(self._finishes, (one.finish_us, one.job.id))
