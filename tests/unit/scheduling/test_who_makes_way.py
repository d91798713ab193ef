"""Who makes way for whom, on fleets small enough to follow by eye."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headframe.base.quantities import HOUR_US, MINUTE_US, SECOND_US
from headframe.fleet.records import (
    Accelerator,
    Allocation,
    Cluster,
    HoldState,
    Node,
    Region,
    Reservation,
    ReservationState,
    Share,
    Slice,
)
from headframe.jobs.records import Attempt, Job, JobState
from headframe.scheduling.agenda import Agenda, Timetable
from headframe.scheduling.borrowing import Borrowing, Tree
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.fit import fit
from headframe.scheduling.limits import Holdings, needs
from headframe.scheduling.order import ORDERS, Rules
from headframe.scheduling.place import FEW, LOOK_US, place
from headframe.scheduling.plan import Plan
from headframe.scheduling.preempt import Holders
from headframe.scheduling.queue import Queue
from headframe.scheduling.snapshot import Snapshot
from headframe.scheduling.want import Want
from headframe.tenants.records import Quota, Scope
from headframe.workloads.spec import Checkpoints, Gpus, Resources, Retry, Spec

NOW_US = 10 * HOUR_US


class Floor:
    """A small cloud: `run` puts a job on it, `wait` in the queue; `decide` is a pass."""

    def __init__(self, *gpus: int, quotas: tuple[Quota, ...] = (), order: str = "fair", **rules: Any) -> None:
        nodes = [Node(f"nod_{n}", "clu", f"node-{n}", 64_000, 65_536, 1000) for n in range(len(gpus))]
        devices = [
            Accelerator(f"acc_{n}_{index}", f"nod_{n}", index, "H100", "nvidia", 81_559)
            for n, count in enumerate(gpus)
            for index in range(count)
        ]
        where = {"reg": Region("reg", "north")}, {"clu": Cluster("clu", "reg", "main", "scripted")}
        self.capacity, self.queue, self.holders = Capacity(*where, nodes, devices), Queue(), Holders()
        self.quotas = {one.scope_id: one for one in quotas}
        self.order, self.rules, self.holdings = ORDERS[order], Rules(order=order, **rules), Holdings()
        self.borrowing = Borrowing(Tree.of(self.quotas, {"gpu_milli": sum(gpus) * 1000}), self.quotas)
        self.jobs: dict[str, Job] = {}
        self.attempts: dict[str, Attempt] = {}
        self.held: dict[str, Allocation] = {}

    def job(self, name: str, gpus: int = 1, nodes: int = 1, owner: str = "a", **fields: Any) -> Job:
        asked = {key: value for key, value in fields.items() if key in Spec.__dataclass_fields__}
        rest = {key: value for key, value in fields.items() if key not in asked}
        spec = Spec(
            name, resources=Resources((Gpus("H100", gpus),)), nodes_min=nodes, nodes_max=nodes, retry=Retry(),
            checkpoints=Checkpoints("saved"), **asked,
        )  # fmt: skip
        job = Job(f"job_{name}", f"org_{owner[0]}", f"prj_{owner}", "mem", name, spec, len(self.jobs), **rest)
        self.jobs[job.id] = job
        return job

    def wait(self, name: str, *args: Any, **fields: Any) -> Job:
        job = self.job(name, *args, **fields)
        self.queue.add(job, 0)
        return job

    def run(self, name: str, *args: Any, since_us: int = 0, saved_us: int | None = None, **fields: Any) -> Job:
        job = self.job(name, *args, state=JobState.RUNNING, **fields)
        slices = fit(self.capacity, Want.of(job.spec))
        assert slices is not None
        self.capacity.hold(slices)
        held = Allocation(
            f"alc_{name}", job.organization_id, job.project_id, "mem", job.id, "clu", 1, job.spec.purchase, slices,
            since_us, HoldState.RUNNING, since_us,
        )  # fmt: skip
        self.held[job.id] = held
        self.holders.change(held, holds=True)
        self.holdings.change(held, 1)
        self.borrowing.change((held.organization_id, held.project_id, "mem"), needs(slices))
        self.attempts[held.id] = Attempt(f"att_{name}", job.id, 1, held.id, 0, checkpoint_us=saved_us)
        return job

    def gone(self, name: str) -> None:
        held = self.held.pop(f"job_{name}")
        self.capacity.release(held.slices)
        self.holders.change(held, holds=False)
        self.holdings.change(held, -1)
        self.borrowing.change((held.organization_id, held.project_id, "mem"), needs(held.slices), -1)
        self.jobs.pop(held.job_id)

    def decide(
        self,
        claims: dict[str, Any] | None = None,
        leaving: dict[str, str] | None = None,
        now_us: int = NOW_US,
        table: Timetable | None = None,
        blocked: str = "",
    ) -> Plan:
        """A pass; `table` is what is known of the time to come, `blocked` a project that may start nothing."""
        capacity = self.capacity.scratch()
        return place(
            Snapshot(
                capacity, self.queue, self.jobs, self.quotas, self.holdings.copy(), {}, {},
                lambda _, project, __: "budget" if project == blocked else "", now_us=now_us, order=self.order,
                rules=self.rules, borrowing=self.borrowing.copy(), holders=self.holders, attempts=self.attempts,
                claims=claims or {}, leaving=leaving or {}, agenda=Agenda(now_us, capacity, table) if table else None,
            )
        )  # fmt: skip


def stopped(plan: Plan) -> list[tuple[str, str]]:
    return [(one.job_id.removeprefix("job_"), one.cause) for one in plan.stops]


def guaranteed(project: str, gpus: int, scope: Scope = Scope.PROJECT) -> Quota:
    house = f"org_{project[4]}"
    return Quota(f"quo_{project}", house, scope, project, guaranteed={"gpu_milli": gpus * 1000})


def test_a_lower_class_makes_way_the_lowest_first_and_only_as_many_as_needed() -> None:
    floor = Floor(4)
    floor.run("spot-1", purchase="spot")
    floor.run("spot-2", purchase="spot")
    floor.run("filler", purchase="filler")
    floor.run("mine")
    floor.wait("new", 2)
    plan = floor.decide()
    assert stopped(plan) == [("filler", "class"), ("spot-1", "class")] or stopped(plan) == [
        ("filler", "class"), ("spot-2", "class"),
    ]  # fmt: skip
    assert [claim.job.id for claim in plan.claims] == ["job_new"]
    assert plan.starts == ()


def test_nobody_of_the_same_or_a_higher_class_makes_way() -> None:
    floor = Floor(2)
    floor.run("on-demand", 2)
    floor.wait("other", 2, priority=100)
    floor.wait("spot", 2, purchase="spot")
    floor.wait("filler", 2, purchase="filler")
    plan = floor.decide()
    assert not plan
    assert set(plan.refused.values()) == {"no_capacity"}


def test_nobody_is_stopped_when_that_would_not_be_enough() -> None:
    floor = Floor(2, 2)
    floor.run("spot", purchase="spot")
    floor.run("mine", 2)
    floor.wait("whole", 2, nodes=2)
    assert not floor.decide()


def test_the_cheapest_lost_work_goes_first_and_what_is_saved_is_not_lost() -> None:
    floor = Floor(3)
    floor.run("long", purchase="spot", since_us=NOW_US - 5 * HOUR_US)
    floor.run("long-but-saved", purchase="spot", since_us=NOW_US - 9 * HOUR_US, saved_us=NOW_US - MINUTE_US)
    floor.run("short", purchase="spot", since_us=NOW_US - HOUR_US)
    floor.wait("one")
    assert stopped(floor.decide()) == [("long-but-saved", "class")]
    floor.wait("two")
    assert stopped(floor.decide()) == [("long-but-saved", "class"), ("short", "class")]


def test_of_many_cheap_ones_only_those_are_stopped_whose_place_is_used() -> None:
    floor = Floor(1, 1, 1, 1, 4)
    for number in range(4):
        floor.run(f"small-{number}", purchase="spot", since_us=NOW_US - MINUTE_US)
    floor.run("big", 4, purchase="spot", since_us=NOW_US - HOUR_US)
    floor.wait("wide", 4)
    assert stopped(floor.decide()) == [("big", "class")]


def test_a_gang_that_is_stopped_gives_all_of_its_nodes_back() -> None:
    floor = Floor(2, 2)
    floor.run("gang", 2, nodes=2, purchase="spot")
    floor.wait("one", 2)
    floor.wait("two", 2)
    plan = floor.decide()
    assert stopped(plan) == [("gang", "class")]
    assert [claim.job.id for claim in plan.claims] == ["job_one"], "the rest is free only when the gang is gone"


def test_a_place_is_kept_until_it_is_free_and_then_used() -> None:
    floor = Floor(2)
    floor.run("spot", 2, purchase="spot")
    waiting = floor.wait("new", 1)
    (promise,) = floor.decide().claims
    floor.jobs["job_spot"] = replace(floor.jobs["job_spot"], yields_to=waiting.id)
    floor.wait("later", 2, purchase="filler")
    kept = {waiting.id: promise.slices}
    again = floor.decide(kept, {"job_spot": waiting.id})
    assert not again, "nothing new is ordered while it goes"
    floor.gone("spot")
    floor.wait("also", 1)
    plan = floor.decide(kept)
    assert [one.job.id for one in plan.starts] == ["job_new", "job_also"]
    assert plan.starts[0].slices == promise.slices


def test_a_place_that_nobody_leaves_any_more_is_given_up() -> None:
    floor = Floor(1)
    floor.run("mine")
    waiting = floor.wait("new")
    place_of_mine = floor.held["job_mine"].slices
    plan = floor.decide({waiting.id: place_of_mine})
    assert plan.dropped == (waiting.id,)


def test_an_owner_takes_back_what_is_guaranteed_to_it() -> None:
    quotas = guaranteed("prj_a", 2), guaranteed("prj_ab", 2)
    quotas = tuple(replace(one, organization_id="org_a") for one in quotas)
    floor = Floor(4, quotas=quotas)
    for number in range(4):
        floor.run(f"b-{number}", owner="ab", since_us=NOW_US - (number + 1) * HOUR_US)
    for number in range(3):
        floor.wait(f"a-{number}", owner="a")
    plan = floor.decide()
    assert stopped(plan) == [("b-0", "reclaim"), ("b-1", "reclaim")]
    assert [claim.job.id for claim in plan.claims] == ["job_a-0", "job_a-1"], "the third would be borrowed"
    assert "guaranteed" in plan.stops[0].text


def test_taking_back_leaves_others_their_own() -> None:
    quotas = tuple(replace(guaranteed(name, 2), organization_id="org_a") for name in ("prj_a", "prj_ab", "prj_ac"))
    floor = Floor(6, quotas=quotas)
    floor.run("b-1", 2, owner="ab")
    floor.run("c-1", 4, owner="ac")
    floor.wait("a-1", 2, owner="a")
    assert stopped(floor.decide()) == [("c-1", "reclaim")]


def test_an_owner_takes_back_in_time_though_of_many_who_wait_few_are_looked_at() -> None:
    house = replace(guaranteed("org_a", 4, Scope.ORGANIZATION), organization_id="org_a", borrow={"gpu_milli": 0})
    parts = (replace(guaranteed(name, 2), organization_id="org_a") for name in ("prj_a", "prj_ab"))
    floor = Floor(8, quotas=(house, *parts))
    floor.run("b-1", 4, owner="ab")
    for number in range(FEW + 1):
        floor.wait(f"b-{number}-waits", owner="ab")
    floor.wait("a-1", owner="a", not_before_us=NOW_US)
    due_us = NOW_US + floor.rules.reclaim_after_us
    moments = NOW_US, NOW_US + SECOND_US, due_us - SECOND_US
    wakes = [floor.decide(now_us=moment).wake_us for moment in moments]
    assert wakes == [due_us, NOW_US + LOOK_US, due_us], "between two looks at all, at the second of them"
    plan = floor.decide(now_us=due_us)
    assert stopped(plan) == [("b-1", "reclaim")]
    assert [claim.job.id for claim in plan.claims] == ["job_a-1"]


def test_what_is_on_its_way_out_is_not_taken_back_twice() -> None:
    quotas = tuple(replace(guaranteed(name, 2), organization_id="org_a") for name in ("prj_a", "prj_ab"))
    floor = Floor(4, quotas=quotas)
    for number in range(4):
        floor.run(f"b-{number}", owner="ab")
    first = floor.wait("a-1", 1, owner="a")
    (claim,) = floor.decide().claims
    floor.jobs["job_b-0"] = replace(floor.jobs["job_b-0"], yields_to=first.id)
    floor.wait("a-2", 1, owner="a")
    floor.wait("a-3", 1, owner="a")
    plan = floor.decide({first.id: claim.slices}, {"job_b-0": first.id})
    assert len(plan.stops) == 1, "b keeps the two that are its own"


def test_priority_stops_others_only_where_the_cloud_says_so() -> None:
    for by_priority, expected in ((False, []), (True, [("low", "priority")])):
        floor = Floor(2, by_priority=by_priority)
        floor.run("low", priority=10)
        floor.run("same", priority=60)
        floor.wait("high", priority=60)
        assert stopped(floor.decide()) == expected


def test_turns_are_taken_after_a_quantum_and_by_whom_has_had_less() -> None:
    floor = Floor(1, order="least-attained-service", quantum_us=HOUR_US)
    floor.run("old", since_us=NOW_US - HOUR_US // 2, ran_us=5 * HOUR_US)
    floor.wait("new")
    plan = floor.decide()
    assert not plan
    assert plan.wake_us == NOW_US + HOUR_US // 2
    floor.attempts.clear()
    late = Floor(1, order="least-attained-service", quantum_us=HOUR_US)
    late.run("old", since_us=NOW_US - 3 * HOUR_US)
    late.wait("new")
    assert stopped(late.decide()) == [("old", "turn")]
    even = Floor(1, order="least-attained-service", quantum_us=HOUR_US)
    even.run("old", since_us=NOW_US - HOUR_US)
    even.wait("had-as-much", ran_us=HOUR_US // 2)
    assert not even.decide(), "it would not come first after a quantum of its own"


def test_jobs_inside_a_reservation_stay() -> None:
    floor = Floor(1)
    floor.run("promised", purchase="spot", reservation="res_1")
    floor.wait("new")
    assert not floor.decide()


def test_a_hard_quota_is_met_by_stopping_ones_own_lower_class() -> None:
    floor = Floor(4, quotas=(Quota("quo", "org_a", Scope.PROJECT, "prj_a", gpu_milli=2000),))
    floor.run("spot-1", purchase="spot")
    floor.run("spot-2", purchase="spot")
    floor.run("others", purchase="spot", owner="b")
    floor.wait("new", 1)
    plan = floor.decide()
    assert len(plan.stops) == 1
    assert plan.stops[0].job_id in ("job_spot-1", "job_spot-2")


def test_nobody_makes_way_for_whom_a_budget_holds_back() -> None:
    """Though one that asks for the same, and comes before it, has found no room."""
    quotas = tuple(replace(guaranteed(name, 2), organization_id="org_a") for name in ("prj_a", "prj_ab"))
    floor = Floor(4, quotas=quotas)
    for number in range(4):
        floor.run(f"b-{number}", owner="ab", since_us=NOW_US - HOUR_US)
    floor.wait("c-1", owner="ac", priority=90)
    floor.wait("a-1", owner="a")
    plan = floor.decide(blocked="prj_a")
    assert stopped(plan) == []
    assert sorted(plan.refused.values()) == ["budget", "no_capacity"]
    assert stopped(floor.decide()) == [("b-0", "reclaim")]


def test_who_was_stopped_in_vain_once_is_thought_of_again_when_a_promise_is_over() -> None:
    floor = Floor(1, 1)
    floor.run("spot", purchase="spot")
    (held,) = floor.held["job_spot"].slices
    other = next(node.id for node in floor.capacity.nodes if node.id != held.node_id)
    row = floor.capacity.row[other]
    share = Share(floor.capacity.devices[row][0].id, 0, "H100", 1000)
    promised = Reservation(
        "res", "org_b", "exam", NOW_US, NOW_US + HOUR_US, kind="H100", count=1, state=ReservationState.ACTIVE,
        slices=(Slice(0, other, 64_000, 65_536, 1000, (share,)),),
    )  # fmt: skip
    floor.wait("pair", 1, nodes=2)
    assert not floor.decide(table=Timetable({"res": promised})).stops
    assert stopped(floor.decide(now_us=NOW_US + 2 * HOUR_US, table=Timetable())) == [("spot", "class")]
