"""One pass over the queue: who starts where. The same code answers `plan` and explains waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from headframe.fleet.records import Slice
from headframe.jobs.records import Job
from headframe.scheduling.agenda import Agenda
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.fit import Want, fit
from headframe.scheduling.limits import Binding, Holdings, binding, needs
from headframe.scheduling.order import DEFAULT, ORDERS, Facts, Order
from headframe.scheduling.plan import Plan, Start
from headframe.scheduling.queue import Bucket, Queue, Waiting
from headframe.tenants.records import Quota

PASS_LIMIT = 1000  # placements in one pass; the next pass goes on, so that a tick stays short


@dataclass(slots=True)
class Snapshot:
    """All that placing looks at. `capacity`, `holdings` and `running` are scratch copies that a pass uses up.

    `quotas` by the id of what they limit. `parallel` is how many children of a parent may run at once (0 or absent: any
    number), `running` how many do. `blocked` says why a scope may start nothing now (a budget, a credit), or "";
    `short` why a limit on money does not cover what these slices cost at least, or "". `order` is who comes first;
    `agenda` knows what is promised for later.
    """

    capacity: Capacity
    queue: Queue
    jobs: Mapping[str, Job]
    quotas: Mapping[str, Quota]
    holdings: Holdings
    parallel: Mapping[str, int]
    running: dict[str, int]
    blocked: Callable[[str, str, str], str]
    short: Callable[[Bucket, tuple[Slice, ...]], str] = lambda _bucket, _slices: ""
    refused: dict[Bucket, str] = field(default_factory=dict)
    now_us: int = 0
    order: Order = ORDERS[DEFAULT]
    agenda: Agenda | None = None

    def key(self, bucket: Bucket, one: Waiting) -> tuple[int | str, ...]:
        """Where a waiting job stands in the order."""
        return self.order.key(Facts(one[1], one[0], bucket.rank, bucket.priority))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a job starts (`slices`), or why not: `reason` is placed, no_capacity, quota, parallel or a block."""

    slices: tuple[Slice, ...] | None
    reason: str = "placed"
    bound: Binding | None = None


def judge(snapshot: Snapshot, bucket: Bucket, job: Job | None = None) -> Verdict:
    """What a job of this bucket would get at this point of the pass; `job` is the one, where it is known."""
    owners = bucket.owners
    block = snapshot.blocked(*owners)
    if block:
        return Verdict(None, block)
    if bucket.parent_id is not None:
        limit = snapshot.parallel.get(bucket.parent_id, 0)
        if limit and snapshot.running.get(bucket.parent_id, 0) >= limit:
            return Verdict(None, "parallel")
    quick = binding(snapshot.quotas, snapshot.holdings, owners, least(bucket.want))
    if quick is not None:
        return Verdict(None, "quota", quick)
    room = snapshot.capacity if snapshot.agenda is None else snapshot.agenda.room(bucket, job)
    if isinstance(room, str):
        return Verdict(None, room)
    slices = fit(room, bucket.want)
    if slices is None:
        return Verdict(None, "no_capacity")
    bound = binding(snapshot.quotas, snapshot.holdings, owners, needs(slices))
    if bound is None:
        return _paid(snapshot, bucket, slices)
    for want in _narrower(bucket.want):
        slices = fit(room, want)
        if slices is not None and binding(snapshot.quotas, snapshot.holdings, owners, needs(slices)) is None:
            return _paid(snapshot, bucket, slices)
    return Verdict(None, "quota", bound)


def _paid(snapshot: Snapshot, bucket: Bucket, slices: tuple[Slice, ...]) -> Verdict:
    """The last question: is there money for the least that it costs?"""
    reason = snapshot.short(bucket, slices)
    return Verdict(None, reason) if reason else Verdict(slices)


def _narrower(want: Want) -> Iterator[Want]:
    """Each alternative by itself with the smallest gang, in the order of preference: a quota may admit one of them."""
    for gpus in want.alternatives:
        chosen = () if gpus is None else (gpus,)
        yield replace(want, resources=replace(want.resources, gpus=chosen), nodes_max=want.nodes_min)


def least(want: Want) -> dict[str, int]:
    """The least that a gang of this want can hold."""
    gpu = min((gpus.count * gpus.milli for gpus in want.resources.gpus), default=0)
    return {
        "gpu_milli": gpu * want.nodes_min,
        "cpu_milli": want.resources.cpu_milli * want.nodes_min,
        "memory_mib": want.resources.memory_mib * want.nodes_min,
    }


def place(snapshot: Snapshot) -> Plan:
    """What starts now, in order, and what each job holds."""
    starts: list[Start] = []
    full: set[object] = set()  # only asked, never iterated
    held_up = False

    def visit(bucket: Bucket, job_id: str) -> bool:
        nonlocal held_up
        if len(starts) >= PASS_LIMIT or held_up:
            return False
        job = snapshot.jobs[job_id]
        agenda = snapshot.agenda
        same = (bucket.want, agenda.sort(bucket, job) if agenda is not None else None)
        verdict = Verdict(None, "no_capacity") if same in full else judge(snapshot, bucket, job)
        if verdict.slices is None:
            snapshot.refused[bucket] = verdict.reason
            if verdict.reason == "no_capacity":
                full.add(same)
                if agenda is not None:
                    agenda.waits(bucket, job)
            held_up = snapshot.order.strict
            return False
        take(snapshot, bucket, verdict.slices)
        if agenda is not None:
            agenda.started(bucket, job, verdict.slices)
        starts.append(Start(job, verdict.slices))
        return True

    snapshot.queue.in_order(visit, snapshot.key, by_job=snapshot.order.by_job)
    return Plan(tuple(starts), refused=snapshot.refused)


def take(snapshot: Snapshot, bucket: Bucket, slices: tuple[Slice, ...]) -> None:
    """Use up what a placed job holds."""
    snapshot.capacity.hold(slices)
    snapshot.holdings.add(needs(slices), bucket.owners)
    if bucket.parent_id is not None:
        snapshot.running[bucket.parent_id] = snapshot.running.get(bucket.parent_id, 0) + 1
