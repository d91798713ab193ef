"""What needs attention: a job that prepares for long, not one that has waited for long and was placed just now."""

from __future__ import annotations

from small_cloud import SmallCloud

from headframe.base.quantities import HOUR_US, MINUTE_US
from headframe.control.queries_home import Attention, overview
from headframe.jobs.records import Job


def _seen(cloud: SmallCloud, job: Job) -> list[Attention]:
    told = cloud.ask(overview, cloud.anna)(cloud.inner)
    return [one for one in told.attention if one.subject == job.id]


def test_a_job_that_was_placed_late_is_not_stuck() -> None:
    cloud = SmallCloud(gpus=1)
    first = cloud.submit("run 3h")
    late = cloud.submit("prepare 1h; run 1h")
    cloud.go(2 * HOUR_US)
    assert [one.kind for one in _seen(cloud, late)] == ["job_waits"]
    cloud.go(HOUR_US + MINUTE_US)
    assert cloud.ended(first)
    assert _seen(cloud, late) == []
    cloud.go(HOUR_US // 2)
    [stuck] = _seen(cloud, late)
    assert (stuck.kind, stuck.since_us) == ("job_stuck", cloud.allocations(late)[0].held_us)
    cloud.close()
