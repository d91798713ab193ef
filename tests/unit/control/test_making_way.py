"""Making way through the whole loop: the warning, the place that is kept, the way back, and what both stories tell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_cloud import SmallCloud, same_when_reloaded

from headframe.base.errors import QuotaExceeded
from headframe.base.quantities import MINUTE_US, SECOND_US
from headframe.control.commands_access import put_quota
from headframe.jobs.records import JobState
from headframe.tenants.records import Scope

LONG = "run 3600s; exit 0"


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    cloud = SmallCloud(gpus=2)
    yield cloud
    cloud.close()


def gpus(count: int) -> dict[str, object]:
    return {"resources": {"gpu": count, "cpu": 1, "memory": "1GB"}}


def running(cloud: SmallCloud, run: str = LONG, **more: object):
    job = cloud.submit(run, **more)
    cloud.until(cloud.is_(job, JobState.RUNNING))
    return job


def test_a_spot_job_is_warned_makes_way_and_comes_back(cloud: SmallCloud) -> None:
    spot = running(cloud, purchase="spot", warn_before_stop="20s", **gpus(2))
    mine = cloud.submit("run 30s; exit 0", **gpus(2))
    cloud.settle()
    assert cloud.job(spot).state == JobState.RUNNING, "it is given its warning time"
    assert cloud.job(spot).yields_to == mine.id
    assert cloud.job(mine).claim, "and its place is kept"
    same_when_reloaded(cloud)
    asked_us = cloud.now_us
    cloud.until(cloud.is_(mine, JobState.RUNNING))
    assert cloud.now_us - asked_us >= 20 * SECOND_US
    assert cloud.job(spot).state == JobState.QUEUED
    assert (cloud.job(spot).failures, cloud.job(spot).reason) == (0, "retry_after_preemption")
    cloud.until(lambda: cloud.ended(mine))
    cloud.until(cloud.is_(spot, JobState.RUNNING))
    told = [one.reason for one in cloud.events("preemption_ordered", spot.id)]
    assert len(told) == 1
    assert mine.id in told[0]
    assert "on-demand comes before spot" in told[0]
    (kept,) = cloud.events("place_kept", mine.id)
    assert "1 job makes way" in kept.reason
    ends = [one.outcome for one in cloud.attempts(cloud.job(spot))]
    assert ends == ["preemption", ""]


def test_nobody_else_takes_the_place_that_is_kept(cloud: SmallCloud) -> None:
    first = running(cloud, purchase="spot", warn_before_stop="60s", **gpus(1))
    second = running(cloud, purchase="spot", warn_before_stop="5s", **gpus(1))
    both = cloud.submit(LONG, **gpus(2))
    cloud.go(30 * SECOND_US)
    assert cloud.job(second).state == JobState.QUEUED, "its place is free, but it is kept"
    late = cloud.submit("run 1s; exit 0", purchase="filler", **gpus(1))
    cloud.go(10 * SECOND_US)
    assert cloud.job(late).state == JobState.QUEUED
    cloud.until(cloud.is_(both, JobState.RUNNING))
    assert cloud.job(first).state == JobState.QUEUED


def test_who_need_not_make_way_any_more_stays(cloud: SmallCloud) -> None:
    spot = running(cloud, purchase="spot", warn_before_stop="60s", **gpus(2))
    mine = cloud.submit(LONG, **gpus(1))
    cloud.settle()
    assert cloud.job(spot).yields_to == mine.id
    cloud.stop(mine)
    cloud.go(2 * MINUTE_US)
    assert cloud.job(spot).state == JobState.RUNNING
    assert cloud.job(spot).yields_to == ""
    assert cloud.events("preemption_revoked", spot.id)


def test_a_place_is_kept_over_the_death_of_the_program(cloud: SmallCloud) -> None:
    spot = running(cloud, purchase="spot", warn_before_stop="30s", **gpus(2))
    mine = cloud.submit(LONG, **gpus(2))
    cloud.settle()
    cloud.boot()
    cloud.go(10 * SECOND_US)
    assert cloud.job(spot).yields_to == mine.id
    cloud.until(cloud.is_(mine, JobState.RUNNING))


def test_a_member_who_stops_a_job_on_its_way_out_stops_it_for_good(cloud: SmallCloud) -> None:
    spot = running(cloud, "run 3600s; exit 0; stubborn", purchase="spot", **gpus(2))
    cloud.submit(LONG, **gpus(2))
    cloud.settle()
    assert cloud.job(spot).state == JobState.STOPPING
    cloud.stop(spot)
    cloud.until(lambda: cloud.ended(spot))
    assert cloud.job(spot).state == JobState.STOPPED


def test_an_owner_takes_back_its_own_after_a_while(cloud: SmallCloud) -> None:
    own = {"scope": Scope.ORGANIZATION, "scope_id": cloud.owner.organization_id}
    cloud.run(put_quota, cloud.owner, guaranteed={"gpu_milli": 1000}, **own)
    older = running(cloud, **gpus(1))
    cloud.go(MINUTE_US)
    younger = running(cloud, **gpus(1))
    same_when_reloaded(cloud)
    mine = cloud.submit(LONG, caller=cloud.owner, **gpus(1))
    more = cloud.submit(LONG, caller=cloud.owner, **gpus(1))
    cloud.go(20 * SECOND_US)
    assert cloud.job(younger).state == JobState.RUNNING, "a short gap might have filled by itself"
    cloud.until(cloud.is_(mine, JobState.RUNNING))
    assert cloud.job(younger).state == JobState.QUEUED, "the least work is lost"
    told = cloud.events("preemption_ordered", younger.id)[0].reason
    assert "a job of another organization" in told
    assert mine.id not in told
    assert "guaranteed" in told
    cloud.go(5 * MINUTE_US)
    assert cloud.job(older).state == JobState.RUNNING
    assert cloud.job(more).state == JobState.QUEUED, "it would be borrowed"


def test_what_may_never_be_held_is_refused_at_once(cloud: SmallCloud) -> None:
    own = {"scope": Scope.PROJECT, "scope_id": cloud.project().id}
    cloud.run(put_quota, cloud.owner, guaranteed={"gpu_milli": 1000}, borrow={"gpu_milli": 0}, **own)
    with pytest.raises(QuotaExceeded, match="may hold 1 GPU with what it may borrow"):
        cloud.submit(LONG, **gpus(2))
    first, second = cloud.submit("run 5s; exit 0", **gpus(1)), cloud.submit("run 5s; exit 0", **gpus(1))
    cloud.until(cloud.is_(first, JobState.RUNNING))
    assert cloud.job(second).state == JobState.QUEUED
    assert "may borrow" in cloud.story(second)["waiting"]["text"]
    cloud.until(lambda: cloud.ended(first, second))
