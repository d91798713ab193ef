"""A cluster that never comes back is given up: its jobs go on elsewhere, and what it held is counted no further."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_cloud import SmallCloud, same_when_reloaded

from headframe.base.errors import Conflict, Forbidden, Invalid
from headframe.base.quantities import HOUR_US, MINUTE_US
from headframe.control.commands_clusters import lose_cluster, resume_cluster
from headframe.control.commands_fleet import mark_cluster
from headframe.control.queries_fleet import losses
from headframe.control.queries_node_table import NodeTable, Wanted, node_table
from headframe.control.queries_nodes import node_in_full
from headframe.fleet.records import Allocation, Cluster, ClusterState
from headframe.jobs.records import JobState
from headframe.metering.records import UsageRecord

LOST = {"confirm": "east", "reason": "the hall burned down"}


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    cloud = SmallCloud(more=("east",))
    yield cloud
    assert [engine.violations for engine in cloud.engines.values()] == [[], []]
    cloud.close()


def east(cloud: SmallCloud) -> Cluster:
    return cloud.world.all(Cluster)["clu_east"]


def home(cloud: SmallCloud, job: object) -> str:
    held: Allocation = cloud.allocations(job)[-1]  # type: ignore[arg-type]
    return held.cluster_id


def cut(cloud: SmallCloud) -> int:
    """Cut the way to east; returns since when nothing is heard of it."""
    cloud.engines["clu_east"].set_reachable(False)
    cloud.go(5 * MINUTE_US)
    since_us = east(cloud).unreachable_us
    assert since_us is not None
    return since_us


def test_its_jobs_go_on_elsewhere_and_are_charged_until_it_was_last_heard_of(cloud: SmallCloud) -> None:
    job = cloud.submit("run 3h; exit 0 | run 1m; exit 0", clusters=["east", "main"], prefer="listed")
    bound = cloud.submit("run 3h; exit 0", clusters=["east"], retry={"on": [], "max": 0})
    cloud.until(lambda: all(cloud.job(one).state == JobState.RUNNING for one in (job, bound)))
    began_us = cloud.allocations(job)[0].running_us or 0
    assert home(cloud, job) == home(cloud, bound) == "clu_east"
    cloud.go(HOUR_US)
    since_us = cut(cloud)
    cloud.go(HOUR_US)
    told = cloud.ask(losses, cloud.owner, "east")
    assert {one.job_id: (one.then, one.until_us) for one in told.items} == {
        job.id: ("queued", since_us), bound.id: ("failed", since_us)
    }  # fmt: skip
    cloud.run(lose_cluster, cloud.owner, "east", **LOST)
    assert (east(cloud).state, east(cloud).reason) == (ClusterState.LOST, "the hall burned down")
    cloud.until(lambda: cloud.ended(job, bound))
    assert (cloud.job(job).state, cloud.job(bound).state) == (JobState.SUCCEEDED, JobState.FAILED)
    first, second = cloud.allocations(job)
    assert (first.released_us, first.faulted, second.cluster_id) == (since_us, True, "clu_1")
    assert cloud.attempts(job)[0].detail == "its cluster east is lost: the hall burned down"
    assert next(one.subject for one in cloud.events("cluster_lost")) == "clu_east"
    used = cloud.inner.find(UsageRecord, allocation_id=first.id)
    assert sum(one.to_us - one.from_us for one in used if one.state == "running") == since_us - began_us
    cloud.engines["clu_east"].set_reachable(True)
    cloud.until(lambda: not cloud.engines["clu_east"].known())
    cloud.at_rest()
    same_when_reloaded(cloud)


def test_what_still_runs_there_is_stopped_and_nothing_starts_before_it_is_resumed(cloud: SmallCloud) -> None:
    job = cloud.submit("run 9h; exit 0 | run 2h; exit 0", clusters=["east", "main"], prefer="listed")
    cloud.until(cloud.is_(job, JobState.RUNNING))
    cut(cloud)
    cloud.run(lose_cluster, cloud.owner, "east", **LOST)
    cloud.until(cloud.is_(job, JobState.RUNNING))
    later = cloud.submit("run 1m; exit 0", clusters=["east"])
    engine = cloud.engines["clu_east"]
    assert [one.generation for one in engine.live()] == [1], "it lived on, out of sight"
    engine.set_reachable(True)
    cloud.until(lambda: not engine.live())
    assert cloud.events("orphan_ended")
    cloud.go(5 * MINUTE_US)
    assert (east(cloud).unreachable_us, east(cloud).state) == (None, ClusterState.LOST)
    table: NodeTable = cloud.ask(node_table, cloud.owner, Wanted("east"))(cloud.inner)
    page = cloud.ask(node_in_full, cloud.owner, table.rows[0][0])
    assert (table.rows[0][table.columns.index("state")], page.state) == ("draining", "draining")
    assert (cloud.job(later).state, engine.launches) == (JobState.QUEUED, 1)
    assert "declared lost" in str(cloud.story(later)["waiting"])
    cloud.run(resume_cluster, cloud.owner, "east")
    cloud.until(lambda: cloud.ended(later, job), limit_us=4 * HOUR_US)
    assert [one.cluster_id for one in cloud.allocations(job)] == ["clu_east", "clu_1"]
    cloud.at_rest()


def test_a_checkpoint_that_is_lost_with_it_keeps_nobody_waiting(cloud: SmallCloud) -> None:
    saves = {"checkpoints": {"path": "ckpt"}, "clusters": ["east", "main"], "prefer": "listed"}
    job = cloud.submit("checkpoint 1m; run 30m; exit 0", **saves)
    cloud.until(cloud.is_(job, JobState.RUNNING))
    cloud.go(10 * MINUTE_US)
    cut(cloud)
    cloud.run(lose_cluster, cloud.owner, "east", **LOST)
    cloud.until(lambda: cloud.ended(job))
    assert home(cloud, job) == "clu_1"


def test_a_checkpoint_that_others_see_is_gone_on_from(cloud: SmallCloud) -> None:
    for name in ("main", "east"):
        cloud.run(mark_cluster, cloud.owner, name, labels=("storage=nfs-1",))
    saves = {"checkpoints": {"path": "ckpt"}, "clusters": ["east", "main"], "prefer": "listed"}
    job = cloud.submit("checkpoint 1m; run 30m; exit 0", **saves)
    cloud.until(cloud.is_(job, JobState.RUNNING))
    cloud.go(10 * MINUTE_US)
    cut(cloud)
    cloud.run(lose_cluster, cloud.owner, "east", **LOST)
    assert cloud.job(job).home == "clu_east", "it starts only where that is seen"
    cloud.until(lambda: cloud.ended(job))
    assert home(cloud, job) == "clu_1"


def test_a_job_that_was_told_to_stop_has_stopped(cloud: SmallCloud) -> None:
    job = cloud.submit("run 3h; exit 0", clusters=["east"])
    cloud.until(cloud.is_(job, JobState.RUNNING))
    cut(cloud)
    cloud.stop(job)
    cloud.settle()
    cloud.run(lose_cluster, cloud.owner, "east", **LOST)
    assert cloud.job(job).state == JobState.STOPPED


def test_who_may_and_when(cloud: SmallCloud) -> None:
    with pytest.raises(Conflict, match="answers"):
        cloud.run(lose_cluster, cloud.owner, "east", **LOST)
    cut(cloud)
    with pytest.raises(Forbidden):
        cloud.run(lose_cluster, cloud.adam, "east", **LOST)
    with pytest.raises(Forbidden):
        cloud.ask(losses, cloud.adam, "east")
    with pytest.raises(Invalid, match="cannot be undone"):
        cloud.run(lose_cluster, cloud.owner, "east", confirm="main", reason="x")
    with pytest.raises(Invalid, match="for a reason"):
        cloud.run(lose_cluster, cloud.owner, "east", confirm="east", reason=" ")
    cloud.run(lose_cluster, cloud.owner, "east", **LOST)
    before = east(cloud)
    cloud.run(lose_cluster, cloud.owner, "east", confirm="east", reason="again")
    assert east(cloud) == before, "once is enough"
    cloud.boot()
    assert east(cloud).state == ClusterState.LOST
