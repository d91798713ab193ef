"""Who makes way for whom: only where the rules allow it, only as many as needed, the cheapest lost work first.

A job may take the place of a lower class that can be stopped (spot, filler); of a borrower when its owner takes back
what is guaranteed to it; of a lower priority in its own class, where the cloud says so; and of one whose turn is over,
under an order that takes turns. Never that of a higher class, nor of a job inside a reservation. Nobody is stopped
before it is certain that the job then fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from headframe.fleet.records import Allocation, HoldState, Slice
from headframe.jobs.records import Attempt, Job, JobState
from headframe.scheduling.queue import CLASS_RANK

STOPPABLE_RANK = CLASS_RANK["spot"]  # from this class on, higher classes may take the place
TRIES = 32  # of making room in one pass: each costs a search
WORK = 20_000  # running jobs that the searches of one pass look at
MOST = 4096  # jobs that one search may stop
FEW = 8  # so many are looked at one by one, then twice as many each time
PRUNE = 64  # of those chosen, so many are tried to be spared


@dataclass(frozen=True, slots=True)
class Victim:
    """A running job that may be stopped, and why. `lost` is the work since its newest checkpoint (GPU-milli x us)."""

    job: Job
    allocation: Allocation
    cause: str
    lost: int

    @property
    def order(self) -> tuple[int, int, int, str]:
        """The lowest class first, then the cheapest, then the youngest."""
        rank = CLASS_RANK[self.allocation.purchase]
        return -rank, self.lost, -self.allocation.held_us, self.allocation.id


class Holders:
    """Who holds something, by class and by project. Kept up to date row by row."""

    def __init__(self) -> None:
        self.by_class: dict[str, dict[str, Allocation]] = {}
        self.by_project: dict[str, dict[str, Allocation]] = {}
        self.epoch = 0  # grows whenever room may have been made
        self.hopeless: dict[object, int] = {}  # what cannot be had by stopping anybody, and as of which epoch

    def change(self, allocation: Allocation, *, holds: bool) -> None:
        for table, name in ((self.by_class, allocation.purchase), (self.by_project, allocation.project_id)):
            row = table.setdefault(name, {})
            if holds:
                row[allocation.id] = allocation
            else:
                row.pop(allocation.id, None)
                if not row:
                    del table[name]
        self.epoch += not holds


def lost_work(allocation: Allocation, attempt: Attempt | None, now_us: int) -> int:
    """What stopping it now throws away: its size times the time since its newest checkpoint, or since it runs."""
    if allocation.running_us is None:
        return 0
    saved_us = attempt.checkpoint_us if attempt is not None and attempt.checkpoint_us is not None else 0
    size = sum(share.milli for part in allocation.slices for share in part.shares)
    size = size or sum(part.cpu_milli for part in allocation.slices) // 100
    return max(size, 1) * max(now_us - max(allocation.running_us, saved_us), 0)


class Law(Protocol):
    """Whom a job may stop."""

    def classes(self) -> Iterable[str]:
        """Purchases of which some jobs may be stopped."""
        ...

    def owes(self, sample: Allocation) -> bool:
        """Whether some jobs of this one's project may be stopped because it borrows."""
        ...

    def cause(self, job: Job, allocation: Allocation) -> str:
        """Why this one may be stopped: "class", "reclaim", "priority" or "turn"; "" when it may not."""
        ...


class Trial(Protocol):
    """A world to try things out in: who is let out of it has given back what it holds."""

    def may(self, victim: Victim) -> bool:
        """Whether this one may still be stopped, after those who are out already."""
        ...

    def release(self, victim: Victim) -> None: ...

    def hold(self, victim: Victim) -> None: ...

    def fits(self) -> tuple[Slice, ...] | None: ...


def candidates(
    holders: Holders, law: Law, jobs: Mapping[str, Job], attempts: Mapping[str, Attempt], now_us: int
) -> list[Victim]:
    """All that may be stopped, in the order in which they would be."""
    found: dict[str, Victim] = {}
    for allocation in _possible(holders, law):
        job = jobs.get(allocation.job_id)
        if allocation.id in found or job is None or not _stoppable(job, allocation):
            continue
        cause = law.cause(job, allocation)
        if cause:
            lost = lost_work(allocation, attempts.get(allocation.id), now_us)
            found[allocation.id] = Victim(job, allocation, cause, lost)
    return sorted(found.values(), key=lambda one: one.order)


def _possible(holders: Holders, law: Law) -> Iterator[Allocation]:
    for purchase in law.classes():
        yield from holders.by_class.get(purchase, {}).values()
    for row in holders.by_project.values():
        if law.owes(next(iter(row.values()))):
            yield from row.values()


def _stoppable(job: Job, allocation: Allocation) -> bool:
    """Jobs inside a reservation stay; who is being stopped already cannot be stopped again."""
    going = allocation.state == HoldState.STOPPING or job.state == JobState.STOPPING or bool(job.yields_to)
    return not going and job.spec.reservation is None


def cheapest(victims: list[Victim], trial: Trial) -> tuple[tuple[Slice, ...], list[Victim]] | None:
    """The place that the first of `victims` free, and who of them is really needed for it; None when nothing does."""
    out: list[Victim] = []
    slices: tuple[Slice, ...] | None = None
    for one in victims[:MOST]:
        if not trial.may(one):
            continue
        trial.release(one)
        out.append(one)
        if len(out) <= FEW or not len(out) & (len(out) - 1):
            slices = trial.fits()
            if slices is not None:
                break
    else:
        slices = trial.fits() if out else None
    return None if slices is None else _spare(out, slices, trial)


def _spare(out: list[Victim], slices: tuple[Slice, ...], trial: Trial) -> tuple[tuple[Slice, ...], list[Victim]]:
    """Put back whoever is not needed, the dearest first."""
    nodes = {part.node_id for part in slices}  # only asked
    here = [one for one in out if any(part.node_id in nodes for part in one.allocation.slices)]
    elsewhere = [one for one in out if one not in here]
    for one in elsewhere:
        trial.hold(one)
    needed = list(here)
    if elsewhere and trial.fits() is None:  # a limit, not a place, needs them
        for one in elsewhere:
            trial.release(one)
        needed = list(out)
    for one in needed[::-1][:PRUNE]:
        trial.hold(one)
        if trial.fits() is None:
            trial.release(one)
        else:
            needed.remove(one)
    found = trial.fits()
    assert found is not None, "what fitted a moment ago fits still"
    return found, needed


def beats(rank: int, priority: int, other_rank: int, other_priority: int, *, by_priority: bool) -> str:
    """Why a job of one class and priority comes before one of another: "class", "priority", or ""."""
    if other_rank > rank and other_rank >= STOPPABLE_RANK:
        return "class"
    return "priority" if by_priority and other_rank == rank and other_priority < priority else ""
