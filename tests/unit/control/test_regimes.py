"""Clusters that are scheduled by rules of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_cloud import SmallCloud

from headframe.base.errors import Invalid
from headframe.control.commands_fleet import mark_cluster, open_cluster
from headframe.control.regimes import regimes
from headframe.fleet.records import Cluster, Region
from headframe.jobs.records import JobState

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
