"""Kueue's own performance workloads: thousands of small workloads in many queues that borrow inside cohorts.

What is made: the workloads of test/performance/scheduler/configs (kubernetes-sigs/kueue), by their numbers. Each cohort
is an organization, each of its queues a project with a guarantee and a bound on borrowing; room is never short, only
quotas bind. What is measured: when the last workload ends, if arrivals and runs go by a virtual clock, but every
decision (taking in what arrives, giving back what ends, the pass itself) takes the time that it really takes here: the
clock goes on while it is made, and what starts, starts when it is done. Not in it: a store, an API, engines. The least
possible is what the quotas of a cohort need for its work; what can be reached is later, as work only comes by and by.
"""

from __future__ import annotations

import gc
import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from headframe.base.quantities import MILLI, SECOND_US
from headframe.control.garbage import keep_start
from headframe.fleet.records import Allocation, Cluster, HoldState, Node, Region, Slice
from headframe.jobs.records import Job, JobState
from headframe.scheduling.borrowing import Borrowing, Tree
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.limits import Holdings, needs
from headframe.scheduling.order import RULES
from headframe.scheduling.packing import packing_named
from headframe.scheduling.place import place
from headframe.scheduling.plan import Plan
from headframe.scheduling.preempt import Holders
from headframe.scheduling.queue import Queue
from headframe.scheduling.shares import Shares
from headframe.scheduling.snapshot import Snapshot
from headframe.tenants.records import Quota, Scope
from headframe.workloads.spec import Resources, Spec
from headframe.yardsticks.records import MUST, SHOWN, Options, Row

TOLERANCE = 1.1  # of the least possible
MS_US = 1000
DEADLINE = 40  # times the least possible: a run that is not done by then is given up


@dataclass(frozen=True, slots=True)
class Kind:
    """Workloads of one size in a queue: how many, how often one arrives, how long it runs, what it asks for."""

    name: str
    count: int
    every_ms: int
    runs_ms: int
    priority: int
    cpus: int


@dataclass(frozen=True, slots=True)
class Setting:
    """A configuration: so many cohorts of so many queues, each with its guarantee and its bound on borrowing."""

    cohorts: int
    queues: int
    guaranteed: int
    borrow: int
    kinds: tuple[Kind, ...]
    published_s: float  # what Kueue takes

    @property
    def least_s(self) -> float:
        """What the quotas of a cohort need for its work at the least, if all of it came at once."""
        return sum(kind.count * kind.cpus * kind.runs_ms for kind in self.kinds) / 1000 / self.guaranteed

    @property
    def soonest_s(self) -> float:
        """When it can all have ended, as it comes: whatever starts when, at no moment can more of a workload have been
        done than since it came, nor can what is left then be done faster than by the whole quota."""
        coming = [(number * kind.every_ms, kind) for kind in self.kinds for number in range(1, kind.count + 1)]

        def ends_ms(now_ms: int) -> float:
            left = sum(kind.cpus * (kind.runs_ms - min(max(now_ms - at, 0), kind.runs_ms)) for at, kind in coming)
            return now_ms + left / self.guaranteed

        return max(ends_ms(now_ms) for now_ms in sorted({at for at, _ in coming})) / 1000

    @property
    def workloads(self) -> int:
        return self.cohorts * self.queues * sum(kind.count for kind in self.kinds)


BASELINE = Setting(
    5, 6, 20, 100,
    (Kind("small", 350, 100, 200, 50, 1), Kind("medium", 100, 500, 500, 75, 5), Kind("large", 50, 1200, 1000, 100, 20)),
    351.1,
)  # fmt: skip
LARGE = Setting(
    10, 100, 20, 100,
    (Kind("small", 35, 60, 150, 50, 1), Kind("medium", 11, 300, 350, 75, 5), Kind("large", 4, 700, 700, 100, 20)),
    1179.0,
)  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """What became of a run, in seconds: `decided_s` is what all decisions took, `waits_s` the mean wait by kind."""

    ended_s: float = 0.0
    decided_s: float = 0.0
    passes: int = 0
    starts: int = 0
    stopped: int = 0
    waits_s: dict[str, float] = field(default_factory=dict)


