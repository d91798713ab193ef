"""Running jobs that can go on elsewhere or in another size: which they are, and when elastic ones grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from headframe.base.changes import Changes
from headframe.base.quantities import MINUTE_US
from headframe.control.regimes import regimes
from headframe.control.world import World
from headframe.jobs.life import make_way
from headframe.jobs.records import Job
from headframe.scheduling.defrag import tidy
from headframe.scheduling.elastic import STAY_US, Runner, grow, runner
from headframe.scheduling.judge import within
from headframe.scheduling.limits import needs
from headframe.scheduling.queue import Bucket
from headframe.scheduling.snapshot import Snapshot

REVIEW_US = MINUTE_US  # how often elastic jobs are looked at when what is free has changed
TIDY_US = 5 * MINUTE_US  # how often it is looked at whether a move makes more of it usable


def runners(world: World, job_ids: Iterable[str], now_us: int) -> list[Runner]:
    """Those of some jobs that run and may end at a checkpoint now; by id."""
    derived = world.derived
    found = []
    for job_id in sorted(job_ids):
        job: Job | None = world.get(Job, job_id)
        held = derived.held.get(job_id)
        if job is None or held is None:
            continue
        one = runner(job, held, derived.attempt.get(held.id), world.durations.expect(job), now_us)
        if one is not None:
            found.append(one)
    return found


def growth_due(world: World, now_us: int) -> bool:
    """Whether it is time to look whether elastic jobs can grow."""
    due_us = _next_growth_us(world)
    return due_us is not None and due_us <= now_us


def rearrangement_due(world: World, now_us: int) -> bool:
    """Whether it is time to look at running jobs though nobody waits."""
    due_us = next_rearrangement_us(world)
    return due_us is not None and due_us <= now_us


def next_rearrangement_us(world: World) -> int | None:
    """When it is time to look whether running jobs can grow, or be moved."""
    return min((due_us for due_us in (_next_growth_us(world), next_tidy_us(world)) if due_us is not None), default=None)


def _next_growth_us(world: World) -> int | None:
    """When it is time to look whether elastic jobs can grow: soon after anything ended, else now and then."""
    derived = world.derived
    for job_id in derived.elastic:
        job: Job | None = world.get(Job, job_id)
        held = derived.held.get(job_id)
        if job is not None and held is not None and len(held.slices) < job.spec.nodes_max:
            pause_us = REVIEW_US if derived.reviewed_epoch != derived.holders.epoch else STAY_US
            return derived.reviewed_us + pause_us
    return None


def next_tidy_us(world: World) -> int | None:
    """When it is time to look whether a move would make more of what is free usable: after something has ended."""
    derived = world.derived
    if not derived.returning or derived.tidied_epoch == derived.holders.epoch:
        return None
    return derived.tidied_us + TIDY_US if any(one.rules.moves for one in regimes(world)) else None


def tidy_up(world: World, view: Snapshot, now_us: int) -> Iterator[Changes]:
    """Move one job, where the rules allow moves and that makes more of what is free usable."""
    derived = world.derived
    due_us = next_tidy_us(world)
    if view.agenda is None or not view.rules.moves or due_us is None or due_us > now_us:
        return
    derived.tidied_us, derived.tidied_epoch = now_us, derived.holders.epoch
    found = tidy(view.agenda.ground(), runners(world, derived.returning, now_us))
    if found is not None:
        one, order = found
        yield make_way(one.job, one.allocation, "", order.cause, order.warn_us, now_us, order.text)


def grow_elastic(world: World, view: Snapshot, now_us: int) -> Iterator[Changes]:
    """Elastic jobs start again with more nodes, where what is free after a pass is wanted by nobody else.

    A generator: each change is to be applied before the next is asked for.
    """
    derived = world.derived
    if view.agenda is None or not growth_due(world, now_us):
        return
    derived.reviewed_us, derived.reviewed_epoch = now_us, derived.holders.epoch
    for one, order in grow(view.agenda.ground(), runners(world, derived.elastic, now_us), tuple(view.wanted)):
        bucket = Bucket.of(one.job, 0)
        more = needs(one.allocation.slices[:1])  # one node more, at least, must be within all limits
        if within(view, bucket, more) is None and not view.blocked(*bucket.owners):
            yield make_way(one.job, one.allocation, "", order.cause, order.warn_us, now_us, order.text)
