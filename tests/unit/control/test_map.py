"""The fleet as a map: places, states and values of every accelerator, and what of it whom is told."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from small_cloud import SmallCloud

from headframe.base.errors import Invalid
from headframe.base.quantities import HOUR_US
from headframe.control.commands_fleet import drain_node
from headframe.control.commands_reservations import create_reservation
from headframe.control.queries_map import (
    DRAINING,
    FAILED,
    HELD,
    HIDDEN,
    NOTHING,
    RESERVED,
    TOP,
    Frame,
    _kinds,
    fleet_frame,
    fleet_map,
    natural,
)  # fmt: skip
from headframe.jobs.records import JobState
from headframe.tenants.roles import Caller


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    made = SmallCloud(nodes=12, gpus=2, more=("b",))
    yield made
    made.close()


def frame(cloud: SmallCloud, caller: Caller, by: str = "held") -> Frame:
    found: Frame = cloud.ask(fleet_frame, caller, by)(cloud.inner)
    return found


def cells(text: str) -> list[int]:
    return list(b64decode(text))


def states_of(cloud: SmallCloud, node_id: str, found: Frame) -> list[int]:
    layout = cloud.ask(fleet_map, cloud.owner)
    at = layout.node_ids.index(node_id)
    first = sum(layout.cells[:at])
    return cells(found.states)[first : first + layout.cells[at]]


def test_everything_stands_in_the_order_of_its_name(cloud: SmallCloud) -> None:
    layout = cloud.ask(fleet_map, cloud.anna)
    assert [site.name for site in layout.sites] == ["b", "main"]
    assert layout.node_names[12:16] == ("node-0", "node-1", "node-2", "node-3")
    assert layout.node_names[-1] == "node-11"
    assert layout.cells == (2,) * 24
    assert layout.kinds == ("H100",) * 24
    assert [(rack.first, rack.nodes) for site in layout.sites for rack in site.racks] == [(0, 12), (12, 12)]
    assert frame(cloud, cloud.anna).layout == layout.id


def test_names_are_read_as_people_read_them() -> None:
    assert sorted(["n10", "n2", "n1a", "n1"], key=natural) == ["n1", "n1a", "n2", "n10"]


def test_kinds_are_told_once_where_they_are_the_same() -> None:
    assert (_kinds([]), _kinds(["H100", "H100"]), _kinds(["H100", "A100"])) == ("", "H100", "H100,A100")


def test_a_cell_says_all_that_is_true_of_it(cloud: SmallCloud) -> None:
    job = cloud.submit("run 1h; exit 0", resources={"gpu": "H100:1"})
    cloud.until(cloud.is_(job, JobState.RUNNING))
    held = cloud.allocations(job)[0].slices[0]
    cloud.run(drain_node, cloud.owner, held.node_id)
    cloud.run(drain_node, cloud.owner, "nod_7")
    cloud.run(create_reservation, cloud.owner, name="kept", kind="H100", count=2, lasts="1h")
    cloud.go(1_000_000)
    cloud.engine.kill_node("nod_9")
    cloud.go(60_000_000)
    found = frame(cloud, cloud.owner)
    at = held.shares[0].index
    assert states_of(cloud, held.node_id, found)[at] == HELD | DRAINING
    assert states_of(cloud, "nod_7", found) == [DRAINING, DRAINING]
    assert states_of(cloud, "nod_9", found) == [FAILED, FAILED]
    assert found.counts == {
        "held": 1, "reserved": 2, "draining": 4, "failed": 2, "unreachable": 0,
        "idle": 48 - 4 - 2 - sum(value & RESERVED > 0 for value in cells(found.states)),
    }  # fmt: skip
    assert sorted(set(cells(found.values))) == [0, TOP]


def test_measures_of_what_others_hold_are_not_told(cloud: SmallCloud) -> None:
    job = cloud.submit("run 1h; exit 0", caller=cloud.owner, resources={"gpu": "H100:2"})
    cloud.until(cloud.is_(job, JobState.RUNNING))
    devices = [share.accelerator_id for part in cloud.allocations(job)[0].slices for share in part.shares]
    for device in [*devices, "acc_b_nothing"]:
        cloud.loop.gauges.tell(device, cloud.now_us, use_percent=50, memory_mib=81_559 // 2, power_w=420)
    mine, others = frame(cloud, cloud.owner, "use"), frame(cloud, cloud.anna, "use")
    assert sorted(cells(mine.values))[:2] == [TOP // 2, TOP // 2]
    assert sorted(set(cells(mine.values))) == [TOP // 2, NOTHING]
    assert sorted(set(cells(others.values))) == [HIDDEN, NOTHING]
    power = frame(cloud, cloud.owner, "power")
    assert (power.unit, power.high) == ("watt", 500)
    assert min(cells(power.values)) == TOP * 420 // 500
    assert min(cells(frame(cloud, cloud.owner, "memory").values)) == TOP * 49 // 100


def test_the_largest_holders_are_named_to_those_who_may_know_them(cloud: SmallCloud) -> None:
    for number in range(7):
        job = cloud.submit("run 1h; exit 0", caller=cloud.anna, name=f"job-{number}", resources={"gpu": "H100:2"})
        cloud.until(cloud.is_(job, JobState.RUNNING))
    own = cloud.submit("run 1h; exit 0", caller=cloud.owner, resources={"gpu": "H100:1"})
    cloud.until(cloud.is_(own, JobState.RUNNING))
    houses = frame(cloud, cloud.owner, "organization")
    assert [(one.name, one.cells) for one in houses.names] == [("lab", 14), ("operator", 1)]
    jobs = frame(cloud, cloud.anna, "job")
    assert [one.cells for one in jobs.names] == [2, 2, 2, 2, 2, 4]
    assert jobs.names[-1].name == "2 others"
    counted = {value: cells(jobs.values).count(value) for value in set(cells(jobs.values))}
    assert counted == {0: 2, 1: 2, 2: 2, 3: 2, 4: 2, 5: 4, HIDDEN: 1, NOTHING: 48 - 15}


def test_a_cloud_without_accelerators_or_machines_has_a_map_too() -> None:
    bare = SmallCloud(nodes=2, gpus=0)
    try:
        found: Any = frame(bare, bare.owner, "use")
        assert (cells(found.states), cells(found.values)) == ([0, 0], [NOTHING, NOTHING])
        job = bare.submit("run 1h; exit 0", resources={"gpu": None, "cpu": 4})
        bare.until(bare.is_(job, JobState.RUNNING))
        assert sorted(cells(frame(bare, bare.owner).values)) == [0, TOP // 2]
        assert frame(bare, bare.owner, "job").names[0].cells == 1
        bare.go(HOUR_US // 60)
    finally:
        bare.close()
    empty = SmallCloud(nodes=0, gpus=0)
    try:
        assert frame(empty, empty.owner).states == ""
        assert empty.ask(fleet_map, empty.owner).sites == ()
    finally:
        empty.close()


def test_it_is_coloured_by_what_is_known_only(cloud: SmallCloud) -> None:
    with pytest.raises(Invalid, match="by is 'luck'"):
        frame(cloud, cloud.owner, "luck")