class _World:
    """The warm state that the loop keeps for scheduling, without a store behind it."""

    def __init__(self, setting: Setting) -> None:
        node = Node("nod", "clu", "node", 1 << 40, 1 << 40, 1 << 40)
        self.capacity = Capacity(
            {"reg": Region("reg", "")}, {"clu": Cluster("clu", "reg", "", "")}, [node], [],
            packing=packing_named("first"),
        )  # fmt: skip
        self.queue, self.holdings, self.holders = Queue(), Holdings(), Holders()
        self.quotas: dict[str, Quota] = {}
        for cohort in range(setting.cohorts):
            own = {"cpu_milli": setting.guaranteed * setting.queues * MILLI}
            name = f"org-{cohort}"
            self.quotas[name] = Quota(
                f"quo-{name}", name, Scope.ORGANIZATION, name, guaranteed=own, borrow={"cpu_milli": 0}
            )
            for queue in range(setting.queues):
                project = f"prj-{cohort}-{queue}"
                self.quotas[project] = Quota(
                    f"quo-{project}", name, Scope.PROJECT, project,
                    guaranteed={"cpu_milli": setting.guaranteed * MILLI}, borrow={"cpu_milli": setting.borrow * MILLI},
                )  # fmt: skip
        self.total = {"cpu_milli": setting.guaranteed * setting.queues * setting.cohorts * MILLI}
        self.borrowing = Borrowing(Tree.of(self.quotas, self.total), self.quotas)
        self.jobs: dict[str, Job] = {}
        self.held: dict[str, Allocation] = {}
        self.claims: dict[str, tuple[Slice, ...]] = {}

    def submit(self, job: Job) -> None:
        self.jobs[job.id] = job
        self.queue.add(job, 0)

    def decide(self, now_us: int) -> Plan:
        holdings = self.holdings.copy()
        return place(
            Snapshot(
                self.capacity.scratch(), self.queue, self.jobs, self.quotas, holdings, {}, {}, lambda *_owners: "",
                now_us=now_us, borrowing=self.borrowing.copy(), holders=self.holders, claims=self.claims,
                shares=Shares({}, holdings, self.quotas, self.total, now_us, RULES.half_life_us),
            )
        )  # fmt: skip

    def start(self, job: Job, slices: tuple[Slice, ...], now_us: int) -> None:
        owners = job.organization_id, job.project_id, job.member_id
        held = Allocation(
            job.id, *owners, job.id, "clu", 1, job.spec.purchase, slices, now_us, HoldState.RUNNING, now_us
        )  # fmt: skip
        self.queue.remove(job.id)
        self.claims.pop(job.id, None)
        self._count(held, holds=True)
        self.held[job.id] = held

    def end(self, job_id: str) -> None:
        self._count(self.held.pop(job_id), holds=False)
        del self.jobs[job_id]

    def stop(self, job_id: str) -> None:
        """It makes way: it waits again, and what it has done is lost."""
        self._count(self.held.pop(job_id), holds=False)
        self.queue.add(self.jobs[job_id], 0)

    def _count(self, held: Allocation, *, holds: bool) -> None:
        sign = 1 if holds else -1
        owners, amounts = (held.organization_id, held.project_id, held.member_id), needs(held.slices)
        self.capacity.hold(held.slices, -sign)
        self.holdings.add(amounts, owners, sign)
        self.borrowing.change(owners, amounts, sign)
        self.holders.change(held, holds=holds)


def arrivals(setting: Setting) -> list[tuple[int, Kind, Job]]:
    """(moment, kind, job) of all workloads, in order. In each queue, each kind comes at its own pace."""
    specs = {
        kind.name: Spec(
            kind.name, resources=Resources(cpu_milli=kind.cpus * MILLI, memory_mib=1), priority=kind.priority
        )
        for kind in setting.kinds
    }  # fmt: skip
    made = []
    for cohort in range(setting.cohorts):
        for queue in range(setting.queues):
            for kind in setting.kinds:
                for number in range(kind.count):
                    at_us = (number + 1) * kind.every_ms * MS_US
                    name = f"{kind.name}-{number}-{cohort}-{queue}"
                    project = f"prj-{cohort}-{queue}"
                    job = Job(
                        name, f"org-{cohort}", project, f"mem-{cohort}-{queue}", name, specs[kind.name], at_us,
                        JobState.QUEUED,
                    )  # fmt: skip
                    made.append((at_us, kind, job))
    return sorted(made, key=lambda one: (one[0], one[2].id))


