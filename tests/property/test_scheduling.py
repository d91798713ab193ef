"""Placing on random fleets with random queues: what must hold whatever comes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from headframe.base.errors import Impossible
from headframe.fleet.records import Accelerator, Cluster, Node, NodeState, Region, Slice
from headframe.jobs.records import Job
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.explain import refuse_impossible
from headframe.scheduling.fit import fit
from headframe.scheduling.limits import Holdings, needs
from headframe.scheduling.place import judge, place
from headframe.scheduling.queue import CLASS_RANK, Bucket, Queue
from headframe.scheduling.snapshot import Snapshot
from headframe.scheduling.waiting import Around, tell
from headframe.scheduling.want import Want
from headframe.tenants.records import Quota, Scope
from headframe.workloads.spec import TOPOLOGIES, Gpus, Resources, Spec

REGIONS = {name: Region(name, name) for name in ("north", "south")}
CLUSTERS = {
    "one": Cluster("one", "north", "one", "scripted"),
    "two": Cluster("two", "south", "two", "scripted"),
}
Fleet = tuple[list[Node], list[Accelerator]]


@some.composite
def fleets(draw: some.DrawFn) -> Fleet:
    nodes, devices = [], []
    for number in range(draw(some.integers(0, 6))):
        topology = draw(
            some.sampled_from([(), ("block-1",), ("block-1", "rack-1"), ("block-1", "rack-2"), ("b2", "r3")])
        )
        node = Node(
            f"nod_{number}", draw(some.sampled_from(["one", "two"])), f"node-{number}",
            draw(some.sampled_from([2000, 8000])), draw(some.sampled_from([2048, 16384])), 10_000,
            state=draw(some.sampled_from([NodeState.READY, NodeState.READY, NodeState.DOWN, NodeState.DRAINING])),
            labels={"tier": str(number % 2)}, topology=topology,
        )  # fmt: skip
        nodes.append(node)
        for index in range(draw(some.integers(0, 4))):
            kind, memory_mib = draw(some.sampled_from([("H100", 81_559), ("L4", 23_034)]))
            device = Accelerator(
                f"acc_{number}_{index}", node.id, index, kind, "nvidia", memory_mib,
                links=str(index // 2), healthy=draw(some.booleans()) or draw(some.booleans()),
            )  # fmt: skip
            devices.append(device)
    return nodes, devices


@some.composite
def accelerators(draw: some.DrawFn) -> Gpus:
    milli = draw(some.sampled_from([1000, 1000, 500, 300]))
    return Gpus(
        kind=draw(some.sampled_from([None, "H100", "h100", "L4", "none-such"])),
        count=draw(some.integers(1, 3)) if milli == 1000 else 1,
        milli=milli,
        memory_min_gib=draw(some.sampled_from([None, 40])),
        memory_max_gib=draw(some.sampled_from([None, None, 80])),
    )


@some.composite
def jobs(draw: some.DrawFn, number: int) -> Job:
    least = draw(some.integers(1, 4))
    spec = Spec(
        f"job-{number}",
        resources=Resources(
            gpus=tuple(draw(some.lists(accelerators(), max_size=2))),
            cpu_milli=draw(some.sampled_from([500, 1000, 4000])), memory_mib=draw(some.sampled_from([256, 4096])),
            disk_mib=draw(some.sampled_from([0, 4000])),
        ),
        nodes_min=least, nodes_max=least + draw(some.sampled_from([0, 0, 2])),
        topology=draw(some.sampled_from(TOPOLOGIES)), priority=draw(some.sampled_from([10, 50])),
        purchase=draw(some.sampled_from(sorted(CLASS_RANK))),
        clusters=draw(some.sampled_from([("any",), ("one",), ("south",), ("tier=1", "two"), ("nowhere",)])),
    )  # fmt: skip
    place = draw(some.sampled_from(["1", "2"]))
    family = draw(some.sampled_from([None, None, "job_parent"]))
    return Job(
        f"job_{number:02}", f"org_{place}", f"prj_{place}", f"mem_{place}", spec.name, spec,
        draw(some.integers(0, 3)), parent_id=family,
    )  # fmt: skip


@some.composite
def quotas(draw: some.DrawFn) -> dict[str, Quota]:
    limit = some.sampled_from([None, 0, 1000, 3000, 8000])
    scopes = {"org_1": Scope.ORGANIZATION, "prj_1": Scope.PROJECT, "mem_2": Scope.MEMBER}
    made = {}
    for scope_id, scope in scopes.items():
        if draw(some.booleans()):
            made[scope_id] = Quota(
                f"qta_{scope_id}", "org", scope, scope_id, gpu_milli=draw(limit), cpu_milli=draw(limit)
            )
    return made


@some.composite
def worlds(draw: some.DrawFn) -> tuple[Fleet, list[Job], dict[str, Quota], int]:
    queue = [draw(jobs(number)) for number in range(draw(some.integers(0, 8)))]
    return draw(fleets()), queue, draw(quotas()), draw(some.integers(0, 2))


def capacity_of(fleet: Fleet) -> Capacity:
    return Capacity(REGIONS, CLUSTERS, *fleet)


def view(fleet: Fleet, queued: list[Job], limits: dict[str, Quota], parallel: int) -> Snapshot:
    queue = Queue()
    for job in queued:
        queue.add(job, parallel if job.parent_id else 0)
    bounds = {"job_parent": parallel} if parallel else {}
    known = {job.id: job for job in queued}
    return Snapshot(capacity_of(fleet), queue, known, limits, Holdings(), bounds, {}, lambda *owners: "")


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_nothing_is_oversold_and_every_gang_is_whole_and_as_close_as_asked(
    world: tuple[Fleet, list[Job], dict[str, Quota], int],
) -> None:
    fleet, _queued, limits, parallel = world
    nodes, devices = {node.id: node for node in fleet[0]}, {device.id: device for device in fleet[1]}
    placed = place(view(*world)).starts
    assert len({job.id for job, _ in placed}) == len(placed)
    used: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    milli: dict[str, int] = defaultdict(int)
    held: dict[tuple[str, str], int] = defaultdict(int)
    for job, slices in placed:
        whole(job, slices, nodes, devices)
        for part in slices:
            for at, amount in enumerate((part.cpu_milli, part.memory_mib, part.disk_mib)):
                used[part.node_id][at] += amount
            for share in part.shares:
                milli[share.accelerator_id] += share.milli
        for meter, amount in needs(slices).items():
            for owner in (job.organization_id, job.project_id, job.member_id):
                held[owner, meter] += amount
    assert all(amount <= 1000 for amount in milli.values())
    for node_id, (cpu, memory, disk) in used.items():
        node = nodes[node_id]
        assert (cpu <= node.cpu_milli, memory <= node.memory_mib, disk <= node.disk_mib) == (True, True, True)
    for scope_id, quota in limits.items():
        for meter in ("gpu_milli", "cpu_milli"):
            limit = getattr(quota, meter)
            assert limit is None or held[scope_id, meter] <= limit
    if parallel:
        assert sum(job.parent_id is not None for job, _ in placed) <= parallel


def whole(job: Job, slices: tuple[Slice, ...], nodes: dict[str, Node], devices: dict[str, Accelerator]) -> None:
    spec = job.spec
    assert spec.nodes_min <= len(slices) <= spec.nodes_max
    assert [part.rank for part in slices] == list(range(len(slices)))
    where = [nodes[part.node_id] for part in slices]
    assert all(node.state == NodeState.READY for node in where)
    paths = [(node.cluster_id, *node.topology, node.id) for node in where]
    assert len({path[:1] for path in paths}) == 1, "one engine starts a gang"
    depth = {"none": 1, "cluster": 1, "block": 2, "rack": 3, "node": 4, "nvlink": 4}[spec.topology]
    assert len({path[:depth] for path in paths}) == 1
    links = {devices[share.accelerator_id].links for part in slices for share in part.shares}
    assert spec.topology != "nvlink" or len(links) <= 1
    for node in where:
        cluster = CLUSTERS[node.cluster_id]
        names = {"any", cluster.name, cluster.region_id, *(f"{key}={value}" for key, value in node.labels.items())}
        assert names & set(spec.clusters)
    wanted = spec.resources.gpus
    for part in slices:
        assert len({share.accelerator_id for share in part.shares}) == len(part.shares)
        held = [devices[share.accelerator_id] for share in part.shares]
        assert all(device.node_id == part.node_id and device.healthy for device in held)
        assert not wanted or any(
            len(held) == gpus.count
            and all(share.milli == gpus.milli for share in part.shares)
            and all(gpus.kind is None or device.kind.lower() == gpus.kind.lower() for device in held)
            and all((gpus.memory_min_gib or 0) <= device.nominal_gib <= (gpus.memory_max_gib or 999) for device in held)
            for gpus in wanted
        )


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_the_same_gives_the_same_whatever_order_it_comes_in(
    world: tuple[Fleet, list[Job], dict[str, Quota], int],
) -> None:
    (nodes, devices), queued, limits, parallel = world
    turned = ((nodes[::-1], devices[::-1]), queued[::-1], dict(reversed(limits.items())), parallel)
    assert place(view(*world)).starts == place(view(*turned)).starts


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_what_waits_waits_for_a_reason_that_still_holds_and_can_be_told(
    world: tuple[Fleet, list[Job], dict[str, Quota], int],
) -> None:
    _fleet, queued, _limits, _parallel = world
    snapshot = view(*world)
    placed = {job.id for job, _ in place(snapshot).starts}
    for job in queued:
        if job.id in placed:
            continue
        bucket = snapshot.queue.bucket(job.id)
        assert bucket is not None
        verdict = judge(snapshot, bucket)
        assert verdict.slices is None, "nothing that fits is left waiting"
        told = tell(snapshot, bucket, job, verdict, snapshot.queue.ahead(job.id), Around())
        assert told["reason"] == verdict.reason
        assert told["text"].endswith(".")


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_the_queue_is_in_order_of_class_priority_age_and_counts_who_is_ahead(
    world: tuple[Fleet, list[Job], dict[str, Quota], int],
) -> None:
    snapshot = view(*world)
    seen: list[str] = []

    def visit(bucket: Bucket, job_id: str) -> bool:
        seen.append(job_id)
        return True

    snapshot.queue.in_order(visit)
    right = sorted(
        world[1], key=lambda job: (CLASS_RANK[job.spec.purchase], -job.spec.priority, job.submitted_us, job.id)
    )
    assert seen == [job.id for job in right]
    assert [snapshot.queue.ahead(job_id) for job_id in seen] == list(range(len(seen)))
    for job_id in seen[::2]:
        snapshot.queue.remove(job_id)
    seen.clear()
    snapshot.queue.in_order(visit)
    assert seen == [job.id for job in right][1::2]
    assert len(snapshot.queue) == len(seen)


@settings(max_examples=60, deadline=None)
@given(fleets(), some.data())
def test_among_equals_the_older_starts_first(fleet: Fleet, data: some.DataObject) -> None:
    first = data.draw(jobs(0))
    equals = [replace(first, id=f"job_{number:02}", submitted_us=9 - number, parent_id=None) for number in range(6)]
    placed = [job.id for job, _ in place(view(fleet, equals, {}, 0)).starts]
    assert placed == [f"job_{number:02}" for number in range(5, 5 - len(placed), -1)]


@settings(max_examples=100, deadline=None)
@given(fleets(), some.data())
def test_impossible_is_refused_exactly_when_an_empty_healthy_cloud_could_not_take_it(
    fleet: Fleet, data: some.DataObject
) -> None:
    job = data.draw(jobs(0))
    want = Want.of(job.spec)
    mended = (
        [replace(node, state=NodeState.READY) for node in fleet[0]],
        [replace(device, healthy=True) for device in fleet[1]],
    )
    could = fit(capacity_of(mended), want) is not None
    busy = capacity_of(fleet)
    for node in fleet[0]:
        busy.hold([Slice(0, node.id, node.cpu_milli, node.memory_mib, node.disk_mib)])
    for _ in range(2):  # the second answer comes from memory
        if could:
            refuse_impossible(busy, want)
        else:
            with pytest.raises(Impossible):
                refuse_impossible(busy, want)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_what_was_held_and_is_given_back_is_free_again(world: tuple[Fleet, list[Job], dict[str, Quota], int]) -> None:
    snapshot = view(*world)
    before = capacity_of(world[0])
    placed = place(snapshot).starts
    for _, slices in placed:
        snapshot.capacity.release(slices)
    for name in ("cpu", "memory", "disk", "gpu"):
        assert (getattr(snapshot.capacity, name) == getattr(before, name)).all()
