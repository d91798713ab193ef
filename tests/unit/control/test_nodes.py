"""Nodes as people see them: all as a table, one in full, who held it when; draining one and moving its jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from small_cloud import SmallCloud

from headframe.base.errors import Invalid, NotFound
from headframe.base.quantities import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from headframe.control.commands_fleet import drain_node, resume_node
from headframe.control.queries_node_table import SORTS, NodeTable, Wanted, node_table, node_window
from headframe.control.queries_nodes import NodeInFull, NodePast, node_in_full, node_past
from headframe.fleet.records import Node
from headframe.jobs.records import JobState
from headframe.tenants.roles import Caller


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    made = SmallCloud(nodes=3, gpus=2)
    yield made
    made.close()


def full(cloud: SmallCloud, caller: Caller, named: str) -> NodeInFull:
    found: NodeInFull = cloud.ask(node_in_full, caller, named)
    return found


def past(cloud: SmallCloud, caller: Caller, named: str, **more: int) -> NodePast:
    found: NodePast = cloud.ask(node_past, caller, named, **more)(cloud.inner)
    return found


def test_the_table_tells_of_every_node_what_is_held_and_measured(cloud: SmallCloud) -> None:
    job = cloud.submit("run 1h; exit 0", caller=cloud.owner, resources={"gpu": "H100:1", "cpu": 2, "memory": "4GB"})
    cloud.until(cloud.is_(job, JobState.RUNNING))
    share = cloud.allocations(job)[0].slices[0].shares[0]
    node_id = cloud.allocations(job)[0].slices[0].node_id
    cloud.loop.gauges.tell(share.accelerator_id, cloud.now_us, use_percent=80, temperature_c=71, power_w=500)
    cloud.run(drain_node, cloud.owner, "nod_2", reason="fans")

    def rows(caller: Caller) -> dict[str, dict[str, object]]:
        table: NodeTable = cloud.ask(node_table, caller)(cloud.inner)
        found = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        return {str(row["id"]): row for row in found}

    mine = rows(cloud.owner)
    held = mine[node_id]
    assert (held["gpus"], held["gpu_held_milli"], held["cpu_held_milli"], held["memory_held_mib"]) == (
        2, 1000, 2000, 4096,
    )  # fmt: skip
    assert (held["use_percent"], held["temperature_c"], held["power_w"]) == (80, 71, 500)
    assert (mine["nod_2"]["state"], mine["nod_2"]["reason"], mine["nod_2"]["use_percent"]) == ("draining", "fans", None)
    assert rows(cloud.anna)[node_id]["use_percent"] is None


def test_the_table_is_filtered_sorted_and_cut_to_a_window(cloud: SmallCloud) -> None:
    job = cloud.submit("run 1h; exit 0", caller=cloud.owner, resources={"gpu": "H100:2", "cpu": 2, "memory": "4GB"})
    cloud.until(cloud.is_(job, JobState.RUNNING))
    held = cloud.allocations(job)[0].slices[0].node_id
    for number, node_id in enumerate(sorted(cloud.world.all(Node))[:2]):
        for device in cloud.world.derived.capacity.devices[cloud.world.derived.capacity.row[node_id]]:
            cloud.loop.gauges.tell(device.id, cloud.now_us, use_percent=90 - 80 * number, temperature_c=40 + number)
    cloud.run(drain_node, cloud.owner, "nod_2", reason="Fans of row B")

    def table(*given: Any, **more: Any) -> NodeTable:
        found: NodeTable = cloud.ask(node_table, cloud.owner, Wanted(*given, **more))(cloud.inner)
        return found

    def ids(found: NodeTable) -> list[str]:
        return [row[0] for row in found.rows]

    whole = table()
    assert (whole.total, whole.sums.nodes, whole.sums.gpus, whole.sums.held_milli) == (3, 3, 6, 2000)
    assert (whole.sums.ready, whole.sums.use_percent, whole.sums.temperature_c) == (2, 50, 41)
    assert ids(table("fans ROW")) == ["nod_2"] == ids(table("draining")) == ids(table(trouble=True))
    assert (table("fans nowhere").rows, table("fans nowhere").sums.nodes, table("fans").total) == ((), 0, 3)
    assert ids(table(sort="-held"))[0] == held
    measured = sorted(cloud.world.all(Node))[:2]
    assert ids(table(sort="use"))[:2] == measured[::-1], "what is not measured comes last"
    assert ids(table(sort="-use"))[:2] == measured, "both ways"
    for sort in SORTS:
        every = ids(table(sort=sort))
        assert sorted(every) == sorted(ids(whole))
        assert [one for first in range(3) for one in ids(table(sort=sort, first=first, limit=1))] == every
    window: NodeTable = cloud.ask(node_window, cloud.owner, "q=node&sort=-name&first=1&limit=1")(cloud.inner)
    assert (ids(window), window.first, window.sums.nodes) == ([ids(table(sort="name"))[1]], 1, 3)
    for wrong in ("sort=luck", "sort=-", "first=-1", "first=x", "limit=100000"):
        with pytest.raises(Invalid):
            cloud.ask(node_window, cloud.owner, wrong)


def test_a_node_tells_who_holds_it_and_who_did(cloud: SmallCloud) -> None:
    first = cloud.submit("run 10m; exit 0", resources={"gpu": "H100:2", "cpu": 1})
    cloud.until(lambda: cloud.ended(first))
    node_id = cloud.allocations(first)[0].slices[0].node_id
    cloud.go(HOUR_US)
    cores = cloud.submit("run 2h; exit 0", caller=cloud.owner, resources={"gpu": None}, node_names=[_name(node_id)])
    cloud.until(cloud.is_(cores, JobState.RUNNING))
    seen = full(cloud, cloud.anna, _name(node_id))
    assert (seen.node.id, seen.running, seen.movable, seen.held.cpu_milli) == (node_id, 1, 0, 1000)
    mine = past(cloud, cloud.anna, node_id)
    assert [(one.job_name, one.devices) for one in mine.stays] == [(None, ()), (first.name, (0, 1))]
    assert mine.stays[1].to_us is not None
    assert 10 * MINUTE_US <= mine.stays[1].to_us - mine.stays[1].from_us < 11 * MINUTE_US
    assert mine.stays[0].to_us is None
    assert [one.job_id for one in past(cloud, cloud.owner, node_id).stays] == [cores.id, first.id]
    lately = past(cloud, cloud.owner, node_id, from_us=cloud.now_us - 30 * MINUTE_US, to_us=cloud.now_us)
    assert [one.job_id for one in lately.stays] == [cores.id]
    assert "node_joined" in [event.kind for event in mine.events]


def _name(node_id: str) -> str:
    return node_id.replace("nod_", "node-")


def test_measures_are_told_to_those_who_may_know_the_holder(cloud: SmallCloud) -> None:
    job = cloud.submit("run 1h; exit 0", caller=cloud.owner, resources={"gpu": "H100:1"})
    cloud.until(cloud.is_(job, JobState.RUNNING))
    part = cloud.allocations(job)[0].slices[0]
    cloud.loop.gauges.tell(part.shares[0].accelerator_id, cloud.now_us, use_percent=50)
    own, other = full(cloud, cloud.owner, part.node_id), full(cloud, cloud.anna, part.node_id)
    at = part.shares[0].index
    assert own.devices[at].gauge is not None
    assert own.devices[at].holders[0].job_id == job.id
    assert other.devices[at].gauge is None
    assert other.devices[at].holders[0].job_id is None


def test_a_span_of_time_is_bounded(cloud: SmallCloud) -> None:
    with pytest.raises(Invalid, match="92 days"):
        past(cloud, cloud.owner, "nod_0", from_us=0, to_us=DAY_US * 93)
    with pytest.raises(NotFound):
        full(cloud, cloud.owner, "nod_none")


def test_draining_moves_those_who_can_go_on_elsewhere(cloud: SmallCloud) -> None:
    kept = {"checkpoints": {"path": "ckpt", "keep": 1}, "retry": {"on": ["preemption"], "max": 3}}
    going = cloud.submit("save 1m; run 3h; exit 0", resources={"gpu": "H100:1"}, warn_before_stop="10s", **kept)
    cloud.until(cloud.is_(going, JobState.RUNNING))
    node_id = cloud.allocations(going)[0].slices[0].node_id
    staying = cloud.submit("run 3h; exit 0", resources={"gpu": "H100:1"}, node_names=[_name(node_id)])
    cloud.until(cloud.is_(staying, JobState.RUNNING))
    cloud.go(2 * MINUTE_US)
    assert full(cloud, cloud.owner, node_id).movable == 1
    cloud.run(drain_node, cloud.owner, node_id, reason="fans", move=True)
    assert full(cloud, cloud.owner, node_id).movable == 0
    cloud.until(lambda: cloud.job(going).attempt == 2 and cloud.job(going).state == JobState.RUNNING)
    assert cloud.allocations(going)[1].slices[0].node_id != node_id
    assert cloud.job(staying).state == JobState.RUNNING
    assert cloud.job(staying).attempt == 1
    cloud.run(resume_node, cloud.owner, node_id)
    cloud.go(SECOND_US)
    assert full(cloud, cloud.owner, node_id).state == "ready"
