"""Placing, on fleets small enough to follow by eye."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headframe.base.errors import Impossible
from headframe.fleet.records import Accelerator, Allocation, Cluster, Node, Region
from headframe.jobs.records import Job
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.explain import refuse_impossible, words
from headframe.scheduling.fit import fit
from headframe.scheduling.limits import Holdings
from headframe.scheduling.place import LOOK_US, PASS_LIMIT, judge, place
from headframe.scheduling.queue import Bucket, Queue
from headframe.scheduling.snapshot import Snapshot
from headframe.scheduling.waiting import Around, tell
from headframe.scheduling.want import Want
from headframe.tenants.records import Quota, Scope
from headframe.workloads.spec import Gpus, Resources, Spec

REGIONS, CLUSTERS = {"reg": Region("reg", "north")}, {"clu": Cluster("clu", "reg", "main", "scripted")}


def capacity(*gpus: int, cpu_milli: int = 64_000, **node: Any) -> Capacity:
    """One node for each number of H100s; two devices share a fast link."""
    nodes = [Node(f"nod_{n}", "clu", f"node-{n}", cpu_milli, 65_536, 1000, **node) for n in range(len(gpus))]
    devices = [
        Accelerator(f"acc_{n}_{index}", f"nod_{n}", index, "H100", "nvidia", 81_559, links=str(index // 2))
        for n, count in enumerate(gpus)
        for index in range(count)
    ]
    return Capacity(REGIONS, CLUSTERS, nodes, devices)


def want(count: int = 1, milli: int = 1000, nodes: int = 1, most: int | None = None, topology: str = "none") -> Want:
    gpus = (Gpus("H100", count, milli),) if count else ()
    return Want(Resources(gpus), nodes, most or nodes, topology, ("any",))


def job(number: int, wanted: Want | None = None, **fields: Any) -> Job:
    wanted = wanted or want()
    spec = Spec("train", resources=wanted.resources, nodes_min=wanted.nodes_min, nodes_max=wanted.nodes_max)
    return Job(f"job_{number:04}", "org", "prj", "mem", "train", spec, number, **fields)


def snapshot(room: Capacity, jobs: list[Job], **fields: Any) -> Snapshot:
    queue = Queue()
    for one in jobs:
        queue.add(one, 0)
    known = {one.id: one for one in jobs}
    made = {
        "quotas": {},
        "holdings": Holdings(),
        "parallel": {},
        "running": {},
        "blocked": lambda *owners: "",
        **fields,
    }
    return Snapshot(room, queue, known, **made)


def waiting(view: Snapshot, one: Job, ahead: int = 0, around: Around | None = None) -> dict[str, Any]:
    bucket = Bucket.of(one, 0)
    return tell(view, bucket, one, judge(view, bucket, one), ahead, around or Around())


def test_a_fraction_goes_to_the_fullest_device_that_takes_it() -> None:
    room = capacity(2)
    first = fit(room, want(1, 500))
    assert first is not None
    room.hold(first)
    for _ in range(1):
        second = fit(room, want(1, 500))
        assert second is not None
        assert second[0].shares[0].accelerator_id == first[0].shares[0].accelerator_id
        room.hold(second)
    whole = fit(room, want(1))
    assert whole is not None
    assert whole[0].shares[0].accelerator_id != first[0].shares[0].accelerator_id


def test_two_devices_come_from_one_fast_link() -> None:
    room = capacity(4)
    one = fit(room, want(1))
    assert one is not None
    room.hold(one)
    two = fit(room, want(2))
    assert two is not None
    assert [share.index for share in two[0].shares] == [2, 3]


def test_a_single_job_takes_the_fullest_node_so_that_large_ones_still_fit() -> None:
    slices = fit(capacity(4, 1), want(1))
    assert slices is not None
    assert slices[0].node_id == "nod_1"


def test_a_gang_on_one_node_when_it_fits_there_else_on_the_closest() -> None:
    slices = fit(capacity(4, 2), want(2, nodes=2))
    assert slices is not None
    assert {part.node_id for part in slices} == {"nod_0"}
    slices = fit(capacity(2, 2), want(2, nodes=2))
    assert slices is not None
    assert {part.node_id for part in slices} == {"nod_0", "nod_1"}
    assert fit(capacity(2, 2), want(2, nodes=3)) is None, "all or nothing"
    assert fit(capacity(2, 2), want(2, nodes=2, topology="rack")) is None, "without racks, a rack is one node"


def test_an_elastic_gang_takes_what_there_is_between_its_bounds() -> None:
    for free, size in ((1, None), (2, 2), (3, 3), (9, 4)):
        slices = fit(capacity(free), want(1, nodes=2, most=4))
        assert (None if slices is None else len(slices)) == size


def test_alternatives_are_tried_in_the_order_of_preference() -> None:
    wanted = Want(Resources((Gpus("A100", 1), Gpus("H100", 2))), 1, 1, "none", ("any",))
    slices = fit(capacity(2), wanted)
    assert slices is not None
    assert len(slices[0].shares) == 2


def test_an_empty_cloud_places_nothing_and_says_so() -> None:
    room = Capacity({}, {}, [], [])
    one = job(1)
    view = snapshot(room, [one])
    assert place(view).starts == ()
    told = waiting(view, one)
    assert told["reason"] == "no_capacity"
    assert "no node is ready" in told["text"]


def test_a_quota_binds_with_its_numbers() -> None:
    quota = Quota("qta", "org", Scope.PROJECT, "prj", gpu_milli=1000)
    view = snapshot(capacity(4), [job(1), job(2)], quotas={"prj": quota})
    assert [one.id for one, _ in place(view).starts] == ["job_0001"]
    told = waiting(view, job(2))
    assert told["quota"] == {
        "scope": "project", "scope_id": "prj", "meter": "gpu_milli", "limit": 1000, "held": 1000, "asked": 1000,
    }  # fmt: skip


def test_who_is_refused_does_not_hold_up_those_who_ask_for_less() -> None:
    view = snapshot(capacity(2), [job(1, want(1)), job(2, want(2)), job(3, want(1))])
    assert [one.id for one, _ in place(view).starts] == ["job_0001", "job_0003"]


def test_a_budget_that_blocks_is_the_reason() -> None:
    view = snapshot(capacity(2), [job(1)], blocked=lambda *owners: "budget_exhausted")
    assert place(view).starts == ()
    told = waiting(view, job(1))
    assert (told["reason"], "raise it" in told["text"]) == ("budget_exhausted", True)


def test_waiting_says_who_holds_what_is_wanted_and_who_is_ahead() -> None:
    room = capacity(2)
    slices = fit(room, want(2))
    assert slices is not None
    room.hold(slices)
    held = Allocation("alc", "org", "prj", "mem", "job_0", "clu", 1, "on-demand", slices, 0)
    view = snapshot(room, [job(1)])
    told = waiting(view, job(1), 3, Around((held,)))
    assert "3 waiting jobs come before it" in told["text"]
    assert told["holders"] == [{"job": "job_0", "gpu_milli": 2000}]


def test_a_pass_is_bounded_and_the_next_goes_on() -> None:
    jobs = [job(number, want(0)) for number in range(PASS_LIMIT + 3)]
    room = capacity(0, cpu_milli=10_000_000, labels={"a": "b"})
    room.memory[:] = 1 << 40
    view = snapshot(room, jobs)
    placed = place(view).starts
    assert len(placed) == PASS_LIMIT
    assert judge(view, Bucket.of(jobs[0], 0)).slices is not None


def test_what_is_known_to_be_possible_does_not_pile_up() -> None:
    room = capacity(1)
    for number in range(12_000):
        refuse_impossible(room, Want(Resources((), cpu_milli=number + 1), 1, 1, "none", ("any",)))
    assert len(room.possible) <= 10_000


@pytest.mark.parametrize(
    ("asked", "field"),
    [(Want(Resources((Gpus("H100", 9),)), 1, 1, "none", ("any",)), "resources.gpu"),
     (Want(Resources((Gpus("B200", 1),)), 1, 1, "none", ("any",)), "resources.gpu"),
     (Want(Resources((), cpu_milli=65_000), 1, 1, "none", ("any",)), "resources.cpu"),
     (Want(Resources((), memory_mib=70_000), 1, 1, "none", ("any",)), "resources.memory"),
     (Want(Resources((), disk_mib=2000), 1, 1, "none", ("any",)), "resources.disk"),
     (Want(Resources((), cpu_milli=60_000), 3, 3, "none", ("any",)), "nodes"),
     (Want(Resources(), 1, 1, "none", ("mars",)), "clusters"),
     (Want(Resources(), 1, 1, "none", ("any",), labels=("disk=nvme",)), "node_labels")],
)  # fmt: skip
def test_what_could_never_run_names_the_field_that_asks_for_too_much(asked: Want, field: str) -> None:
    with pytest.raises(Impossible) as refused:
        refuse_impossible(capacity(8, 4), asked)
    assert refused.value.details["field"] == field
    assert refused.value.details["value"]


def test_words_for_what_is_asked() -> None:
    assert words(None) == "no GPU"
    assert words(Gpus("H100", 8)) == "8 x H100"
    assert words(Gpus(None, 1, 500)) == "0.5 of any GPU"
    assert words(Gpus(None, 2, 1000, 24, 80)) == "2 x any GPU of 24-80 GB"
    assert words(Gpus(None, 2, 1000, 80, 80)) == "2 x any GPU of 80 GB"


def test_a_quota_that_bars_the_preferred_shape_leaves_the_others() -> None:
    quota = Quota("qta", "org", Scope.PROJECT, "prj", gpu_milli=2000)
    either = Want(Resources((Gpus("H100", 4), Gpus("H100", 2))), 1, 1, "none", ("any",))
    for wanted in (either, want(1, nodes=2, most=4)):
        view = snapshot(capacity(8), [job(1, wanted)], quotas={"prj": quota})
        ((_, slices),) = place(view).starts
        assert sum(share.milli for part in slices for share in part.shares) == 2000


def test_between_two_looks_at_all_the_first_of_many_lines_still_start_first() -> None:
    """300 projects wait for the same: whoever comes first gets what comes free, and limits hold nobody else up."""
    jobs = [replace(job(number), project_id=f"prj_{number:04}") for number in range(300)]
    view = snapshot(capacity(1, 1), jobs)
    quotas = {f"prj_{number:04}": Quota(f"quo_{number}", "org", Scope.PROJECT, f"prj_{number:04}", gpu_milli=0)
              for number in range(2, 60)}  # fmt: skip
    started: list[str] = []
    for _ in range(20):  # no time passes: only the first of these passes looks at all
        plan = place(replace(view, capacity=view.capacity.scratch(), holdings=Holdings(), quotas=quotas, refused={}))
        for start in plan.starts:
            view.queue.remove(start.job.id)
            started.append(start.job.id)
    assert len(started) == 40
    assert started == [f"job_{number:04}" for number in (0, 1, *range(60, 98))]


def test_who_comes_in_between_two_looks_at_all_starts_before_those_who_come_after_it() -> None:
    """Also when room is found only after the pass that saw it come in."""
    jobs = [replace(job(number), project_id=f"prj_{number:04}") for number in range(300)]
    view = snapshot(capacity(1, 1), jobs)
    everything = fit(view.capacity, want(1, nodes=2))
    assert everything is not None
    view.capacity.hold(everything)

    def decide() -> list[str]:
        plan = place(replace(view, capacity=view.capacity.scratch(), holdings=Holdings(), refused={}))
        return [one.id for one, _ in plan.starts]

    assert decide() == []
    view.capacity.release(everything[:1])
    assert decide() == ["job_0000"]
    view.queue.remove("job_0000")
    view.capacity.hold(everything[:1])
    urgent = job(999)
    urgent = replace(urgent, project_id="prj_new", spec=replace(urgent.spec, priority=90))
    view.queue.add(urgent, 0)
    assert isinstance(view.jobs, dict)
    view.jobs[urgent.id] = urgent
    assert decide() == []
    view.capacity.release(everything[:1])
    assert decide() == [urgent.id]


def test_a_pass_that_looks_at_few_is_followed_by_one_that_looks_at_all() -> None:
    """Though nothing happens: whoever was not looked at may fit. So after one that broke off."""
    jobs = [replace(job(number, want(2)), project_id=f"prj_{number:04}") for number in range(300)]
    view = snapshot(capacity(1), jobs)
    assert place(replace(view, refused={})).wake_us is None
    assert place(replace(view, refused={}, now_us=1)).wake_us == LOOK_US
    assert place(replace(view, refused={}, now_us=LOOK_US)).wake_us is None
    room = capacity(0, cpu_milli=10_000_000)
    room.memory[:] = 1 << 40
    many = snapshot(room, [job(number, want(0)) for number in range(PASS_LIMIT + 3)], now_us=7)
    assert place(many).wake_us == 7


def test_a_pass_that_looks_at_few_says_of_all_that_has_no_room_that_it_is_wanted() -> None:
    jobs = [job(number, want(2)) for number in range(300)]
    view = snapshot(capacity(1), [*jobs, job(300, want(0))])
    place(replace(view, refused={}, capacity=view.capacity.scratch()))
    view.queue.first = ()
    later = replace(view, refused={}, capacity=view.capacity.scratch(), wanted={})
    place(later)
    assert list(later.wanted) == [want(2)]


@pytest.mark.parametrize(
    ("asked", "told", "nearest"),
    [
        (replace(want(1, nodes=3), exclusive=True), "3 x (1 x H100, 1 CPU, 1 GiB of memory on a node of its own)", 2),
        (want(1, nodes=6, topology="node"), "6 x (1 x H100, 1 CPU, 1 GiB of memory), on one node", 4),
        (want(1, nodes=3, topology="nvlink"), "3 x (1 x H100, 1 CPU, 1 GiB of memory), on one fast link", 2),
        (want(1, nodes=9), "9 x (1 x H100, 1 CPU, 1 GiB of memory)", 8),
    ],
)
def test_how_many_tasks_fit_at_once_counts_only_those_that_are_as_close_as_asked(
    asked: Want, told: str, nearest: int
) -> None:
    with pytest.raises(Impossible) as refused:
        refuse_impossible(capacity(4, 4), asked)
    assert refused.value.message == f"No node here could ever run {told}."
    assert f"of such tasks {nearest} fit at once" in refused.value.next_step


def test_tasks_in_two_clusters_are_no_gang() -> None:
    clusters = {name: Cluster(name, "reg", name, "scripted") for name in ("one", "two")}
    nodes = [Node(f"nod_{name}", name, name, 64_000, 65_536, 1000) for name in clusters]
    devices = [Accelerator(f"acc_{one.id}_{n}", one.id, n, "H100", "nvidia", 81_559) for one in nodes for n in (0, 1)]
    asked = want(1, nodes=4)
    with pytest.raises(Impossible, match="could ever run") as refused:
        refuse_impossible(Capacity(REGIONS, clusters, nodes, devices), asked)
    assert "of such tasks 2 fit at once" in refused.value.next_step
