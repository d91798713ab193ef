"""Moving jobs that can return to a checkpoint, so that others fit: only where it gains more than it costs.

What is free may suffice for a gang and yet lie scattered. A few jobs that go on elsewhere make one whole place of it.
The same before anybody waits: a job moves when more of what is free can then be used by what is asked for lately.
Each move throws away the work since the last checkpoint and costs a start, so it is made only when the gang's wait that
it saves, or what comes to be usable for an hour, is worth more, by a margin; a job is moved at most twice an hour. Off
unless the rules of its cluster say `moves`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from headframe.base.quantities import HOUR_US, MINUTE_US, format_span
from headframe.fleet.records import Slice
from headframe.jobs.records import Job
from headframe.scheduling.backfill import Ground
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.elastic import MARGIN, Found, Runner
from headframe.scheduling.fit import fit
from headframe.scheduling.packing import usable
from headframe.scheduling.plan import MakeWay
from headframe.scheduling.queue import Bucket
from headframe.scheduling.want import Want

STAY_US = 30 * MINUTE_US  # a job stays where it is for so long: at most two moves an hour
MOST = 4  # jobs that move for one
TRIES = 32  # sets of jobs that are tried for one


def make_one_place(
    ground: Ground, bucket: Bucket, job: Job, waits_us: int, runners: Iterable[Runner], gone: Iterable[str] = ()
) -> Found | None:
    """A place for a waiting job, made by moving others whole to what is free elsewhere.

    `ground` is what any job may take, however long it runs; `waits_us` how long the job would wait otherwise. Jobs of a
    node are tried together, of the nodes with the least to lose first; the place must hold the waiting job, and what is
    left must hold all who move, each in its own size.
    """
    leaving = set(gone)  # only asked
    able = [one for one in runners if one.ran_us >= STAY_US and one.job.id not in leaving]
    for tried in islice(_sets(able), TRIES):
        trial = ground.copy()
        for one in tried:
            trial.release(one.job.id, one.allocation.slices)
        slices = fit(trial.capacity, bucket.want)
        if slices is None:
            continue
        nodes = {part.node_id for part in slices}  # only asked
        movers = [one for one in tried if any(part.node_id in nodes for part in one.allocation.slices)]
        for one in tried:
            if one not in movers:
                trial.hold(one.job.id, one.allocation.slices)
        if movers and _fit_elsewhere(trial.capacity, slices, movers) and _worth(slices, waits_us, movers):
            return _told(job, slices, movers)
    return None


def tidy(ground: Ground, runners: Iterable[Runner]) -> tuple[Runner, MakeWay] | None:
    """The job whose move makes the most of what is free usable, if that is worth it; cheap ones are tried first.

    `ground` is what any job may take. The job is stopped and takes its turn again: packing, which looks for what
    leaves the most usable, puts it where the trial did.
    """
    able = [one for one in runners if one.ran_us >= STAY_US and one.size == 1]
    before, best = usable(ground.capacity), None
    for one in sorted(able, key=lambda one: (one.cost, one.job.id))[:TRIES]:
        trial = ground.copy()
        trial.release(one.job.id, one.allocation.slices)
        place = fit(trial.capacity, Want.of(one.job.spec))
        if place is None or place[0].node_id == one.allocation.slices[0].node_id:
            continue
        trial.capacity.hold(place)
        gain = usable(trial.capacity) - before
        if gain * min(one.left_us, HOUR_US) >= MARGIN * one.cost and (best is None or gain > best[0]):
            best = gain, one
    if best is None:
        return None
    gain, one = best
    lost = f", from its checkpoint {format_span(one.lost_us)} ago" if one.lost_us else ""
    text = f"It goes on elsewhere{lost}: what is free then fits {gain / 1000:g} GPUs more of what is asked for."
    return one, MakeWay(one.job.id, one.allocation.id, "", "move", text, one.job.spec.warn_before_stop_us)


def _sets(able: Sequence[Runner]) -> Iterator[list[Runner]]:
    """Sets of at most `MOST` jobs: those of one node, the cheapest node first, then with those of the next nodes."""
    by_node: dict[str, list[Runner]] = {}
    for one in sorted(able, key=lambda one: one.job.id):
        for node_id in dict.fromkeys(part.node_id for part in one.allocation.slices):
            by_node.setdefault(node_id, []).append(one)
    order = sorted(by_node, key=lambda node_id: (sum(one.cost for one in by_node[node_id]), node_id))
    for first in range(len(order)):
        tried: list[Runner] = []
        for node_id in order[first:]:
            tried += [one for one in by_node[node_id] if one not in tried]
            if len(tried) > MOST:
                break
            yield list(tried)


def _fit_elsewhere(trial: Capacity, slices: tuple[Slice, ...], movers: Sequence[Runner]) -> bool:
    """Whether all who move find room beside the new job, each in its own size."""
    beside = trial.scratch()
    beside.hold(slices)
    for one in movers:
        place = fit(beside, replace(Want.of(one.job.spec), nodes_min=one.size, nodes_max=one.size))
        if place is None:
            return False
        beside.hold(place)
    return True


def _worth(slices: tuple[Slice, ...], waits_us: int, movers: Sequence[Runner]) -> bool:
    gpu = sum(share.milli for part in slices for share in part.shares)
    weight = gpu or max(sum(part.cpu_milli for part in slices) // 10, 1)
    return weight * min(waits_us, HOUR_US) >= MARGIN * sum(one.cost for one in movers)


def _told(job: Job, slices: tuple[Slice, ...], movers: Sequence[Runner]) -> Found:
    stops = []
    for one in movers:
        same = one.job.organization_id == job.organization_id
        whom = f"job {job.name} ({job.id})" if same else "a job of another organization"
        text = f"It goes on elsewhere, from its checkpoint {format_span(one.lost_us)} ago, so that {whom} fits."
        warn_us = one.job.spec.warn_before_stop_us
        stops.append(MakeWay(one.job.id, one.allocation.id, job.id, "move", text, warn_us))
    count = f"{len(movers)} job{'s move' if len(movers) > 1 else ' moves'}"
    return Found(slices, tuple(stops), f"{count} elsewhere for it. Its place is kept until then.")
