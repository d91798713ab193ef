"""Clusters that are scheduled by rules of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_cloud import SmallCloud

from headframe.base.errors import Invalid, QuotaExceeded
from headframe.base.quantities import HOUR_US, MINUTE_US, SECOND_US
from headframe.control.commands_access import put_quota
from headframe.control.commands_fleet import mark_cluster, open_cluster
from headframe.control.regimes import regimes
from headframe.fleet.records import Cluster, Region
from headframe.jobs.records import Job, JobState
from headframe.tenants.records import Scope

LONG = "run 3600s; exit 0"


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    cloud = SmallCloud(gpus=2)
    yield cloud
    cloud.close()


def gpus(count: int) -> dict[str, object]:
    return {"resources": {"gpu": count, "cpu": 1, "memory": "1GB"}}


def test_a_label_chooses_the_order_of_a_cluster(cloud: SmallCloud) -> None:
    first = cloud.submit(LONG, **gpus(1))
    cloud.until(cloud.is_(first, JobState.RUNNING))
    cloud.run(mark_cluster, cloud.owner, "main", labels=("order=fifo",))
    wide, small = cloud.submit(LONG, **gpus(2)), cloud.submit(LONG, **gpus(1))
    cloud.settle()
    assert [cloud.job(one).state for one in (wide, small)] == [JobState.QUEUED] * 2, "nothing overtakes"
    cloud.run(mark_cluster, cloud.owner, "main", labels=("order-",))
    cloud.until(cloud.is_(small, JobState.RUNNING))
    assert cloud.job(wide).state == JobState.QUEUED


def test_a_label_lets_priority_stop_others(cloud: SmallCloud) -> None:
    low = cloud.submit(LONG, priority=10, **gpus(2))
    cloud.until(cloud.is_(low, JobState.RUNNING))
    high = cloud.submit(LONG, priority=90, **gpus(2))
    cloud.settle()
    assert cloud.job(high).claim == ()
    cloud.run(mark_cluster, cloud.owner, "main", labels=("preempt=priority",))
    cloud.until(cloud.is_(high, JobState.RUNNING))
    assert cloud.job(low).state == JobState.QUEUED


def test_each_regime_holds_for_its_clusters_only(cloud: SmallCloud) -> None:
    cloud.run(open_cluster, Region("reg_2", "south"), Cluster("clu_2", "reg_2", "empty", "scripted"))
    cloud.run(mark_cluster, cloud.owner, "empty", labels=("order=shortest-first",))
    found = {one.rules.order: one.clusters for one in regimes(cloud.world)}
    assert found == {"fair": frozenset({"clu_1"}), "shortest-first": frozenset({"clu_2"})}
    done = cloud.submit("run 5s; exit 0", **gpus(2))
    held = cloud.submit("run 5s; exit 0", purchase="spot", **gpus(2))
    cloud.until(lambda: cloud.ended(done, held))
    assert cloud.job(held).state == JobState.SUCCEEDED


@pytest.mark.parametrize("label", ["order=random", "preempt=everybody"])
def test_rules_that_are_not_there_are_refused(cloud: SmallCloud, label: str) -> None:
    with pytest.raises(Invalid, match="label"):
        cloud.run(mark_cluster, cloud.owner, "main", labels=(label,))


SAVES = {"checkpoints": {"path": "ckpt"}, "warn_before_stop": "10s"}


def test_under_shortest_first_a_long_job_with_checkpoints_makes_way(cloud: SmallCloud) -> None:
    cloud.run(mark_cluster, cloud.owner, "main", labels=("order=shortest-first",))
    long = cloud.submit("run 20h; checkpoint 5m; exit 0", max_duration="20h", **SAVES, **gpus(2))
    cloud.until(cloud.is_(long, JobState.RUNNING))
    short = cloud.submit("run 30m; exit 0", max_duration="40m", **gpus(2))
    longer = cloud.submit("run 30h; exit 0", max_duration="30h", **gpus(2))
    cloud.go(30 * MINUTE_US)
    assert cloud.job(short).state == JobState.QUEUED, "a turn is an hour at least"
    cloud.until(cloud.is_(short, JobState.RUNNING), HOUR_US)
    assert [event.detail["cause"] for event in cloud.events("preemption_ordered", long.id)] == ["turn"]
    cloud.until(lambda: cloud.ended(short))
    cloud.until(cloud.is_(long, JobState.RUNNING), MINUTE_US)
    cloud.go(3 * HOUR_US)
    assert (cloud.job(long).attempt, cloud.job(longer).state) == (2, JobState.QUEUED), "it stays before what is longer"


def test_a_cluster_lets_jobs_move_so_that_what_is_free_is_of_use() -> None:
    """Two GPUs are asked for mostly; one is free on each of two nodes until a job moves, though nobody waits."""
    cloud = SmallCloud(nodes=2)
    big = [cloud.submit("run 1s; exit 0", **gpus(2)) for _ in range(12)]
    cloud.until(lambda: cloud.ended(*big))
    jobs = [cloud.submit("run 20h; checkpoint 1m; exit 0", **SAVES, **gpus(1)) for _ in range(4)]
    cloud.go(SECOND_US)
    by_node: dict[str, list[Job]] = {}
    for job in jobs:
        by_node.setdefault(cloud.allocations(job)[0].slices[0].node_id, []).append(job)
    for _, (_, leaves) in sorted(by_node.items()):
        cloud.stop(leaves)
    cloud.go(HOUR_US)
    left = [job for _, (job, _) in sorted(by_node.items())]
    assert {cloud.job(one).attempt for one in left} == {1}, "not unless the cluster says so"
    cloud.run(mark_cluster, cloud.owner, "main", labels=("moves=on",))
    cloud.go(HOUR_US)
    assert sorted(cloud.job(one).attempt for one in left) == [1, 2]
    assert len({cloud.allocations(one)[-1].slices[0].node_id for one in left}) == 1
    (told,) = [event for one in left for event in cloud.events("preemption_ordered", one.id)]
    assert (told.detail["cause"], "fits" in told.reason) == ("move", True)
    with pytest.raises(Invalid, match="label moves"):
        cloud.run(mark_cluster, cloud.owner, "main", labels=("moves=perhaps",))


def test_a_quota_of_one_kind_binds_that_kind(cloud: SmallCloud) -> None:
    cloud.run(put_quota, cloud.owner, scope=Scope.ORGANIZATION, scope_id=cloud.lab.id, kinds={"h100": 1000, "A100": 0})
    first, second = cloud.submit(LONG, **gpus(1)), cloud.submit(LONG, **gpus(1))
    assert [cloud.job(one).state for one in (first, second)] == [JobState.STARTING, JobState.QUEUED]
    told = cloud.story(second)["waiting"]
    assert (told["reason"], told["quota"]["meter"]) == ("quota", "gpu:h100")
    assert "is 1 h100 GPU, 1 are held and 1 are asked for" in told["text"]
    with pytest.raises(QuotaExceeded, match="1 h100 GPU and 2 are asked for"):
        cloud.submit(LONG, resources={"gpu": "H100:2"})
    with pytest.raises(Invalid, match="kinds"):
        cloud.run(put_quota, cloud.owner, scope=Scope.ORGANIZATION, scope_id=cloud.lab.id, kinds={"A": 1, "a": 2})