def run(setting: Setting) -> Outcome:
    """Let all workloads arrive, run and end."""
    world, outcome = _World(setting), Outcome()
    coming = arrivals(setting)
    kinds = {job.id: kind for _, kind, job in coming}
    waits_us: dict[str, int] = dict.fromkeys((kind.name for kind in setting.kinds), 0)
    ends: list[tuple[int, str, int]] = []  # (moment, job, which start of it)
    tries: dict[str, int] = {}
    place_at, now_us, decided_ns = 0, 0, 0
    keep_start()
    while place_at < len(coming) or ends:
        came, place_at = _due(coming, place_at, now_us)
        over = []
        while ends and ends[0][0] <= now_us:
            _, job_id, number = heapq.heappop(ends)
            if tries[job_id] == number and job_id in world.held:
                over.append(job_id)
        if not came and not over and not world.claims:
            moments = [ends[0][0]] if ends else []
            moments += [coming[place_at][0]] if place_at < len(coming) else []
            now_us = max(now_us, min(moments))
            continue
        began = time.process_time_ns()
        for job_id in over:
            world.end(job_id)
        for job in came:
            world.submit(job)
        plan = world.decide(now_us)
        for order in plan.stops:
            world.stop(order.job_id)
        for job, slices in plan.starts:
            world.start(job, slices, now_us)
        world.claims.update({claim.job.id: claim.slices for claim in plan.claims})
        for job_id in plan.dropped:
            world.claims.pop(job_id, None)
        took_ns = time.process_time_ns() - began
        decided_ns += took_ns
        now_us += max(took_ns // 1000, 1)
        for job, _ in plan.starts:
            tries[job.id] = tries.get(job.id, 0) + 1
            heapq.heappush(ends, (now_us + kinds[job.id].runs_ms * MS_US, job.id, tries[job.id]))
            waits_us[kinds[job.id].name] += (now_us - job.submitted_us) if tries[job.id] == 1 else 0
        outcome.passes, outcome.starts = outcome.passes + 1, outcome.starts + len(plan.starts)
        outcome.stopped += len(plan.stops)
        if now_us > DEADLINE * setting.least_s * SECOND_US:
            break
    gc.unfreeze()
    outcome.ended_s, outcome.decided_s = now_us / SECOND_US, decided_ns / 1e9
    totals = {kind.name: kind.count * setting.queues * setting.cohorts for kind in setting.kinds}
    outcome.waits_s = {name: waits_us[name] / totals[name] / SECOND_US for name in totals}
    return outcome


def _due(coming: list[tuple[int, Kind, Job]], start: int, now_us: int) -> tuple[list[Job], int]:
    came = []
    while start < len(coming) and coming[start][0] <= now_us:
        came.append(coming[start][2])
        start += 1
    return came, start


def _rows(name: str, setting: Setting, options: Options) -> Iterator[Row]:
    options.tell(f"{setting.workloads} workloads of {setting.cohorts * setting.queues} queues")
    outcome = run(setting)
    least_s = setting.least_s
    case = f"{setting.workloads:,} workloads, {setting.cohorts * setting.queues:,} queues"
    rule = (
        f"at most {TOLERANCE:g} times the {least_s:.1f} s that the quotas need at the least; Kueue's time is published"
    )
    passed = outcome.starts >= setting.workloads and outcome.ended_s <= TOLERANCE * least_s
    yield Row(name, case, "seconds until the last one ends", setting.published_s, outcome.ended_s, passed, MUST, rule)
    soonest_s = round(setting.soonest_s, 3)
    yield Row(name, case, "seconds that it takes if deciding takes none", None, soonest_s, None, SHOWN)
    yield Row(name, case, "seconds of deciding in that", None, round(outcome.decided_s, 3), None, SHOWN)
    yield Row(name, case, "passes", None, outcome.passes, None, SHOWN)
    yield Row(name, case, "stopped and started again", None, outcome.stopped, None, SHOWN)
    for kind, wait_s in outcome.waits_s.items():
        yield Row(name, case, f"mean seconds of waiting, {kind}", None, round(wait_s, 3), None, SHOWN)


def kueue_15k(_data: Path | None, options: Options) -> Iterator[Row]:
    """The configuration `baseline`."""
    yield from _rows("kueue-15k", BASELINE, options)


def kueue_50k(_data: Path | None, options: Options) -> Iterator[Row]:
    """The configuration `large-scale` as it was with 1,000 queues."""
    yield from _rows("kueue-50k", LARGE, options)
