"""Which cluster a job gets where several have room: by price, by its list, by its data; and when it waits for one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from small_cloud import SmallCloud, same_when_reloaded

from headframe.base.errors import Impossible, Invalid
from headframe.base.quantities import HOUR_US, MINUTE_US
from headframe.control.commands_access import create_dataset
from headframe.control.commands_clusters import drain_cluster
from headframe.control.commands_fleet import mark_cluster, mark_node
from headframe.control.commands_prices import set_price
from headframe.control.queries import plan
from headframe.fleet.records import Cluster
from headframe.jobs.records import Job, JobState

BOTH = {"gpu": "H100:2"}


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    """Three clusters: main (3.60 USD for a GPU-hour), east (1.80 USD), west (7.20 USD)."""
    cloud = SmallCloud(more=("east", "west"))
    cloud.run(set_price, cloud.owner, meter="gpu:H100", amount="1.80 USD", region="of-east")
    cloud.run(set_price, cloud.owner, meter="gpu:H100", amount="7.20 USD", region="of-west")
    yield cloud
    assert [engine.violations for engine in cloud.engines.values()] == [[], [], []]
    assert cloud.complaints == []
    cloud.close()


def where(cloud: SmallCloud, job: Job) -> str:
    name: str = cloud.world.all(Cluster)[cloud.allocations(job)[-1].cluster_id].name
    return name


def told(cloud: SmallCloud, job: Job) -> str:
    return next(one.reason for one in cloud.events("job_starting", job.id))


def test_the_cheapest_with_room_comes_first_and_says_so(cloud: SmallCloud) -> None:
    jobs = [cloud.submit("run 3h; exit 0", resources=BOTH) for _ in range(3)]
    cloud.settle()
    assert [where(cloud, job) for job in jobs] == ["east", "main", "west"]
    assert told(cloud, jobs[0]).endswith(" It is in east: the cheapest.")
    assert told(cloud, jobs[1]).endswith(" It is in main: what it prefers (east) has no room for it now.")


def test_listed_clusters_come_in_their_order(cloud: SmallCloud) -> None:
    jobs = [
        cloud.submit("run 3h; exit 0", clusters=["west", "of-north", "any"], prefer="listed", resources=BOTH)
        for _ in range(2)
    ]
    cloud.settle()
    assert [where(cloud, job) for job in jobs] == ["west", "east"], "of-north is nowhere; any is all the rest"
    assert told(cloud, jobs[0]).endswith(" It is in west: the first of its list.")


def test_a_better_cluster_that_is_drained_is_not_called_full(cloud: SmallCloud) -> None:
    cloud.run(drain_cluster, cloud.owner, "east")
    job = cloud.submit("run 3h; exit 0", resources=BOTH)
    cloud.settle()
    assert told(cloud, job).endswith(" It is in main: what it prefers (east) takes no new work now.")


def test_labels_of_clusters_choose_as_those_of_nodes_do(cloud: SmallCloud) -> None:
    cloud.run(mark_cluster, cloud.owner, "west", labels=("tier=gold",))
    cloud.run(mark_node, cloud.owner, "nod_0", labels=("disk=nvme",))
    gold, quick = cloud.submit(clusters=["tier=gold"]), cloud.submit(clusters=["disk=nvme"])
    cloud.settle()
    assert [where(cloud, job) for job in (gold, quick)] == ["west", "main"]


def test_data_is_near_before_it_is_cheap(cloud: SmallCloud) -> None:
    near = push(cloud, "wiki", ("of-west",))
    far = cloud.submit("run 3h; exit 0", datasets={"wiki": "wiki@1"}, resources=BOTH)
    again = cloud.submit("run 3h; exit 0", datasets={"wiki": "wiki@1"}, resources=BOTH)
    cloud.settle()
    assert near.lives_in == ("of-west",)
    assert [where(cloud, job) for job in (far, again)] == ["west", "east"]
    assert told(cloud, far).endswith(" It is in west: its data is near.")


def test_data_that_stays_is_read_nowhere_else(cloud: SmallCloud) -> None:
    push(cloud, "scans", ("main",), stays=True)
    jobs = [cloud.submit("run 1h; exit 0", datasets={"scans": "scans@1"}, resources=BOTH) for _ in range(2)]
    cloud.go(MINUTE_US)
    assert where(cloud, jobs[0]) == "main"
    assert cloud.job(jobs[1]).state == JobState.QUEUED
    found = {one["cluster"]: one["verdict"] for one in cloud.story(jobs[1])["waiting"]["clusters"]}
    assert found == {"main": "full", "east": "no_data", "west": "no_data"}
    with pytest.raises(Impossible):
        cloud.submit(datasets={"scans": "scans@1"}, clusters=["east"])


def test_data_lives_where_there_is_something(cloud: SmallCloud) -> None:
    with pytest.raises(Invalid) as wrong:
        push(cloud, "wiki", ("nort",))
    assert "of-east" in wrong.value.allowed
    with pytest.raises(Invalid):
        push(cloud, "wiki", (), stays=True)


def push(cloud: SmallCloud, name: str, lives_in: tuple[str, ...], stays: bool = False) -> Any:
    return cloud.run(
        create_dataset, cloud.anna, name=name, manifest="0" * 64, size_bytes=1, files=1, lives_in=lives_in, stays=stays
    )


def test_a_job_waits_for_a_better_cluster_that_is_soon_free(cloud: SmallCloud) -> None:
    first = cloud.submit("run 5m; exit 0", clusters=["east"], max_duration="5m", resources=BOTH)
    cloud.until(cloud.is_(first, JobState.RUNNING))
    waits = cloud.submit("run 10m; exit 0", spill_after="10m", resources=BOTH)
    cloud.settle()
    assert cloud.job(waits).state == JobState.QUEUED
    answer = cloud.story(waits)["waiting"]
    assert (answer["reason"], answer["starts_from"]) == ("better_cluster", "better_cluster")
    assert "it prefers east" in answer["text"]
    cloud.until(lambda: cloud.ended(waits))
    assert where(cloud, waits) == "east"
    same_when_reloaded(cloud)


def test_a_job_does_not_wait_in_vain(cloud: SmallCloud) -> None:
    """The better cluster is expected to be free only after the job would have given up waiting for it."""
    first = cloud.submit("run 1h; exit 0", clusters=["east"], max_duration="1h", resources=BOTH)
    cloud.until(cloud.is_(first, JobState.RUNNING))
    job = cloud.submit("run 10m; exit 0", spill_after="10m", resources=BOTH)
    cloud.settle()
    assert where(cloud, job) == "main"


def test_what_was_expected_and_did_not_come_is_waited_for_no_longer(cloud: SmallCloud) -> None:
    """The better cluster's job lasts longer than its max_duration says, as its engine cannot be reached."""
    first = cloud.submit("stubborn; run 3h; exit 0", clusters=["east"], max_duration="5m", resources=BOTH)
    cloud.until(cloud.is_(first, JobState.RUNNING))
    job = cloud.submit("run 10m; exit 0", spill_after="10m", resources=BOTH)
    cloud.settle()
    assert cloud.job(job).state == JobState.QUEUED
    cloud.engines["clu_east"].set_reachable(False)
    cloud.go(11 * MINUTE_US)
    assert where(cloud, job) == "main"


