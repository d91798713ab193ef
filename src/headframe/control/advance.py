"""What follows from time, and from the end of other jobs: the second stage of a tick, and the placing after it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import replace

from headframe.base.changes import Changes
from headframe.base.ports import Ids
from headframe.control.limits import GRACE_US, StopOrder
from headframe.control.purse import Purse
from headframe.control.rearrange import grow_elastic, rearrangement_due, runners, tidy_up
from headframe.control.regimes import Regime, regimes
from headframe.control.spending import Spending, first_of
from headframe.control.timetable import makes_way_later, timetable
from headframe.control.world import World
from headframe.fleet.records import Cluster, Node
from headframe.jobs.family import child_ended, dependency_ended, fire, release, started, stop_parent
from headframe.jobs.life import begin, claim, deadline_us, make_way, stay, stop, timed, warn
from headframe.jobs.records import Job, JobState
from headframe.metering.meter import quantities
from headframe.scheduling.agenda import Agenda
from headframe.scheduling.backfill import Shadow
from headframe.scheduling.order import ORDERS
from headframe.scheduling.place import place
from headframe.scheduling.plan import Plan
from headframe.scheduling.records import FairUse
from headframe.scheduling.shares import Shares
from headframe.scheduling.snapshot import Snapshot
from headframe.tenants.records import Organization


def due(world: World, ids: Ids, now_us: int) -> Iterator[Changes]:
    """Whatever time alone brings: retries and schedules that are due, durations that are up.

    A generator: each change is to be applied before the next is asked for.
    """
    timers = world.derived.timers
    while timers and timers[0][0] <= now_us:
        job_id = heapq.heappop(timers)[1]
        job: Job | None = world.get(Job, job_id)
        if job is None:
            continue
        held = world.derived.held.get(job_id)
        moment_us = deadline_us(job, held)
        if moment_us is None or moment_us > now_us:
            continue
        if job.state == JobState.RUNNING and held is not None:
            yield timed(job, held, now_us)
        elif job.spec.cron and job.parent:
            yield fire(job, ids.new("job"), bool(world.derived.children.get(job_id)), now_us)
        else:
            yield release(job, now_us)


def next_timer_us(world: World) -> int | None:
    """When `due` has something to do next, at the earliest."""
    return world.derived.timers[0][0] if world.derived.timers else None


def ended(world: World, job: Job, untold: int, now_us: int) -> Iterator[Changes]:
    """What the end of a job means for those that wait for it, and for its parent.

    `untold` is how many children of the same parent have ended too and are yet to be told: the last one told ends it.
    """
    for waiting_id in list(world.derived.dependents.get(job.id, ())):
        waiting: Job | None = world.get(Job, waiting_id)
        if waiting is not None:
            yield dependency_ended(waiting, job, now_us)
    parent: Job | None = world.get(Job, job.parent_id) if job.parent_id else None
    if parent is not None:
        yield child_ended(parent, job, len(world.derived.children.get(parent.id, ())) + untold)


def stop_family(world: World, job: Job, reason: str, now_us: int, text: str, grace_us: int) -> Iterator[Changes]:
    """Tell a job to end, and its children with it."""
    children = list(world.derived.children.get(job.id, ()))
    if not job.parent:
        yield stop(job, world.derived.held.get(job.id), reason, now_us, text, grace_us)
        return
    yield stop_parent(job, bool(children), reason, now_us, text)
    for child_id in children:
        child: Job | None = world.get(Job, child_id)
        if child is not None:
            why = "parent" if reason == "user" else reason
            yield stop(child, world.derived.held.get(child_id), why, now_us, text, grace_us)


def snapshot(world: World, purse: Purse, now_us: int, regime: Regime | None = None) -> Snapshot:
    """All that placing may look at, as it is now; `regime` narrows it to some clusters and their rules."""
    derived = world.derived
    regime = regime or replace(regimes(world)[0], clusters=None)
    capacity, holdings = derived.capacity.scratch(), derived.holdings.copy()
    whole = None if regime.clusters is None else derived.capacity.scratch()
    regime.narrow(world, capacity)
    return Snapshot(
        capacity=capacity,
        queue=derived.queue,
        jobs=world.tables[Job],
        quotas=derived.quotas,
        holdings=holdings,
        parallel=derived.parallel,
        running=dict(derived.running_children),
        blocked=purse.blocked,
        short=purse.short,
        now_us=now_us,
        agenda=Agenda(now_us, capacity, timetable(world, now_us)),
        order=ORDERS[regime.rules.order],
        rules=regime.rules,
        borrowing=derived.borrowing.copy(),
        shares=Shares(world.tables[FairUse], holdings, derived.quotas, derived.total, now_us, world.rules.half_life_us),
        holders=derived.holders,
        attempts=derived.attempt,
        claims=regime.claims(world),
        leaving=derived.leaving,
        price=purse.price,
        whole=whole,
        remaining=lambda job: _remaining_us(world, job),
        runners=lambda: runners(world, derived.returning if regime.rules.moves else derived.elastic, now_us),
    )


def _remaining_us(world: World, job: Job) -> int | None:
    """How long a waiting job still has to run, as far as anybody knows: what it saved need not be done again."""
    expected = world.durations.expect(job)
    if expected.long_us is None:
        return None
    return expected.left_us(job.ran_us if job.spec.checkpoints is not None else 0)[0]


def end_for_money(world: World, order: StopOrder, now_us: int) -> Iterator[Changes]:
    """Carry out a stop that a limit on money asks for: at its moment, and with the warning that the job asked for."""
    job: Job | None = world.get(Job, order.job_id)
    held = world.derived.held.get(order.job_id)
    if job is None or job.stop_reason:
        return
    if now_us >= order.stop_at_us or held is None:
        grace_us = max(order.stop_at_us + GRACE_US - now_us, 0)
        yield from stop_family(world, job, order.reason, now_us, order.sentence, grace_us)
    elif job.state == JobState.RUNNING:
        yield warn(job, held, now_us, order.sentence)


def _stay(world: World, now_us: int) -> Iterator[Changes]:
    """Those who were to make way for a job that has found another place, or wants none any more, stay."""
    for job_id, whom in sorted(world.derived.leaving.items()):
        job: Job | None = world.get(Job, job_id)
        if job is not None and whom not in world.derived.claims:
            yield stay(job, now_us)


def _make_way(world: World, plan: Plan, now_us: int) -> Iterator[Changes]:
    """Keep the places of those who wait for others to go, and tell the others."""
    for job_id in plan.dropped:
        yield claim(world.all(Job)[job_id], (), now_us, "Its place is kept no more: it takes its turn again.")
    for one in plan.claims:
        yield claim(world.all(Job)[one.job.id], one.slices, now_us, one.text)
    for order in plan.stops:
        job: Job = world.all(Job)[order.job_id]
        held = world.derived.held[order.job_id]
        yield make_way(job, held, order.for_job_id, order.cause, order.warn_us, now_us, order.text)


def start(world: World, spending: Spending, now_us: int) -> Iterator[Changes]:
    """Place what can be placed: each start is an attempt with its allocation. Whoever has to makes way."""
    yield from _stay(world, now_us)
    world.wake_us = None
    if not len(world.derived.queue) and not rearrangement_due(world, now_us):
        return
    found = regimes(world)
    world.derived.shadows, shadows = {}, world.derived.shadows
    for regime in found:
        world.derived.queue.looked_us = None if len(found) > 1 else world.derived.queue.looked_us
        yield from _pass(world, spending, regime, shadows, now_us)
    yield from _stay(world, now_us)


def _pass(
    world: World, spending: Spending, regime: Regime, shadows: Mapping[str, Shadow], now_us: int
) -> Iterator[Changes]:
    """One pass over the queue, for the clusters of one regime. `shadows` are the places found by earlier passes."""
    kept, world.derived.shadows = world.derived.shadows, shadows
    view = snapshot(world, Purse(world, spending, now_us), now_us, regime)
    plan = place(view)
    world.derived.shadows = {**kept, **(view.agenda.shadows if view.agenda is not None else {})}
    world.wake_us = first_of((world.wake_us, plan.wake_us))
    yield from _make_way(world, plan, now_us)
    for job, slices in plan.starts:
        node: Node = world.all(Node)[slices[0].node_id]
        cluster: Cluster = world.all(Cluster)[node.cluster_id]
        parent: Job | None = world.get(Job, job.parent_id) if job.parent_id else None
        if parent is not None:
            yield started(parent, now_us)
        currency = world.all(Organization)[job.organization_id].currency
        if spending.too_dear(job, quantities(slices), cluster.region_id, currency, now_us):
            text = "What is left of its budget does not pay for another attempt."
            yield stop(job, None, "budget_exhausted", now_us, text, 0)
            continue
        note = f"{plan.why.get(job.id, '')}{makes_way_later(world, job, slices, now_us)}"
        names = {part.node_id: world.all(Node)[part.node_id].name for part in slices}
        yield begin(job, cluster.id, cluster.region_id, slices, now_us, note, names)
    yield from grow_elastic(world, view, now_us)
    yield from tidy_up(world, view, now_us)
    yield from _stay(world, now_us)
