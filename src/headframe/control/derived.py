"""What follows from the warm rows and is kept beside them, so that a decision need not search: changed row by row."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from headframe.fleet.records import (
    Accelerator,
    Allocation,
    Cluster,
    HoldState,
    Node,
    NodeState,
    Region,
    Reservation,
    Slice,
)
from headframe.jobs.life import deadline_us
from headframe.jobs.records import Attempt, Job, JobState
from headframe.scheduling.backfill import Endings, Shadow
from headframe.scheduling.borrowing import Borrowing, Tree
from headframe.scheduling.capacity import WHOLE, Capacity
from headframe.scheduling.demand import Demand
from headframe.scheduling.elastic import can_return
from headframe.scheduling.limits import Holdings, needs
from headframe.scheduling.preempt import Holders
from headframe.scheduling.queue import Queue
from headframe.scheduling.speeds import Learned, Speeds
from headframe.scheduling.want import Want
from headframe.tenants.records import Quota

LEFTOVERS = 1000  # timers that may be there beyond two for each job
HOLDING = frozenset({JobState.STARTING, JobState.RUNNING, JobState.STOPPING})


def _holds(allocation: Allocation | None) -> bool:
    return allocation is not None and allocation.state != HoldState.RELEASED


class Derived:
    """The queue, who holds what, families of jobs and timers.

    `held` is the open allocation of a job, by job id; `attempt` the attempt under way, by allocation id; `children`
    are the ids of a parent's children that have not ended, `running_children` counts those that hold something;
    `dependents` are ids of jobs that wait for a job, by its id; `timers` is a heap of (moment, job id) at which
    time alone may change something, with repeats and leftovers; `parallel` is the bound that an array sets on its
    running children; `quotas` are by the id of what they limit; `on_node` are the open allocations with a part on a
    node, by node, `reserved` those of reservations' jobs, by id; `fleet_changes` counts changes of nodes and devices;
    `holders` are those who hold something, `claims` the places kept for waiting jobs, by job; `leaving` says of those
    who make way for whom.
    """

    def __init__(self, tables: dict[type[Any], dict[str, Any]]) -> None:
        self._tables = tables
        self._capacity: Capacity | None = None
        self.demand = Demand()
        self.queue = Queue()
        self.speeds = Learned()
        self.holdings = Holdings()
        self.held: dict[str, Allocation] = {}
        self.unsettled: dict[str, Allocation] = {}  # released, not yet fully charged
        self.attempt: dict[str, Attempt] = {}
        self.running_children: dict[str, int] = defaultdict(int)
        self.children: dict[str, dict[str, None]] = defaultdict(dict)
        self.dependents: dict[str, dict[str, None]] = defaultdict(dict)
        self.parallel: dict[str, int] = {}
        self.quotas: dict[str, Quota] = {}
        self.holders = Holders()
        self.claims: dict[str, tuple[Slice, ...]] = {}
        self.leaving: dict[str, str] = {}
        self.returning: dict[str, None] = {}  # jobs that can go on from a checkpoint, by id
        self.elastic: dict[str, None] = {}  # those of them that can do so in another size
        self.reviewed_us, self.reviewed_epoch = 0, -1  # as of when elastic jobs were last looked at
        self.tidied_us, self.tidied_epoch = 0, 0  # as of when it was last looked whether a move would help
        self._borrowing: Borrowing | None = None
        self._total: dict[str, int] | None = None
        self.timers: list[tuple[int, str]] = []
        self.on_node: dict[str, dict[str, Allocation]] = defaultdict(dict)
        self.reserved: dict[str, Allocation] = {}
        self._promised: dict[str, list[Reservation]] | None = None
        self.fleet_changes = 0
        self.settled_fleet, self.settled_us = 0, 0  # as of when reservations were last held against the fleet
        self.shadows: Mapping[str, Shadow] = {}  # the places that the last pass kept for waiting jobs
        self.endings = Endings()

    @property
    def capacity(self) -> Capacity:
        """What is free now; built anew when nodes or devices come or go, and altered when they change."""
        if self._capacity is None:
            tables = self._tables
            self._capacity = Capacity(
                tables[Region], tables[Cluster], tables[Node].values(), tables[Accelerator].values(), self.demand
            )
            for allocation in self.held.values():
                self._capacity.hold(allocation.slices)
        return self._capacity

    def speeds_of(self, job: Job) -> Speeds:
        """How fast a job is on the kinds that are here, where it takes any and does not say so itself."""
        return self.speeds.of(job, self.capacity.kinds) if job.spec.resources.gpus else ()

    def queue_again(self) -> None:
        """Let who waits stand where what has been learned of speeds puts them."""
        for job in list(self._tables[Job].values()):
            if job.id in self.queue and self.speeds_of(job):
                self.queue.remove(job.id)
                self.queue.add(job, self.parallel.get(job.parent_id or "", 0), self.speeds_of(job))

    @property
    def total(self) -> dict[str, int]:
        """What there is in all on ready nodes, by meter of quotas."""
        if self._total is None:
            clusters = self._tables[Cluster]
            ready = {
                node.id: node
                for node in self._tables[Node].values()
                if node.state == NodeState.READY and clusters[node.cluster_id].takes_work
            }
            devices = (device for device in self._tables[Accelerator].values() if device.healthy)
            self._total = {
                "gpu_milli": WHOLE * sum(device.node_id in ready for device in devices),
                "cpu_milli": sum(node.cpu_milli for node in ready.values()),
                "memory_mib": sum(node.memory_mib for node in ready.values()),
            }
        return self._total

    @property
    def borrowing(self) -> Borrowing:
        """What is guaranteed and borrowed; built anew after a change of quotas or hardware."""
        if self._borrowing is None:
            self._borrowing = Borrowing(Tree.of(self.quotas, self.total), self.quotas)
            for one in self.held.values():
                self._borrowing.change((one.organization_id, one.project_id, one.member_id), needs(one.slices))
        return self._borrowing

    @property
    def promised(self) -> Mapping[str, list[Reservation]]:
        """The open reservations of each accelerator, by its id, in the order in which they begin."""
        if self._promised is None:
            self._promised = {}
            opened = self._tables[Reservation].values()
            for one in sorted(opened, key=lambda one: (one.from_us, one.id)):
                for share in (share for part in one.slices for share in part.shares):
                    self._promised.setdefault(share.accelerator_id, []).append(one)
        return self._promised

    def changed(self, before: Any | None, after: Any | None) -> None:
        """A warm row went from `before` to `after` (None: it is not warm)."""
        record = after if after is not None else before
        match record:
            case Job():
                self._job(before, after)
            case Allocation():
                self._allocation(before, after)
            case Attempt():
                if after is not None:
                    self.attempt[after.allocation_id] = after
                else:
                    self.attempt.pop(record.allocation_id, None)
            case Quota():
                self.quotas[record.scope_id] = record
                self._borrowing = None
                self.queue.unbind()
                self.holders.epoch += 1
            case Reservation():
                self._promised = None
                self.holders.epoch += 1
                for part in record.slices:  # when those who are there end depends on it
                    for name in self.on_node.get(part.node_id, ()):
                        self.endings.changed(name)
            case Node() | Accelerator() | Cluster() | Region():
                if self._capacity is not None and not self._capacity.renew(after):
                    self._capacity = None
                self.fleet_changes += 1
                self._borrowing = self._total = None
                self.queue.unbind()
                self.holders.epoch += 1

    def _allocation(self, before: Allocation | None, after: Allocation | None) -> None:
        record = after or before
        assert record is not None
        was, now = _holds(before), _holds(after)
        if was != now:
            self.holdings.change(record, 1 if now else -1)
            if self._borrowing is not None:
                owners = record.organization_id, record.project_id, record.member_id
                self._borrowing.change(owners, needs(record.slices), 1 if now else -1)
            if self._capacity is not None:
                self._capacity.hold(record.slices, -1 if now else 1)
        if now:
            self.held[record.job_id] = record
        elif was:
            self.held.pop(record.job_id, None)
        if now or was:
            self._whereabouts(record, now)
            self.holders.change(record, holds=now)
        if after is not None and not now:
            self.unsettled[record.id] = record
        else:
            self.unsettled.pop(record.id, None)

    def _whereabouts(self, allocation: Allocation, held: bool) -> None:
        """Keep in mind on which nodes an allocation is, whether it is in a reservation, and that its end may differ."""
        if held:
            self.endings.changed(allocation.id)
        else:
            self.endings.gone(allocation.id)
        for part in allocation.slices:
            if held:
                self.on_node[part.node_id][allocation.id] = allocation
            else:
                self.on_node[part.node_id].pop(allocation.id, None)
        if held and allocation.purchase == "reserved":
            self.reserved[allocation.id] = allocation
        else:
            self.reserved.pop(allocation.id, None)

    def _job(self, before: Job | None, after: Job | None) -> None:
        record = after or before
        assert record is not None
        if before is not None and before.state == JobState.QUEUED and (after is None or after.state != JobState.QUEUED):
            self.queue.remove(record.id)
        if after is not None and after.parent and after.spec.array is not None:
            self.parallel[after.id] = after.spec.array.parallel
        elif after is None and record.parent:
            self.parallel.pop(record.id, None)
        if record.parent_id is not None:
            self._child(record.parent_id, before, after)
        for job_id in before.after if before is not None else ():
            self.dependents[job_id].pop(record.id, None)
            if not self.dependents[job_id]:
                del self.dependents[job_id]
        self._making_way(record.id, after)
        if after is None:
            return
        for job_id in after.after:
            self.dependents[job_id][after.id] = None
        if before is None and not after.parent:
            want = Want.of(after.spec)
            for gpus in want.alternatives:
                self.demand.note(want.task(gpus), want.nodes_min)
        if after.state == JobState.QUEUED:
            self.queue.add(after, self.parallel.get(after.parent_id or "", 0), self.speeds_of(after))
        due_us = deadline_us(after, self.held.get(after.id))
        if due_us is not None:
            heapq.heappush(self.timers, (due_us, after.id))
            if len(self.timers) > LEFTOVERS + 2 * len(self._tables[Job]):
                self._sweep()

    def _making_way(self, job_id: str, after: Job | None) -> None:
        """Whose place is kept, who leaves one, and who could go on elsewhere."""
        if after is not None and after.state in HOLDING and can_return(after.spec):
            self.returning[job_id] = None
            if after.spec.nodes_max > after.spec.nodes_min:
                self.elastic[job_id] = None
        else:
            self.returning.pop(job_id, None)
            self.elastic.pop(job_id, None)
        if after is not None and after.state == JobState.QUEUED and after.claim:
            self.claims[job_id] = after.claim
        else:
            self.claims.pop(job_id, None)
        if after is not None and after.state in HOLDING and after.yields_to:
            self.leaving[job_id] = after.yields_to
        else:
            self.leaving.pop(job_id, None)

    def _sweep(self) -> None:
        """Drop the timers of jobs that have ended, and repeats: a long max_duration would keep them for as long."""
        jobs = self._tables[Job].values()
        dues = ((deadline_us(job, self.held.get(job.id)), job.id) for job in jobs)
        self.timers[:] = sorted((due_us, job_id) for due_us, job_id in dues if due_us is not None)

    def _child(self, parent_id: str, before: Job | None, after: Job | None) -> None:
        record = after or before
        assert record is not None
        if after is not None:
            self.children[parent_id][record.id] = None
        else:
            self.children[parent_id].pop(record.id, None)
            if not self.children[parent_id]:
                del self.children[parent_id]
        running = (after is not None and after.state in HOLDING) - (before is not None and before.state in HOLDING)
        self.running_children[parent_id] += running
        if not self.running_children[parent_id]:
            del self.running_children[parent_id]
