"""Order, borrowing and making way in random clouds, pass after pass until all work is done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as some

from headframe.base.quantities import MINUTE_US
from headframe.fleet.records import Accelerator, Allocation, Cluster, HoldState, Node, Region, Slice
from headframe.jobs.records import Job, JobState
from headframe.scheduling.borrowing import Borrowing, Tree
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.limits import Holdings, needs
from headframe.scheduling.order import ORDERS, Rules
from headframe.scheduling.place import place
from headframe.scheduling.plan import Plan
from headframe.scheduling.preempt import Holders
from headframe.scheduling.queue import CLASS_RANK, Bucket, Queue
from headframe.scheduling.shares import Shares
from headframe.scheduling.snapshot import Snapshot
from headframe.tenants.records import Quota, Scope
from headframe.workloads.spec import Checkpoints, Gpus, Resources, Spec

STEP_US = MINUTE_US
OWNERS = [("org_1", "prj_1a"), ("org_1", "prj_1b"), ("org_2", "prj_2a")]


@dataclass(frozen=True)
class Request:
    """One job of a world: when it comes, how long it runs, and what the spec says."""

    owner: int
    gpus: int
    nodes: int
    purchase: str
    priority: int
    comes: int
    runs: int


@dataclass
class World:
    nodes: list[int]
    requests: list[Request]
    quotas: dict[str, Quota]
    rules: Rules
    held: dict[str, Allocation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nodes = [Node(f"nod_{n}", "clu", f"node-{n}", 64_000, 65_536, 1000) for n in range(len(self.nodes))]
        devices = [
            Accelerator(f"acc_{n}_{at}", f"nod_{n}", at, "H100", "nvidia", 81_559)
            for n, count in enumerate(self.nodes)
            for at in range(count)
        ]
        self.capacity = Capacity(
            {"reg": Region("reg", "north")}, {"clu": Cluster("clu", "reg", "main", "")}, nodes, devices
        )
        self.total = {"gpu_milli": 1000 * sum(self.nodes), "cpu_milli": 64_000 * len(nodes), "memory_mib": 1 << 30}
        self.queue, self.holders, self.holdings = Queue(), Holders(), Holdings()
        self.borrowing = Borrowing(Tree.of(self.quotas, self.total), self.quotas)
        self.jobs: dict[str, Job] = {}
        self.left: dict[str, int] = {}
        self.claims: dict[str, tuple[Slice, ...]] = {}
        self.leaving: dict[str, str] = {}
        self.going: dict[str, int] = {}  # steps until one who makes way is gone
        self.started: set[str] = set()
        self.plans: list[object] = []
        self.now_us = 0

    def submit(self, number: int, one: Request) -> None:
        house, project = OWNERS[one.owner]
        spec = Spec(
            f"job-{number}", resources=Resources((Gpus("H100", one.gpus),), 1000, None, 256), nodes_min=one.nodes,
            nodes_max=one.nodes, purchase=one.purchase, priority=one.priority, checkpoints=Checkpoints("saved"),
        )  # fmt: skip
        job = Job(f"job_{number:02}", house, project, f"mem_{one.owner}", spec.name, spec, self.now_us)
        self.jobs[job.id], self.left[job.id] = job, one.runs
        self.queue.add(job, 0)

    def decide(self) -> Plan:
        holdings = self.holdings.copy()
        return place(
            Snapshot(
                self.capacity.scratch(), self.queue, self.jobs, self.quotas, holdings, {}, {}, lambda *owners: "",
                now_us=self.now_us, order=ORDERS[self.rules.order], rules=self.rules,
                borrowing=self.borrowing.copy(), holders=self.holders, claims=dict(self.claims),
                leaving=dict(self.leaving),
                shares=Shares({}, holdings, self.quotas, self.total, self.now_us, self.rules.half_life_us),
                remaining=lambda job: self.left[job.id] * STEP_US,
            )
        )  # fmt: skip

    def count(self, held: Allocation, sign: int) -> None:
        self.capacity.hold(held.slices, -sign)
        self.holdings.change(held, sign)
        self.borrowing.change((held.organization_id, held.project_id, held.member_id), needs(held.slices), sign)
        self.holders.change(held, holds=sign > 0)

    def start(self, job: Job, slices: tuple[Slice, ...]) -> None:
        held = Allocation(
            f"alc_{job.id}.{job.attempt + 1}", job.organization_id, job.project_id, job.member_id, job.id, "clu",
            job.attempt + 1, job.spec.purchase, slices, self.now_us, HoldState.RUNNING, self.now_us,
        )  # fmt: skip
        self.jobs[job.id] = replace(job, state=JobState.RUNNING, attempt=job.attempt + 1)
        self.queue.remove(job.id)
        self.claims.pop(job.id, None)
        self.held[job.id] = held
        self.count(held, 1)
        self.started.add(job.id)
        self.keeps_bounds(held)

    def release(self, job_id: str, *, over: bool) -> None:
        self.count(self.held.pop(job_id), -1)
        self.leaving.pop(job_id, None)
        self.going.pop(job_id, None)
        job = self.jobs.pop(job_id)
        if over:
            del self.left[job_id]
        else:
            self.jobs[job_id] = replace(
                job, state=JobState.QUEUED, yields_to="", ran_us=job.ran_us + STEP_US, not_before_us=self.now_us
            )
            self.queue.add(self.jobs[job_id], 0)

    def step(self) -> None:
        """Time goes on; then a pass, and all that it decides."""
        self.now_us += STEP_US
        for job_id in sorted(self.held):
            if job_id in self.going:
                self.going[job_id] -= 1
                if self.going[job_id] <= 0:
                    self.release(job_id, over=False)
                continue
            self.left[job_id] -= 1
            if self.left[job_id] <= 0:
                self.release(job_id, over=True)
        for number, one in enumerate(self.requests):
            if one.comes * STEP_US == self.now_us:
                self.submit(number, one)
        plan = self.decide()
        self.plans.append((plan.starts, plan.stops, plan.claims, plan.dropped))
        for job_id in plan.dropped:
            self.claims.pop(job_id)
        for stop in plan.stops:
            self.lawful(stop.job_id, stop.for_job_id, stop.cause)
            self.jobs[stop.job_id] = replace(self.jobs[stop.job_id], yields_to=stop.for_job_id)
            self.leaving[stop.job_id], self.going[stop.job_id] = stop.for_job_id, 1 + len(stop.job_id) % 2
        for one in plan.claims:
            self.claims[one.job.id] = one.slices
        for job, slices in plan.starts:
            self.start(job, slices)
        self.replaces(plan)
        assert (self.capacity.gpu >= 0).all()
        assert (self.capacity.cpu >= 0).all()

    def replaces(self, plan: Plan) -> None:
        """Whom others make way for has a place, and all such places are free once they are gone."""
        assert all(stop.for_job_id in self.claims for stop in plan.stops)
        later = self.capacity.scratch()
        for job_id in self.leaving:
            later.release(self.held[job_id].slices)
        for slices in self.claims.values():
            later.hold(slices)
        assert (later.gpu >= 0).all(), "somebody makes way for a job that does not fit then"
        assert (later.cpu >= 0).all()

    def lawful(self, job_id: str, whom: str, cause: str) -> None:
        """By rule only; and never one who is within what is guaranteed to it, or inside its own borrowing."""
        victim, waits = self.jobs[job_id], self.jobs[whom]
        theirs, mine = CLASS_RANK[victim.spec.purchase], CLASS_RANK[waits.spec.purchase]
        if cause == "class":
            assert theirs > mine
            assert theirs >= CLASS_RANK["spot"]
        elif cause == "priority":
            assert self.rules.by_priority
            assert theirs == mine
            assert victim.spec.priority < waits.spec.priority
        elif cause == "reclaim":
            assert theirs >= mine
            assert (victim.organization_id, victim.project_id) != (waits.organization_id, waits.project_id)
        else:
            assert cause == "turn"
            assert ORDERS[self.rules.order].takes_turns

    def keeps_bounds(self, begun: Allocation) -> None:
        for quota in self.quotas.values():
            of = [one for one in self.held.values() if quota.scope_id in (one.organization_id, one.project_id)]
            if begun not in of:
                continue
            held = sum(needs(one.slices)["gpu_milli"] for one in of)
            if "gpu_milli" in quota.borrow:
                assert held <= quota.guaranteed.get("gpu_milli", 0) + quota.borrow["gpu_milli"]
            assert quota.gpu_milli is None or held <= quota.gpu_milli


@some.composite
def quotas(draw: some.DrawFn) -> dict[str, Quota]:
    """Guarantees, bounds on borrowing that let the largest job through, weights."""
    made = {}
    for house, project in dict.fromkeys([*((house, "") for house, _ in OWNERS), *OWNERS]):
        if draw(some.booleans()):
            continue
        scope = Scope.PROJECT if project else Scope.ORGANIZATION
        own = 1000 * draw(some.integers(0, 2 if project else 4))
        made[project or house] = Quota(
            f"quo_{project or house}", house, scope, project or house, guaranteed={"gpu_milli": own},
            borrow=draw(some.sampled_from([{}, {"gpu_milli": 8000}])), weight=draw(some.sampled_from([500, 1000])),
        )  # fmt: skip
    return made


@some.composite
def worlds(draw: some.DrawFn, order: str | None = None) -> World:
    requests = draw(
        some.lists(
            some.builds(
                Request, owner=some.integers(0, 2), gpus=some.integers(1, 2), nodes=some.sampled_from([1, 1, 1, 2]),
                purchase=some.sampled_from(["on-demand", "on-demand", "spot", "filler"]),
                priority=some.sampled_from([10, 50, 90]), comes=some.integers(1, 12), runs=some.integers(1, 6),
            ),
            min_size=1, max_size=14,
        )
    )  # fmt: skip
    rules = Rules(
        order=order or draw(some.sampled_from(sorted(ORDERS))), quantum_us=2 * STEP_US,
        reclaim_after_us=draw(some.sampled_from([0, 2 * STEP_US])), by_priority=draw(some.booleans()),
        patience_us=draw(some.sampled_from([5 * STEP_US, 10_000 * STEP_US])),
    )  # fmt: skip
    return World(draw(some.sampled_from([[2, 2], [4], [2, 2, 1]])), requests, draw(quotas()), rules)


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_all_finite_work_gets_done_within_bounds_and_by_rule(world: World) -> None:
    for _ in range(600):
        world.step()
        if world.now_us > 12 * STEP_US and not world.jobs:
            break
    assert not world.jobs, f"{sorted(world.jobs)} starve"
    assert len(world.started) == len(world.requests)
    assert not world.claims
    assert not world.leaving
    assert all(world.borrowing.used(name, "gpu_milli") == 0 for name in ("org_1", "org_2", "prj_1a"))


@settings(max_examples=40, deadline=None)
@given(
    some.sampled_from(sorted(ORDERS)), some.integers(1, 5), some.sampled_from([0, 0, 2]),
    some.lists(some.integers(1, 3), min_size=1, max_size=4), some.booleans(),
)  # fmt: skip
def test_nobody_starves_however_much_comes(
    order: str, runs: int, owner: int, crowd: list[int], by_priority: bool
) -> None:
    """More keeps coming than can run, all of it shorter or more urgent: who waits gets its turns, and gets done."""
    world = World([2], [], {}, Rules(order, quantum_us=2 * STEP_US, patience_us=5 * STEP_US, by_priority=by_priority))
    world.submit(0, Request(owner, 1, 1, "on-demand", 10, 0, runs))
    for step in range(1, 80):
        for one in range(2 + step % 2):
            length = crowd[(step + one) % len(crowd)]
            world.submit(10 * step + one, Request(0, 1, 1, "on-demand", 90, step, length))
        world.step()
        if "job_00" not in world.jobs:
            return
    raise AssertionError(f"it starves under {order}")


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_the_same_world_takes_the_same_course_in_whatever_order_its_records_come(world: World) -> None:
    other = World(world.nodes, world.requests, dict(reversed(world.quotas.items())), world.rules)
    for _ in range(40):
        world.step()
        other.jobs = dict(reversed(other.jobs.items()))
        other.holders.by_class = {
            name: dict(reversed(row.items())) for name, row in reversed(other.holders.by_class.items())
        }
        other.step()
    assert world.plans == other.plans


@settings(max_examples=40, deadline=None)
@given(worlds(), some.sampled_from([-300, -13, -1, 20, 100_000]))
def test_a_clock_that_jumps_loses_nobody(world: World, steps: int) -> None:
    """Backwards, to before everything began, or far ahead: all that waits and runs still gets done."""
    for _ in range(12):
        world.step()
    world.now_us += steps * STEP_US
    world.requests = []
    for _ in range(600):
        world.step()
        if not world.jobs:
            return
    raise AssertionError(f"{sorted(world.jobs)} starve")


@settings(max_examples=60, deadline=None)
@given(worlds(), some.lists(some.integers(0, 3), min_size=2, max_size=2))
def test_what_an_owner_does_not_lend_is_never_held_by_others(world: World, kept: list[int]) -> None:
    """A guarantee of which nothing is lent stays free for its owner, whoever waits, at every moment."""
    houses = {"org_1": 1000 * kept[0], "org_2": 1000 * min(kept[1], sum(world.nodes) - kept[0])}
    limits = {
        name: Quota(f"quo_{name}", name, Scope.ORGANIZATION, name, guaranteed={"gpu_milli": own}, lend={"gpu_milli": 0})
        for name, own in houses.items()
    }
    world = World(world.nodes, world.requests, limits, world.rules)
    for _ in range(40):
        world.step()
        held = dict.fromkeys(houses, 0)
        for one in world.held.values():
            held[one.organization_id] += needs(one.slices)["gpu_milli"]
        assert sum(max(held[name], own) for name, own in houses.items()) <= world.total["gpu_milli"]


@settings(max_examples=60, deadline=None)
@given(worlds("fair"))
def test_who_is_promised_a_place_gets_it(world: World) -> None:
    """A place that was kept is used, unless its job finds another or its turn comes otherwise."""
    promised: dict[str, int] = {}
    for _ in range(200):
        world.step()
        for job_id in world.claims:
            promised[job_id] = promised.get(job_id, 0) + 1
            assert promised[job_id] < 20, f"{job_id} waits for a place that does not come"
        if world.now_us > 12 * STEP_US and not world.jobs:
            break
    assert set(promised) <= world.started


@some.composite
def guarantees(draw: some.DrawFn) -> dict[str, Quota]:
    """Of some organizations, which may borrow under one of them, and of some projects."""
    made = {}
    for name in ("org_1", "org_2", "org_3", "prj_1a", "prj_2a"):
        if draw(some.booleans()):
            scope = Scope.PROJECT if name.startswith("prj") else Scope.ORGANIZATION
            house, own = f"org_{name[4]}", 1000 * draw(some.integers(0, 3))
            above = "org_1" if name in ("org_2", "org_3") and draw(some.booleans()) else ""
            made[name] = Quota(f"quo_{name}", house, scope, name, guaranteed={"gpu_milli": own}, parent_id=above)
    return made


@settings(max_examples=120, deadline=None)
@given(
    some.lists(
        some.tuples(some.integers(0, 4), some.sampled_from([1, 1, 2]), some.sampled_from([50, 75])), max_size=24
    ),
    guarantees(),
)
def test_each_start_goes_to_whom_the_order_puts_first_at_that_moment(
    waiting: list[tuple[int, int, int]], limits: dict[str, Quota]
) -> None:
    """Shares, and what is borrowed, grow with each start; the queue, which asks for few keys, comes to the same as
    asking for all."""
    owners = [("org_1", "prj_1a"), ("org_1", "prj_1b"), ("org_2", "prj_2a"), ("org_2", "prj_2b"), ("org_3", "prj_3a")]
    world = World([8], [], {}, Rules())
    for number, (owner, gpus, priority) in enumerate(waiting):
        spec = Spec(f"job-{number}", resources=Resources((Gpus("H100", gpus),), 1000, None, 256), priority=priority)
        job = Job(f"job_{number:02}", *owners[owner], "mem", spec.name, spec, number)
        world.jobs[job.id] = job
        world.queue.add(job, 0)
    holdings = Holdings()
    view = Snapshot(
        world.capacity, world.queue, world.jobs, {}, holdings, {}, {}, lambda *_: "",
        shares=Shares({}, holdings, {}, world.total, 0, 1000),
        borrowing=Borrowing(Tree.of(limits, world.total), limits),
    )  # fmt: skip
    left = dict(world.jobs)

    def visit(bucket: Bucket, job_id: str) -> bool:
        keys = {name: view.key(found, (job.submitted_us, name)) for name, job in left.items()
                if (found := world.queue.bucket(name)) is not None}  # fmt: skip
        assert job_id == min(keys, key=lambda name: keys[name])
        amounts = {"gpu_milli": 1000 * bucket.want.resources.gpus[0].count}
        holdings.add(amounts, bucket.owners)
        assert view.borrowing is not None
        view.borrowing.change(bucket.owners, amounts)
        assert view.shares is not None
        view.shares.forget(bucket.organization_id)
        view.shares.forget(bucket.project_id)
        del left[job_id]
        return True

    world.queue.in_order(visit, view)
    assert not left