def test_plan_compares_all_clusters(cloud: SmallCloud) -> None:
    cloud.run(drain_cluster, cloud.owner, "east", reason="new switches")
    answer = cloud.ask(plan, cloud.anna, cloud.document("true", resources=BOTH), project="default")
    found = [(one["cluster"], one["verdict"], one["per_hour_nano"]) for one in answer["clusters"]]
    usd = 1_000_000_000
    assert found == [
        ("main", "chosen", 7_200_000_000), ("east", "drained", 3_600_000_000), ("west", "free", 14_400_000_000)
    ]  # fmt: skip
    assert answer["per_hour_nano"] == 72 * usd // 10
    assert answer["clusters"][1]["text"] == "It takes no new work: new switches."


def test_a_checkpoint_is_read_where_it_can_be_seen(cloud: SmallCloud) -> None:
    saves = {"checkpoints": {"path": "ckpt"}, "retry": {"on": ["error"], "max": 3}}
    job = cloud.submit("checkpoint 1m; run 10m; exit 1 | run 10m; exit 0", **saves, resources=BOTH)
    cloud.until(lambda: bool(cloud.events("allocation_released", job.id)))
    assert where(cloud, job) == "east"
    cloud.run(drain_cluster, cloud.owner, "east")
    cloud.go(10 * MINUTE_US)
    assert cloud.job(job).state == JobState.QUEUED
    found = {one["cluster"]: one["verdict"] for one in cloud.story(job)["waiting"]["clusters"]}
    assert found == {"east": "drained", "main": "no_checkpoint", "west": "no_checkpoint"}
    for name in ("east", "west"):
        cloud.run(mark_cluster, cloud.owner, name, labels=("storage=nfs-1",))
    cloud.until(lambda: cloud.ended(job), limit_us=HOUR_US)
    assert where(cloud, job) == "west"


def test_a_better_cluster_under_other_rules_comes_first_all_the_same(cloud: SmallCloud) -> None:
    cloud.run(mark_cluster, cloud.owner, "east", labels=("order=shortest-first",))
    jobs = [cloud.submit("run 1h; exit 0", resources=BOTH) for _ in range(2)]
    cloud.settle()
    assert [where(cloud, job) for job in jobs] == ["east", "main"]


def test_a_job_is_not_left_for_ever_to_rules_that_do_not_start_it(cloud: SmallCloud) -> None:
    """The better cluster's strict order keeps it for a larger job; after a minute another cluster will do."""
    cloud.run(mark_cluster, cloud.owner, "east", labels=("order=fifo",))
    held = cloud.submit("run 3h; exit 0", clusters=["east"])
    large = cloud.submit("run 3h; exit 0", clusters=["east"], resources=BOTH)
    cloud.settle()
    assert where(cloud, held) == "east"
    job = cloud.submit("run 1h; exit 0")
    cloud.settle()
    assert [cloud.job(one).state for one in (large, job)] == [JobState.QUEUED] * 2
    cloud.go(2 * MINUTE_US)
    assert where(cloud, job) == "main"
