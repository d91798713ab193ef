"""Elastic jobs: they shrink before anybody else has to make way, and grow into what nobody waits for.

A job changes its size by ending at a checkpoint and starting again, so a change costs the work since that checkpoint
and a start. It is made only when it gains more than that, by a margin, and not before the job has stayed for a while:
so sizes do not flap. A running job here is a batch job with checkpoints whose `retry.on` names preemption.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from headframe.base.quantities import HOUR_US, MINUTE_US, counted, format_span
from headframe.fleet.records import Allocation, HoldState, Slice
from headframe.jobs.records import Attempt, Job, JobState
from headframe.scheduling.backfill import NEVER_US, Ground
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.durations import Estimate
from headframe.scheduling.fit import fit
from headframe.scheduling.plan import MakeWay
from headframe.scheduling.queue import CLASS_RANK, Bucket
from headframe.scheduling.want import Want
from headframe.workloads.spec import Spec

STAY_US = 15 * MINUTE_US  # an attempt runs at least so long before its job changes its size or place
RESTART_US = 2 * MINUTE_US  # what a start costs at least
MARGIN = 2  # a change gains so many times what it costs
TRIES = 8  # of growing, or of jobs that shrink for one, in one pass


@dataclass(frozen=True, slots=True)
class Runner:
    """A running job that can end at a checkpoint and go on elsewhere. Times in microseconds.

    `lost_us` is the work that a stop throws away, `left_us` how long it is expected to run on, `ran_us` how long its
    attempt has run, `restart_us` what a start costs it.
    """

    job: Job
    allocation: Allocation
    lost_us: int
    left_us: int
    ran_us: int
    restart_us: int

    @property
    def size(self) -> int:
        return len(self.allocation.slices)

    @property
    def weight(self) -> int:
        """Its GPUs in thousandths; a tenth of its cores where it has none."""
        gpu = sum(share.milli for part in self.allocation.slices for share in part.shares)
        return gpu or max(sum(part.cpu_milli for part in self.allocation.slices) // 10, 1)

    @property
    def cost(self) -> int:
        """What a stop and a start throw away (thousandths of a GPU x us)."""
        return (self.lost_us + self.restart_us) * self.weight

    @property
    def order(self) -> tuple[int, int, str]:
        """The lowest class first, then the cheapest."""
        return -CLASS_RANK[self.allocation.purchase], self.cost, self.job.id

    @property
    def elastic(self) -> bool:
        return self.job.spec.nodes_max > self.job.spec.nodes_min


@dataclass(frozen=True, slots=True)
class Found:
    """Room for a waiting job: its place, who makes way (to come back smaller, or elsewhere), and the sentence."""

    slices: tuple[Slice, ...]
    stops: tuple[MakeWay, ...]
    text: str


def can_return(spec: Spec) -> bool:
    """Whether a job of this kind can be stopped and go on where it was: it has checkpoints and comes back."""
    return spec.type == "batch" and spec.checkpoints is not None and "preemption" in spec.retry.on


def runner(job: Job, held: Allocation, attempt: Attempt | None, told: Estimate, now_us: int) -> Runner | None:
    """A running job as it may be resized or moved; None when it may not, now or ever."""
    staying = job.state == JobState.RUNNING and held.state == HoldState.RUNNING and held.running_us is not None
    if not staying or not can_return(job.spec) or job.yields_to or job.yields_us is not None or job.warned:
        return None
    if job.spec.reservation is not None:
        return None
    assert held.running_us is not None
    saved_us = attempt.checkpoint_us if attempt is not None and attempt.checkpoint_us is not None else held.running_us
    ran_us = max(now_us - held.running_us, 0)
    left_us, _ = told.left_us(job.ran_us + ran_us)
    restart_us = max(held.running_us - held.held_us, RESTART_US)
    return Runner(job, held, max(now_us - max(saved_us, held.running_us), 0), left_us, ran_us, restart_us)


def shrink(
    ground: Ground, bucket: Bucket, job: Job, runners: Iterable[Runner], gone: Iterable[str] = ()
) -> Found | None:
    """Room for a waiting job by elastic jobs that come back smaller, each with room for at least its least size.

    `ground` is what any job may take, however long it runs; `gone` are ids of jobs that make way already. Nobody
    shrinks for a lower class than its own.
    """
    leaving = set(gone)  # only asked
    trial = ground.copy()
    out: list[Runner] = []
    able = [one for one in runners if _may_shrink(one, bucket) and one.job.id not in leaving]
    for one in sorted(able, key=lambda one: one.order)[:TRIES]:
        trial.release(one.job.id, one.allocation.slices)
        out.append(one)
        slices = fit(trial.capacity, bucket.want)
        if slices is None:
            continue
        sizes = _sizes_beside(trial.capacity, slices, out)
        if sizes is None or not _worth(bucket, slices, out):
            return None
        stops = tuple(
            _way(one, job.id, "shrink", f"It goes on with {size} of its {one.size} nodes: {_whose(one, job)} waits.")
            for one, size in zip(out, sizes, strict=True)
        )
        text = f"{counted(len(out), 'elastic job')} shrink{'' if len(out) > 1 else 's'} for it."
        return Found(slices, stops, text)
    return None


def grow(ground: Ground, runners: Iterable[Runner], wanted: Sequence[Want] = ()) -> Iterator[tuple[Runner, MakeWay]]:
    """Elastic jobs that are to start again with more nodes, as what is free is wanted by nobody.

    `ground` is what any job may take, however long it runs; `wanted` is what others wait for in vain. The caller may
    take as many as it likes: each takes what it grows into.
    """
    trial = ground.copy()
    able = [one for one in runners if one.elastic and one.size < one.job.spec.nodes_max and one.ran_us >= STAY_US]
    able = [one for one in able if not any(_compete(want, one.job.spec) for want in wanted)]
    for one in sorted(able, key=lambda one: (-one.left_us, one.job.id))[:TRIES]:
        trial.release(one.job.id, one.allocation.slices)
        slices = fit(trial.capacity, Want.of(one.job.spec))
        if slices is None or len(slices) <= one.size or not _gains(one, len(slices)):
            trial.hold(one.job.id, one.allocation.slices)
            continue
        trial.capacity.hold(slices)
        text = f"It starts again with {len(slices)} nodes, not {one.size}: they are free, and nobody waits for them."
        yield one, _way(one, "", "grow", text)


def _may_shrink(one: Runner, bucket: Bucket) -> bool:
    rank = CLASS_RANK[one.allocation.purchase]
    stayed = one.ran_us >= STAY_US or rank > bucket.rank
    return one.elastic and one.size > one.job.spec.nodes_min and rank >= bucket.rank and stayed


def _sizes_beside(trial: Capacity, slices: tuple[Slice, ...], out: Sequence[Runner]) -> list[int] | None:
    """The sizes at which those who make way fit again beside a new job; None when one of them does not."""
    beside = trial.scratch()
    beside.hold(slices)
    sizes = []
    for one in out:
        place = fit(beside, replace(Want.of(one.job.spec), nodes_max=one.size))
        if place is None:
            return None
        beside.hold(place)
        sizes.append(len(place))
    return sizes


def _worth(bucket: Bucket, slices: tuple[Slice, ...], out: Sequence[Runner]) -> bool:
    """Whether a waiting job gains more than others lose: it would wait for as long as they run, up to an hour."""
    waits_us = min(*(one.left_us for one in out), HOUR_US)
    gpu = sum(share.milli for part in slices for share in part.shares)
    weight = gpu or max(sum(part.cpu_milli for part in slices) // 10, 1)
    higher = all(CLASS_RANK[one.allocation.purchase] > bucket.rank for one in out)
    return higher or weight * waits_us >= MARGIN * sum(one.cost for one in out)


def _gains(one: Runner, size: int) -> bool:
    """Whether a job that grows ends earlier by more than what the change costs it, if it scales."""
    saved_us = one.left_us - one.left_us * one.size // size
    return one.left_us < NEVER_US and saved_us >= MARGIN * (one.lost_us + one.restart_us)


def _compete(want: Want, spec: Spec) -> bool:
    """Whether two requests could use the same devices (or both none)."""
    kinds = [gpus.kind for gpus in want.resources.gpus]
    mine = [gpus.kind for gpus in spec.resources.gpus]
    if not kinds or not mine:
        return True  # cores and memory are wanted by all
    return None in kinds or None in mine or any(a.lower() == b.lower() for a in kinds if a for b in mine if b)


def _whose(one: Runner, job: Job) -> str:
    """How the one is told of the other: by name inside an organization only."""
    return f"job {job.name} ({job.id})" if one.job.organization_id == job.organization_id else "a job"


def _way(one: Runner, whom: str, cause: str, text: str) -> MakeWay:
    warn_us = one.job.spec.warn_before_stop_us
    lost = f" It loses {format_span(one.lost_us)} of work." if one.lost_us else ""
    return MakeWay(one.job.id, one.allocation.id, whom, cause, text + lost, warn_us)
