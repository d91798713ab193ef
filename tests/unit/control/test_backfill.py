"""Time through the whole loop: who may go before whom, jobs that change their size, jobs that move."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_cloud import SmallCloud, same_when_reloaded

from headframe.base.quantities import HOUR_US, MINUTE_US, SECOND_US
from headframe.jobs.records import Job, JobState
from headframe.scheduling.order import Rules

BOTH = {"gpu": "H100:2", "cpu": 1, "memory": "1GB"}


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    made = SmallCloud(nodes=2)
    yield made
    same_when_reloaded(made)
    assert not made.complaints
    assert not made.engine.violations
    made.close()


def started_us(cloud: SmallCloud, job: Job) -> int:
    return cloud.attempts(job)[0].started_us


def test_a_short_job_goes_before_a_waiting_gang_and_a_long_one_does_not(cloud: SmallCloud) -> None:
    cloud.submit("run 30m; exit 0", max_duration="30m", resources=BOTH)
    gang = cloud.submit("run 10m; exit 0", nodes=2, max_duration="20m", resources=BOTH)
    long = cloud.submit("run 2h; exit 0", max_duration="3h")
    short = cloud.submit("run 10m; exit 0", max_duration="12m")
    assert cloud.job(gang).state == cloud.job(long).state == JobState.QUEUED
    assert cloud.job(short).state == JobState.STARTING, "it is gone before the gang's place is"
    cloud.until(lambda: cloud.ended(gang))
    assert started_us(cloud, gang) - cloud.job(gang).submitted_us < 31 * MINUTE_US
    assert started_us(cloud, long) >= started_us(cloud, gang)


def test_what_earlier_runs_took_counts_where_nobody_promised_anything(cloud: SmallCloud) -> None:
    for number in range(4):
        cloud.submit("run 5m; exit 0", name=f"fit-{number}")
    cloud.go(HOUR_US)
    cloud.submit("run 30m; exit 0", max_duration="30m", resources=BOTH)
    gang = cloud.submit("run 10m; exit 0", nodes=2, max_duration="20m", resources=BOTH)
    cloud.boot()  # what was learned is learned again from what is on record
    known = cloud.submit("run 5m; exit 0", name="fit-99")
    unknown = cloud.submit("run 5m; exit 0", name="other")
    assert cloud.job(known).state == JobState.STARTING
    assert cloud.job(unknown).state == JobState.QUEUED
    cloud.until(lambda: cloud.ended(gang))


def test_a_gang_is_not_starved_by_single_jobs_of_which_nobody_knows_how_long_they_run(cloud: SmallCloud) -> None:
    for _ in range(4):
        cloud.submit("run 20m; exit 0")
        cloud.go(5 * MINUTE_US)
    gang = cloud.submit("run 10m; exit 0", nodes=2, resources=BOTH)
    for _ in range(40):
        cloud.go(5 * MINUTE_US)
        cloud.submit("run 20m; exit 0")
    assert cloud.ended(gang)


ELASTIC = {"nodes": "1..2", "checkpoints": {"path": "ckpt"}, "resources": BOTH}


def test_an_elastic_job_shrinks_for_one_that_waits_and_grows_again(cloud: SmallCloud) -> None:
    elastic = cloud.submit("run 8h; scales; checkpoint 5m; exit 0", **ELASTIC)
    cloud.go(21 * MINUTE_US)
    assert len(cloud.allocations(elastic)[-1].slices) == 2
    waits = cloud.submit("run 30m; exit 0", resources=BOTH)
    cloud.until(cloud.is_(waits, JobState.RUNNING), MINUTE_US)
    cloud.until(cloud.is_(elastic, JobState.RUNNING), MINUTE_US)
    assert [len(one.slices) for one in cloud.allocations(elastic)] == [2, 1]
    cloud.until(lambda: cloud.ended(waits))
    cloud.go(5 * MINUTE_US)
    assert [len(one.slices) for one in cloud.allocations(elastic)] == [2, 1, 2], "nobody waits for what is free"
    causes = [event.detail["cause"] for event in cloud.events("preemption_ordered", elastic.id)]
    assert causes == ["shrink", "grow"]
    cloud.until(lambda: cloud.ended(elastic), 8 * HOUR_US)
    job = cloud.job(elastic)
    assert (job.state, job.failures, job.attempt) == (JobState.SUCCEEDED, 0, 3), "changes of size cost no retry"
    assert cloud.attempts(elastic)[1].resumed_from
    ran_us = sum(len(one.slices) * (one.released_us - one.running_us) for one in cloud.allocations(elastic))  # type: ignore[operator]
    assert ran_us < 8 * HOUR_US + 2 * 2 * 5 * MINUTE_US, "all but the work since a checkpoint is kept"


def test_an_elastic_job_does_not_flap(cloud: SmallCloud) -> None:
    elastic = cloud.submit("run 40h; scales; checkpoint 30s; exit 0", **ELASTIC)
    for _ in range(60):  # a job of two minutes every four: not worth a start of the elastic one each time
        cloud.go(4 * MINUTE_US)
        cloud.submit("run 2m; exit 0", resources=BOTH)
    assert cloud.job(elastic).attempt <= 4 * 4 + 1, "at most one change every quarter of an hour"


def test_nobody_grows_shortly_before_the_end_or_without_checkpoints(cloud: SmallCloud) -> None:
    blocker = cloud.submit("run 20m; exit 0", resources=BOTH)
    plain = cloud.submit("run 3h; scales; exit 0", nodes="1..2", resources=BOTH)
    cloud.until(lambda: cloud.ended(blocker))
    cloud.go(HOUR_US)
    assert [len(one.slices) for one in cloud.allocations(plain)] == [1]
    cloud.stop(plain)
    cloud.go(MINUTE_US)
    blocker = cloud.submit("run 20m; exit 0", resources=BOTH)
    nearly = cloud.submit("run 22m; scales; checkpoint 1m; exit 0", max_duration="24m", **ELASTIC)
    cloud.until(lambda: cloud.ended(blocker, nearly))
    assert [len(one.slices) for one in cloud.allocations(nearly)] == [1]


def test_jobs_move_to_make_one_place_of_two_halves_only_where_the_rules_say_so(cloud: SmallCloud) -> None:
    jobs = [cloud.submit("run 20h; checkpoint 1m; exit 0", checkpoints={"path": "ckpt"}) for _ in range(4)]
    cloud.go(SECOND_US)
    by_node: dict[str, list[Job]] = {}
    for job in jobs:
        by_node.setdefault(cloud.allocations(job)[0].slices[0].node_id, []).append(job)
    for _, (_, leaves) in sorted(by_node.items()):
        cloud.stop(leaves)
    cloud.go(35 * MINUTE_US)
    waits = cloud.submit("run 1h; exit 0", resources=BOTH)
    cloud.go(MINUTE_US)
    assert cloud.job(waits).state == JobState.QUEUED, "one GPU is free on each of two nodes"
    cloud.loop._rules = cloud.world.rules = Rules(moves=True)
    cloud.submit("run 1s; exit 0", resources={"gpu": None})
    cloud.until(cloud.is_(waits, JobState.RUNNING), 2 * MINUTE_US)
    moved = [job for _, (job, _) in sorted(by_node.items()) if cloud.job(job).attempt == 2]
    assert len(moved) == 1
    cloud.until(cloud.is_(moved[0], JobState.RUNNING), 2 * MINUTE_US)
    assert (cloud.job(moved[0]).failures, cloud.attempts(moved[0])[1].resumed_from != "") == (0, True)
    (told,) = cloud.events("preemption_ordered", moved[0].id)
    assert (told.detail["cause"], waits.id in told.reason) == ("move", True)
