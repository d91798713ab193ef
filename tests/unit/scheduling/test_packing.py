"""Packing policies on fleets small enough to follow by eye, and topology as published ones have it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headframe.base.errors import Invalid
from headframe.fleet.records import Accelerator, Cluster, Node, NodeState, Region
from headframe.scheduling.capacity import Capacity
from headframe.scheduling.demand import LIMIT, Demand
from headframe.scheduling.fit import fit, fit_on
from headframe.scheduling.packing import DEFAULT, PACKINGS, packing_named
from headframe.scheduling.packing_simple import Chance, Packing
from headframe.scheduling.task import Task
from headframe.scheduling.want import Want
from headframe.sim.clock import SeededRng
from headframe.workloads.spec import Gpus, Resources

REGIONS = {"reg": Region("reg", "north")}
CLUSTERS = {"clu": Cluster("clu", "reg", "main", "scripted")}


def capacity(
    *gpus: int, cpus: tuple[int, ...] = (), demand: Demand | None = None, packing: str | Packing | None = None,
    clusters: dict[str, Cluster] | None = None, **node: Any,
) -> Capacity:  # fmt: skip
    """One node for each number of H100s, with 96 cores unless `cpus` says otherwise."""
    nodes, devices = [], []
    for number, count in enumerate(gpus):
        cpu = cpus[number] if cpus else 96
        fields = {key: value[number] for key, value in node.items()}
        nodes.append(Node(f"nod_{number}", **{"cluster_id": "clu", "name": f"node-{number}", "cpu_milli": cpu * 1000,
                                              "memory_mib": 1 << 20, "disk_mib": 0, **fields}))  # fmt: skip
        devices += [
            Accelerator(f"acc_{number}_{at}", f"nod_{number}", at, "H100", "nvidia", 81_559) for at in range(count)
        ]
    chosen = PACKINGS[packing] if isinstance(packing, str) else packing
    return Capacity(REGIONS, clusters or CLUSTERS, nodes, devices, demand, chosen)


def want(count: int = 1, milli: int = 1000, *, cpu: int = 1, nodes: int = 1, **fields: Any) -> Want:
    gpus = (Gpus("H100", count, milli),) if count else ()
    made = Want(Resources(gpus, cpu * 1000), nodes, nodes, "none", ("any",))
    return replace(made, **fields)


def place(room: Capacity, wanted: Want) -> list[str]:
    """Hold a place and say on which nodes it is."""
    slices = fit(room, wanted)
    assert slices is not None
    room.hold(slices)
    return [part.node_id for part in slices]


def demand_of(*wants: Want) -> Demand:
    return Demand.of(one.task(gpus) for one in wants for gpus in one.alternatives)


@pytest.mark.parametrize("name", ["fgd", DEFAULT])
def test_what_is_asked_for_lately_is_left_room_for(name: str) -> None:
    """Where eights are asked for, ones go to the broken node; where only ones are, it makes no difference."""
    room = capacity(8, 8, demand=demand_of(*[want(8)] * 5, want(1)), packing=name)
    room.hold(fit_on(room, want(1), 1) or ())
    assert [place(room, want(1)) for _ in range(7)] == [["nod_1"]] * 7
    assert place(room, want(8)) == ["nod_0"]


def test_default_keeps_cpu_beside_gpus() -> None:
    """A task that takes much CPU goes where CPU is left over; who looks ahead by one task only sees no difference."""
    typical = demand_of(*[want(1, cpu=12)] * 9, want(1, cpu=40))
    for name, chosen in (("fgd", "nod_0"), (DEFAULT, "nod_1")):
        room = capacity(8, 8, cpus=(96, 256), demand=typical, packing=name)
        assert place(room, want(1, cpu=40)) == [chosen]


def test_without_any_known_demand_the_fullest_node_is_taken() -> None:
    assert place(capacity(4, 1, packing=DEFAULT), want(1)) == ["nod_1"]


def test_a_fraction_is_cut_from_the_device_where_it_costs_least() -> None:
    typical = demand_of(*[want(1, 500)] * 3, *[want(1, 300)] * 3, want(1))
    room = capacity(3, demand=typical, packing="fgd")
    first, second = fit(room, want(1, 500)), None
    assert first is not None
    room.hold(first)
    second = fit(room, want(1, 500))
    assert second is not None
    assert second[0].shares[0].accelerator_id == first[0].shares[0].accelerator_id


def test_best_fit_takes_the_node_with_the_least_left() -> None:
    room = capacity(8, 2, cpus=(96, 32), packing="best-fit")
    assert place(room, want(1)) == ["nod_1"]
    assert place(room, want(0, cpu=4)) == ["nod_1"]


def test_comparisons_do_as_published() -> None:
    """Parts of GPUs in use first; nodes with tasks of the same size first."""
    room = capacity(2, 2, 2, packing="gpu-packing")
    room.hold(fit_on(room, want(1, 500), 1) or ())
    assert place(room, want(1, 500)) == ["nod_1"]
    assert place(room, want(1)) == ["nod_1"]
    room = capacity(4, 4, 4, packing="gpu-clustering")
    room.hold(fit_on(room, want(1, 500), 0) or ())
    room.hold(fit_on(room, want(1), 2) or ())
    assert place(room, want(1)) == ["nod_2"]
    assert place(room, want(1, 300)) == ["nod_0"]


def test_chance_takes_any_node_and_the_same_seed_the_same() -> None:
    def drawn(seed: int) -> list[list[str]]:
        room = capacity(8, 8, 8, packing=Chance(SeededRng(seed)))
        return [place(room, want(1, 500)) for _ in range(12)]

    assert drawn(1) == drawn(1)
    assert len({tuple(one) for one in drawn(1)}) == 3


def test_a_cluster_chooses_its_packing_by_a_label() -> None:
    clusters = {
        "a": Cluster("a", "reg", "a", "scripted", {"packing": "best-fit"}),
        "b": Cluster("b", "reg", "b", "scripted", {"packing": "no-such"}),
    }
    room = capacity(4, 1, 4, 1, clusters=clusters, cluster_id=("a", "a", "b", "b"))
    assert [packing.name for packing, _ in room.judges] == ["best-fit", DEFAULT]
    assert place(room, want(1)) == ["nod_1"]
    assert place(room, want(1, clusters=("b",))) == ["nod_3"]


def test_an_unknown_packing_is_refused_with_those_there_are() -> None:
    with pytest.raises(Invalid, match="not a packing policy") as raised:
        packing_named("tetris", field="--policy")
    assert "best-fit" in str(raised.value.allowed)


def test_demand_fades_and_changes_its_version_now_and_then() -> None:
    demand, versions = Demand(), set()
    old, new = Task(1000, 0, gpus=Gpus("H100", 8)), Task(1000, 0, gpus=Gpus("H100", 1))
    demand.note(old, 100)
    for _ in range(6 * LIMIT):
        demand.note(new)
        versions.add(demand.version)
    assert [task for task, _ in demand.typical(95)] == [new]
    assert old not in dict(demand.typical(100))
    assert len(versions) < 100


def test_a_gang_takes_a_rack_then_a_block_and_as_few_racks_as_hold_it() -> None:
    """Three tiers of switches, as clouds publish them: a rack is the nearest, a block the widest."""
    paths = [("g1", "p1", "s1")] * 2 + [("g1", "p1", "s2")] * 3 + [("g1", "p2", "s3")] * 2 + [("g2", "p3", "s4")] * 4
    room = capacity(*[8] * len(paths), topology=tuple(paths))

    def switches(count: int, topology: str = "none") -> list[str] | None:
        slices = fit(room, want(8, nodes=count, topology=topology))
        return None if slices is None else sorted({"/".join(paths[int(part.node_id[4:])]) for part in slices})

    assert switches(2) == ["g1/p1/s1"], "the smallest rack that suffices"
    assert switches(4) == ["g2/p3/s4"]
    assert switches(5) == ["g1/p1/s1", "g1/p1/s2"], "closer than the block"
    assert switches(7) == ["g1/p1/s1", "g1/p1/s2", "g1/p2/s3"]
    assert switches(8) == ["g1/p1/s1", "g1/p1/s2", "g1/p2/s3", "g2/p3/s4"], "one block as a whole, the rest in the next"
    assert switches(7, "rack") is None
    assert switches(7, "block") == ["g1/p1/s1", "g1/p1/s2", "g1/p2/s3"]
    assert switches(8, "block") is None
    assert switches(2, "node") is None
    assert switches(12) is None


def test_a_fast_link_is_kept_when_asked_and_preferred_when_not() -> None:
    node = Node("nod", "clu", "node", 96_000, 1 << 20, 0)
    links = ("a", "a", "b", "b", "b", "")
    devices = [
        Accelerator(f"acc_{at}", "nod", at, "H100", "nvidia", 81_559, links=link) for at, link in enumerate(links)
    ]
    room = Capacity(REGIONS, CLUSTERS, [node], devices)

    def taken(wanted: Want) -> list[int] | None:
        slices = fit(room, wanted)
        return None if slices is None else [share.index for part in slices for share in part.shares]

    assert taken(want(2, topology="nvlink")) == [0, 1]
    assert taken(want(3)) == [2, 3, 4]
    assert taken(want(4)) is not None
    assert taken(want(4, topology="nvlink")) is None
    assert taken(want(1, nodes=3, topology="nvlink")) == [2, 3, 4]
    assert taken(want(1, nodes=6, topology="node")) is not None


def test_a_node_with_its_devices_on_one_link_is_preferred() -> None:
    nodes = [Node(f"nod_{number}", "clu", f"node-{number}", 96_000, 1 << 20, 0) for number in (0, 1)]
    links = {"nod_0": ("a", "b"), "nod_1": ("a", "a", "a", "a")}
    devices = [Accelerator(f"{node}_{at}", node, at, "H100", "nvidia", 81_559, links=link)
               for node, names in links.items() for at, link in enumerate(names)]  # fmt: skip
    assert place(Capacity(REGIONS, CLUSTERS, nodes, devices), want(2)) == ["nod_1"]


def test_an_exclusive_job_gets_whole_nodes_that_nothing_else_is_on() -> None:
    room = capacity(4, 4, 4)
    place(room, want(1, 500))
    slices = fit(room, want(1, nodes=2, exclusive=True))
    assert slices is not None
    assert len({part.node_id for part in slices}) == 2
    assert all(len(part.shares) == 4 and part.cpu_milli == 96_000 for part in slices)
    room.hold(slices)
    assert fit(room, want(0)) is not None
    assert fit(room, want(1, exclusive=True)) is None
    room.release(slices)
    assert fit(room, want(1, exclusive=True)) is not None


def test_taints_labels_and_names_say_where_a_job_may_go() -> None:
    room = capacity(
        1, 1, 1, labels=({"disk": "nvme"}, {"disk": "nvme", "zone": "a"}, {}),
        taints=((), ("team=red", "slow"), ()),
    )  # fmt: skip
    zone = want(1, labels=("disk=nvme", "zone=a"))
    assert fit(room, zone) is None, "tainted"
    assert fit(room, replace(zone, tolerations=("team=red",))) is None, "all of them have to be borne"
    assert place(room, replace(zone, tolerations=("team", "slow"))) == ["nod_1"]
    assert place(room, want(1, nodes=2, **{"labels": ()})) == ["nod_0", "nod_2"]
    room = capacity(1, 1, 1)
    pinned = Want(want(1).resources, 1, 1, "none", ("any",), nodes=("node-2", "nod_1"))
    assert place(room, pinned) == ["nod_1"]
    assert place(room, pinned) == ["nod_2"]
    assert fit(room, pinned) is None


def test_a_changed_node_is_taken_in_without_building_anew() -> None:
    room = capacity(2, 2)
    assert fit(room, want(2)) is not None
    node = room.nodes[0]
    assert room.renew(replace(node, state=NodeState.DRAINING))
    assert place(room, want(1)) == ["nod_1"]
    assert room.renew(replace(node, labels={"a": "b"}))
    assert place(room, want(1, labels=("a=b",))) == ["nod_0"]
    device = room.devices[0][1]
    assert room.renew(replace(device, healthy=False))
    assert fit(room, want(1, labels=("a=b",))) is None
    assert not room.renew(replace(node, id="nod_9"))
    assert not room.renew(replace(node, topology=("block-9",)))
    assert not room.renew(replace(device, kind="L4"))
