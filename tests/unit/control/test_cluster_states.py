"""Several clusters: one that is drained, one of which nothing is heard for an hour, one without an engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_cloud import SmallCloud, same_when_reloaded

from headframe.base.errors import Conflict, Forbidden, NotFound
from headframe.base.quantities import HOUR_US, MINUTE_US, SECOND_US
from headframe.control.commands_clusters import drain_cluster, resume_cluster
from headframe.control.commands_fleet import mark_cluster, open_cluster
from headframe.fleet.engine_words import Unreachable
from headframe.fleet.records import Allocation, Cluster, ClusterState, Node, NodeState, Region
from headframe.jobs.records import JobState
from headframe.metering.records import UsageRecord

LONG = "run 3h; exit 0"
BOTH = {"gpu": "H100:2"}


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    cloud = SmallCloud(more=("east",))
    yield cloud
    assert [engine.violations for engine in cloud.engines.values()] == [[], []]
    cloud.close()


def cluster(cloud: SmallCloud, name: str) -> Cluster:
    return next(one for one in cloud.world.all(Cluster).values() if one.name == name)


def where(cloud: SmallCloud, job: object) -> str:
    held: Allocation = cloud.allocations(job)[-1]  # type: ignore[arg-type]
    return cloud.world.all(Cluster)[held.cluster_id].name


def test_a_drained_cluster_runs_what_it_has_and_takes_nothing_new(cloud: SmallCloud) -> None:
    first = cloud.submit("run 20m; exit 0", clusters=["main"], resources=BOTH)
    cloud.until(cloud.is_(first, JobState.RUNNING))
    cloud.run(drain_cluster, cloud.owner, "main", reason="new switches")
    assert (cluster(cloud, "main").state, cluster(cloud, "main").reason) == (ClusterState.DRAINING, "new switches")
    assert [one.reason for one in cloud.events("cluster_draining", first.id)] == [
        "Its cluster main is drained (new switches): it runs on there, and nothing new starts beside it."
    ]
    bound, free = cloud.submit("run 1m; exit 0", clusters=["main"]), cloud.submit("run 1m; exit 0")
    cloud.until(lambda: cloud.ended(first, free))
    assert where(cloud, free) == "east"
    assert cloud.job(bound).state == JobState.QUEUED
    cloud.run(resume_cluster, cloud.owner, "clu_1")
    cloud.until(lambda: cloud.ended(bound))
    same_when_reloaded(cloud)


def test_only_operators_drain_and_what_is_not_there_is_said(cloud: SmallCloud) -> None:
    with pytest.raises(Forbidden):
        cloud.run(drain_cluster, cloud.adam, "main")
    with pytest.raises(NotFound):
        cloud.run(drain_cluster, cloud.owner, "west")
    before = cluster(cloud, "main")
    cloud.run(resume_cluster, cloud.owner, "main")
    assert cluster(cloud, "main") == before


def test_draining_moves_jobs_whose_checkpoints_are_seen_elsewhere(cloud: SmallCloud) -> None:
    saves = {"checkpoints": {"path": "ckpt"}, "warn_before_stop": "30s"}
    job = cloud.submit("checkpoint 1m; run 30m; exit 0", clusters=["main", "east"], **saves)
    plain = cloud.submit("run 10m; exit 0")
    cloud.until(cloud.is_(job, JobState.RUNNING))
    cloud.go(10 * MINUTE_US)
    home = where(cloud, job)
    cloud.run(drain_cluster, cloud.owner, home, move=True)
    cloud.go(2 * MINUTE_US)
    assert len(cloud.attempts(job)) == 1, "elsewhere it would have to begin anew"
    for name in ("main", "east"):
        cloud.run(mark_cluster, cloud.owner, name, labels=("storage=nfs-1",))
    cloud.run(drain_cluster, cloud.owner, home, move=True)
    cloud.until(lambda: cloud.ended(job))
    assert where(cloud, job) != home
    assert [one.outcome for one in cloud.attempts(job)] == ["preemption", "succeeded"]
    assert len(cloud.attempts(plain)) == 1


def test_an_engine_down_for_an_hour_loses_nothing_and_starts_nothing_twice(cloud: SmallCloud) -> None:
    stays = cloud.submit("run 3h; exit 0", clusters=["main"])
    ends = cloud.submit("run 30m; exit 0", clusters=["main"])
    cloud.until(lambda: all(cloud.job(one).state == JobState.RUNNING for one in (stays, ends)))
    began_us = cloud.allocations(ends)[0].running_us
    cloud.engine.set_reachable(False)
    cloud.go(5 * MINUTE_US)
    down = cluster(cloud, "main")
    assert down.unreachable_us is not None
    assert down.unreachable_us <= cloud.now_us - 2 * MINUTE_US, "since it was last heard of, not since that was noticed"
    assert "cannot be reached since" in cloud.events("cluster_unreachable", stays.id)[0].reason
    lost = cloud.submit("run 1m; exit 0", clusters=["main"])
    other = cloud.submit("run 1m; exit 0")
    cloud.until(lambda: cloud.ended(other))
    assert where(cloud, other) == "east"
    cloud.go(HOUR_US)
    assert [cloud.job(one).state for one in (stays, ends, lost)] == [
        JobState.RUNNING, JobState.RUNNING, JobState.QUEUED
    ]  # fmt: skip
    same_when_reloaded(cloud)
    cloud.engine.set_reachable(True)
    cloud.until(lambda: cloud.ended(lost))
    assert cluster(cloud, "main").unreachable_us is None
    (held,) = cloud.allocations(ends)
    assert held.released_us == began_us + 30 * MINUTE_US, "what the engine says, to the microsecond"
    cloud.until(lambda: cloud.ended(stays), limit_us=4 * HOUR_US)
    assert [len(cloud.attempts(one)) for one in (stays, ends, lost)] == [1, 1, 1]
    cloud.go(2 * HOUR_US)
    used = cloud.inner.find(UsageRecord, job_id=ends.id)
    assert sum(one.to_us - one.from_us for one in used if one.state == "running") == 30 * MINUTE_US
    cloud.at_rest()


def test_a_launch_whose_answer_is_lost_waits_for_its_own_cluster(cloud: SmallCloud) -> None:
    """It may have begun: elsewhere it would run, and be paid for, twice."""
    cloud.engine.set_reachable(False)
    job = cloud.submit("run 1m; exit 0", clusters=["main", "east"])
    cloud.settle()
    if where(cloud, job) != "main":
        job = cloud.submit("run 1m; exit 0", clusters=["main"])
        cloud.settle()
    cloud.go(HOUR_US)
    assert cloud.job(job).state == JobState.STARTING
    assert [one.kind for one in cloud.events(subject=job.id)].count("cluster_unreachable") == 1
    cloud.engine.set_reachable(True)
    cloud.until(lambda: cloud.ended(job))
    assert len(cloud.attempts(job)) == 1


def test_an_engine_may_say_that_its_cluster_does_not_answer(cloud: SmallCloud) -> None:
    cloud.loop.deliver("clu_east", Unreachable(cloud.now_us - SECOND_US, "ssh: connection refused."))
    cloud.settle()
    down = cluster(cloud, "east")
    assert (down.unreachable_us, down.trouble) == (cloud.now_us - SECOND_US, "ssh: connection refused.")
    (told,) = cloud.events("cluster_unreachable")
    assert "ssh: connection refused. New work goes elsewhere." in told.reason
    cloud.go(2 * MINUTE_US)
    assert cluster(cloud, "east").unreachable_us is None, "its next report ends it"


def test_a_restart_keeps_in_mind_which_cluster_is_away(cloud: SmallCloud) -> None:
    cloud.engines["clu_east"].set_reachable(False)
    cloud.go(5 * MINUTE_US)
    since_us = cluster(cloud, "east").unreachable_us
    cloud.boot()
    cloud.go(10 * SECOND_US)
    assert cluster(cloud, "east").unreachable_us == since_us is not None


def test_an_engine_that_takes_no_orders_does_not_stop_the_others(cloud: SmallCloud) -> None:
    port = cloud.loop._engines["clu_east"]
    port.act = port.request_report = broken  # type: ignore[method-assign]
    odd = cloud.submit("run 1m; exit 0", clusters=["east"])
    even = cloud.submit("run 1m; exit 0", clusters=["main"])
    cloud.until(lambda: cloud.ended(even))
    assert cloud.job(odd).state == JobState.STARTING
    assert {str(one) for one in cloud.complaints} == {"The pipe is closed."}


def broken(*_: object) -> None:
    raise OSError("The pipe is closed.")


def test_a_cluster_without_an_engine_is_unreachable_and_keeps_region_and_engine(cloud: SmallCloud) -> None:
    west = Cluster("clu_west", "reg_west", "west", "scripted", {"tier": "b"})
    cloud.run(open_cluster, Region("reg_west", "west"), west)
    cloud.go(SECOND_US)
    assert cluster(cloud, "west").trouble == "the server has no engine for it"
    with pytest.raises(Conflict):
        cloud.run(open_cluster, Region("reg_1", "north"), Cluster("clu_west", "reg_1", "west", "scripted"))
    cloud.run(open_cluster, Region("reg_west", "west"), Cluster("clu_west", "reg_west", "west", "scripted", {"a": "1"}))
    assert cluster(cloud, "west").labels == {"a": "1", "tier": "b"}


def test_no_engine_speaks_for_the_nodes_of_another(cloud: SmallCloud) -> None:
    engine = cloud.engines["clu_east"]
    engine._nodes["nod_0"] = Node("nod_0", "clu_1", "node-0", 1, 1, 1, NodeState.DOWN, "a lie")
    engine.request_report()
    cloud.go(SECOND_US)
    assert (cloud.world.all(Node)["nod_0"].cluster_id, cloud.world.all(Node)["nod_0"].cpu_milli) == ("clu_1", 8000)
